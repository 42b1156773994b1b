"""Does attention tell the truth? The views against the embedded subject, whose truth is known."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import spearmanr
from tqdm import tqdm

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.evaluation.bootstrap import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.evaluation.localisation import half_share, localisation
from neuroadapter_jax.evaluation.metrics import pixel_correlation, ssim
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.ibbi.perturbation import matched_sets, silence
from neuroadapter_jax.ibbi.views import contrast
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

# Area (group of areas) -> the category of things that drives it in the simulated subject.
CATEGORY_OF_AREA = {
    "Face": "face",
    "Body": "body",
    "VTC-animal": "animal",
    "VTC-food": "food",
    "Word": "word",
    "LO": "object",
}
RETINOTOPIC = ("V1", "V2", "V3", "V4")

Draw = Callable[[Int[np.ndarray, " b"], Bool[np.ndarray, "b p"]], UInt8[np.ndarray, "b y x c"]]


def category_masks(
    truth: Mapping[str, np.ndarray], image_ids: Int[np.ndarray, " b"]
) -> dict[str, Bool[np.ndarray, "b y x"]]:
    """Pixels that show a thing of each category; `truth` is from `load_truth`."""
    masks, slots = truth["masks"][image_ids], truth["mask_slots"][image_ids]
    categories = truth["categories"][image_ids]
    shown = np.take_along_axis(categories, np.maximum(slots, 0), axis=1)
    shown = np.where(slots >= 0, shown, -1)
    return {
        str(name): (masks & (shown == i)[:, :, None, None]).any(axis=1)
        for i, name in enumerate(truth["category_names"])
    }


def maps_of(views: xarray.Dataset) -> dict[str, Float[np.ndarray, "b r y x"]]:
    """One map per sample and area from the views of all steps, in every way that is compared.

    "attention" (or the views' reduction) is the mean of the image view over steps, "... contrast"
    that relative to its mean over samples (see `contrast`), and "effect" the mean of the effect
    view over the shown steps, where it was measured.
    """
    name = views.attrs["reduction"]
    mean = views["image_view"].mean("step").values
    maps = {name: mean, f"{name}, contrast": contrast(mean)}
    if "effect_view" in views:
        maps["effect"] = views["effect_view"].mean("shown").values
        maps["effect, contrast"] = contrast(maps["effect"])
    return maps


def localisation_tables(
    views: xarray.Dataset, masks: Mapping[str, Bool[np.ndarray, "b y x"]], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """`localisation` of every way of making a map and every category area.

    Args:
        views: of many images, with areas named as in `CATEGORY_OF_AREA`.
        masks: from `category_masks`, of the same images.
        seed: of permutations and bootstrap.

    Returns:
        way -> area -> scores, and way -> "all areas": scores pooled over areas.
    """
    names = list(views["area"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        own, everywhere = {}, []
        for area, category in CATEGORY_OF_AREA.items():
            of_area = maps[:, names.index(area)] if area in names else None
            if of_area is None or not np.isfinite(of_area).all():
                continue
            own[area] = localisation(of_area, masks[category], seed=seed)
            everywhere.append((of_area, masks[category]))
        pooled = (np.concatenate(x) for x in zip(*everywhere, strict=True))
        own["all areas"] = localisation(*pooled, seed=seed)
        result[way] = own
    return result


def retinotopy_tables(views: xarray.Dataset, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Share of a hemisphere's visual areas' maps in the half of the image that they see.

    The left hemisphere sees the right half. Areas are named "lh.V1" and so on; 0.5 is chance.
    """
    names = list(views["area"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        result[way] = {
            f"{h}.{area}": half_share(maps[:, names.index(f"{h}.{area}")], half, seed)
            for area in RETINOTOPIC
            for h, half in (("lh", "right"), ("rh", "left"))
            if f"{h}.{area}" in names and np.isfinite(maps[:, names.index(f"{h}.{area}")]).all()
        }
    return result


def planted_influence(
    truth: Mapping[str, np.ndarray], regions: Parcellation
) -> Float[np.ndarray, " p"]:
    """sum over a region's vertices of (signal sd / noise sd)^2, as the subject was made."""
    power = np.square(truth["signal_sd"] / truth["noise_sd"])
    return np.array([power[regions.cortex_indices(i)].sum() for i in range(len(regions))])


def rank_agreement(
    brain_view: Float[np.ndarray, "b p"],
    effect: Float[np.ndarray, "b p"],
    influence: Float[np.ndarray, " p"],
    seed: int = 0,
) -> dict[str, Any]:
    """Spearman's correlation over regions, per image and of the means over images.

    Args:
        brain_view: mean over steps.
        effect: of dropping each region alone, see `NeuroAdapterPipeline.effects`.
        influence: from `planted_influence`.
        seed: of the bootstrap.
    """

    def per_image(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        rows = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
        mean = spearmanr(a.mean(axis=0), b.mean(axis=0)).statistic
        return bootstrap_interval(np.array(rows), seed) | {"of_means": float(mean)}

    planted = np.broadcast_to(influence, effect.shape)
    return {
        "brain view and effect": per_image(brain_view, effect),
        "brain view and planted": per_image(brain_view, planted),
        "effect and planted": per_image(effect, planted),
    }


def silencing_table(
    draw: Draw,
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    category_names: list[str],
    areas: Mapping[str, Bool[np.ndarray, " p"]],
    snr: Float[np.ndarray, " p"],
    reader: SceneReader,
    *,
    num_random: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """How often silencing a category's area changes a drawn thing that was right.

    Of the things whose category the reader finds in the intact drawing: the share that it no
    longer finds with the area's tokens dropped, same noise, beside matched random sets.

    Args:
        draw: (rows of the images, keep [b, p]) -> drawings.
        intact: drawings with all tokens.
        categories: true category per slot, -1 for empty.
        category_names: name of each index.
        areas: name -> regions, named as in `CATEGORY_OF_AREA`.
        snr: of each region, for `matched_sets`.
        reader: the scene reader.
        num_random: random sets per area.
        seed: of the random sets and the bootstrap.
        progress: show a bar.
    """
    right = (read_scenes(reader, intact) == categories) & (categories >= 0)
    chosen = {a: c for a, c in CATEGORY_OF_AREA.items() if a in areas and areas[a].any()}
    result, pooled = {}, []
    bar = tqdm(total=len(chosen) * (1 + num_random), unit="drawing", disable=not progress)
    for area, category in chosen.items():
        index = category_names.index(category)
        wanted = right & (categories == index)
        rows = np.flatnonzero(wanted.any(axis=1))

        def lost(members, rows=rows, wanted=wanted, index=index):
            drawn = draw(rows, silence(members, len(rows)))
            bar.update(1)
            return (wanted[rows] & (read_scenes(reader, drawn) != index)).sum(axis=1)

        own = lost(areas[area])
        random = np.mean(
            [lost(x) for x in matched_sets(areas[area], snr, num_random, seed)], axis=0
        )
        number = wanted[rows].sum(axis=1)
        pooled.append((own, random, number))
        result[area] = _losses(own, random, number, seed) | {"regions": int(areas[area].sum())}
    bar.close()
    if pooled:
        result["all areas"] = _losses(*(np.concatenate(x) for x in zip(*pooled, strict=True)), seed)
    return result


def _losses(own: np.ndarray, random: np.ndarray, number: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "things": int(number.sum()),
        "changed": bootstrap_ratio(own, number, seed),
        "changed_by_random_sets": bootstrap_ratio(random, number, seed),
        "over_random": bootstrap_ratio(own, random, seed) if random.sum() else {"value": None},
    }


def structure_and_category(
    seen: UInt8[np.ndarray, "b y x c"],
    drawings: Mapping[str, UInt8[np.ndarray, "b y x c"]],
    categories: Int[np.ndarray, "b slot"],
    reader: SceneReader,
    seed: int = 0,
) -> dict[str, Any]:
    """What is left of structure and of category under each silencing, "intact" among them.

    Args:
        seen: stimuli.
        drawings: name -> drawings; "intact" is the one to which the others are paired.
        categories: true category per slot, -1 for empty.
        reader: the scene reader.
        seed: of the bootstrap.

    Returns:
        name -> pixel_correlation, ssim, semantic_recall, each also as "left": the value over the
        intact one's.
    """

    def per_image(drawn: np.ndarray) -> dict[str, np.ndarray]:
        hits = ((read_scenes(reader, drawn) == categories) & (categories >= 0)).sum(axis=1)
        return {
            "pixel_correlation": pixel_correlation(seen, drawn),
            "ssim": ssim(seen, drawn),
            "semantic_recall": hits / np.maximum((categories >= 0).sum(axis=1), 1),
        }

    whole = per_image(drawings["intact"])
    return {
        name: {
            score: bootstrap_interval(values, seed)
            | {"left": bootstrap_ratio(values, whole[score], seed)}
            for score, values in per_image(drawn).items()
        }
        for name, drawn in drawings.items()
    }


def region_effects(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    batch_size: int,
    seed: int,
    sampling: Mapping[str, Any],
) -> Float[np.ndarray, "b p"]:
    """What dropping each region alone changes, at the step in the middle of a drawing.

    Args:
        pipeline: the model.
        fmri: responses; the number of images is a multiple of the batch size.
        batch_size: images at once.
        seed: of the noise.
        sampling: options of `NeuroAdapterPipeline.interpret`.
    """
    count = len(pipeline.regions)
    alone, none = np.eye(count, dtype=bool), np.zeros((1, count), np.float32)
    step = sampling["num_steps"] // 2
    found = []
    for first in tqdm(range(0, len(fmri), batch_size), unit="batch", desc="regions"):
        part = fmri[first : first + batch_size]
        numbers = np.arange(first, first + len(part))
        drawn = pipeline.interpret(
            part, none, shown=(step,), seed=seed, sample_ids=numbers, **sampling
        )
        changes = pipeline.effects(part, drawn.noisy[0], int(drawn.timesteps[step]), alone)
        found.append(changes.sum(axis=(2, 3)))
    return np.concatenate(found)


def tables(results: Mapping[str, Any]) -> str:
    """Everything of launch/attention_truth.py's results as Markdown tables."""

    def cell(entry: Mapping[str, Any] | None, form: str = ".2f") -> str:
        if entry is None or entry["value"] is None:
            return "–"
        low, high = entry["interval"]
        return f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]"

    def table(head: list[str], rows: list[list[str]]) -> str:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    ways = results["localisation"]
    pooled = [
        [
            way,
            cell(own["all areas"]["pointing_over_chance"]),
            cell(own["all areas"]["auc"], ".3f"),
            cell(own["all areas"]["mean_map"]["pointing_over_chance"]),
            cell(own["all areas"]["mean_map"]["auc"], ".3f"),
            cell(own["all areas"]["permuted"]["pointing_over_chance"]),
            cell(own["all areas"]["permuted"]["auc"], ".3f"),
        ]
        for way, own in ways.items()
    ]
    per_area = [
        [
            area,
            CATEGORY_OF_AREA[area],
            str(results["regions"][area]),
            str(scores["num_images"]),
            f"{scores['chance']:.3f}",
            cell(scores["pointing"]),
            cell(scores["pointing_over_chance"], ".1f"),
            cell(scores["auc"], ".3f"),
        ]
        for area, scores in ways["attention"].items()
        if area in CATEGORY_OF_AREA
    ]
    retinotopy = [
        [area, *(cell(own[area], ".3f") for own in results["retinotopy"].values())]
        for area in results["retinotopy"]["attention"]
    ]
    ranks = [
        [reduction, pair, cell(entry), f"{entry['of_means']:.2f}"]
        for reduction, own in results["ranks"].items()
        for pair, entry in own.items()
    ]
    silencing = [
        [
            area,
            str(entry.get("regions", "")),
            str(entry["things"]),
            cell(entry["changed"]),
            cell(entry["changed_by_random_sets"]),
            cell(entry["over_random"], ".1f") if entry["over_random"]["value"] else "–",
        ]
        for area, entry in results["silencing"].items()
    ]
    left = [
        [name, *(f"{cell(entry)}, left {cell(entry['left'])}" for entry in own.values())]
        for name, own in results["structure and category"].items()
    ]
    pointing = ["pointing / chance", "AUC"]
    return "\n".join(
        [
            f"{results['num_images']} test images; [95 % intervals over images].\n",
            "Where the maps of the category areas look, pooled over areas:\n",
            table(
                ["map", *pointing]
                + [f"{x}, mean map" for x in pointing]
                + [f"{x}, permuted" for x in pointing],
                pooled,
            ),
            "The paper's reduction by area:\n",
            table(
                ["area", "category", "regions", "images", "chance", "pointing", *pointing],
                per_area,
            ),
            "Share of a map in the half of the image that the hemisphere sees (chance 0.5):\n",
            table(["area", *results["retinotopy"]], retinotopy),
            "Spearman's correlation over regions, per image and of the means:\n",
            table(["reduction", "between", "per image", "of means"], ranks),
            "Things that were drawn right and are not any more, with an area silenced:\n",
            table(["silenced", "regions", "things", "changed", "random sets", "ratio"], silencing),
            "What silencing leaves:\n",
            table(["silenced", "pixel correlation", "SSIM", "semantic recall"], left),
        ]
    )
