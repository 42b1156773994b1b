"""Does attention tell the truth? The views against the simulated subject, whose truth is known."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Bool, Float, Int, UInt8
from scipy.stats import spearmanr
from tqdm import tqdm

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.files import write_json
from neuroadapter_jax.ibbi.perturbation import Perturbation, matched_sets
from neuroadapter_jax.ibbi.views import contrast
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.studies.causal_tests import MEASURES, Reconstruct
from neuroadapter_jax.studies.localisation import half_share, localisation

# Area (group of areas) -> the category of things that drives it in the simulated subject.
CATEGORY_OF_ROI = {
    "Face": "face",
    "Body": "body",
    "VTC-animal": "animal",
    "VTC-food": "food",
    "Word": "word",
    "LO": "object",
}
RETINOTOPIC = ("V1", "V2", "V3", "V4")


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
        views: of many images, with areas named as in `CATEGORY_OF_ROI`.
        masks: from `category_masks`, of the same images.
        seed: of permutations and bootstrap.

    Returns:
        way -> area -> scores, and way -> "all areas": scores pooled over areas.
    """
    names = list(views["roi"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        own, everywhere = {}, []
        for roi, category in CATEGORY_OF_ROI.items():
            of_roi = maps[:, names.index(roi)] if roi in names else None
            if of_roi is None or not np.isfinite(of_roi).all():
                continue
            own[roi] = localisation(of_roi, masks[category], seed=seed)
            everywhere.append((of_roi, masks[category]))
        pooled = (np.concatenate(x) for x in zip(*everywhere, strict=True))
        own["all areas"] = localisation(*pooled, seed=seed)
        result[way] = own
    return result


def retinotopy_tables(views: xarray.Dataset, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Share of a hemisphere's visual areas' maps in the half of the image that they see.

    The left hemisphere sees the right half. Areas are named "lh.V1" and so on; 0.5 is chance.
    """
    names = list(views["roi"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        result[way] = {
            f"{h}.{roi}": half_share(maps[:, names.index(f"{h}.{roi}")], half, seed)
            for roi in RETINOTOPIC
            for h, half in (("lh", "right"), ("rh", "left"))
            if f"{h}.{roi}" in names and np.isfinite(maps[:, names.index(f"{h}.{roi}")]).all()
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
    effects: Mapping[str, Float[np.ndarray, "b p"]],
    influence: Float[np.ndarray, " p"],
    seed: int = 0,
) -> dict[str, Any]:
    """Spearman's correlation over regions, per image and of the means over images.

    Args:
        brain_view: mean over steps.
        effects: name -> from `region_effects`.
        influence: from `planted_influence`.
        seed: of the bootstrap.

    Returns:
        "brain view and NAME", "brain view and planted", "NAME and planted" -> value, interval and
        ``of_means``.
    """

    def per_image(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        rows = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
        mean = spearmanr(a.mean(axis=0), b.mean(axis=0)).statistic
        return bootstrap_interval(np.array(rows), seed) | {"of_means": float(mean)}

    planted = np.broadcast_to(influence, brain_view.shape)
    return {
        **{f"brain view and {name}": per_image(brain_view, x) for name, x in effects.items()},
        "brain view and planted": per_image(brain_view, planted),
        **{f"{name} and planted": per_image(x, planted) for name, x in effects.items()},
    }


def category_table(
    reconstruct: Reconstruct,
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    category_names: list[str],
    rois: Mapping[str, Bool[np.ndarray, " p"]],
    snr: Float[np.ndarray, " p"],
    reader: SceneReader,
    perturbation: Perturbation = "silence",
    *,
    num_random: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """How often perturbing a category's area changes a drawn thing that was right.

    Of the things whose category the reader finds in the intact drawing: the share that it no
    longer finds with the area's regions perturbed, same noise, beside matched random sets. An area
    whose category was found right in no image has no row.

    Args:
        reconstruct: see `causal_tests.perturbed_reconstructions`; rows are those of the next two.
        intact: drawings with nothing perturbed.
        categories: true category per slot, -1 for empty.
        category_names: name of each index.
        rois: name -> regions, named as in `CATEGORY_OF_ROI`.
        snr: of each region, for `matched_sets`.
        reader: the scene reader.
        perturbation: see `ibbi.perturbation.perturb`.
        num_random: random sets per area.
        seed: of the random sets and the bootstrap.
    """
    right = (read_scenes(reader, intact) == categories) & (categories >= 0)
    tests = []
    for roi, category in CATEGORY_OF_ROI.items():
        if roi in rois and rois[roi].any():
            index = category_names.index(category)
            wanted = right & (categories == index)
            shown = np.flatnonzero(wanted.any(axis=1))
            region_sets = [rois[roi], *matched_sets(rois[roi], snr, num_random, seed)]
            if len(shown):
                tests.append((roi, index, wanted, shown, region_sets))
    if not tests:
        return {}
    # All drawings of all areas in one go, so that only the last batch is filled up.
    rows = [rows for *_, rows, region_sets in tests for _ in region_sets]
    members = [np.tile(x, (len(rows), 1)) for *_, rows, region_sets in tests for x in region_sets]
    read = read_scenes(
        reader, reconstruct(np.concatenate(rows), np.concatenate(members), perturbation)
    )
    read = iter(np.split(read, np.cumsum([len(x) for x in rows])[:-1]))
    result, pooled = {}, []
    for roi, index, wanted, shown, region_sets in tests:
        own, *random = ((wanted[shown] & (next(read) != index)).sum(axis=1) for _ in region_sets)
        number = wanted[shown].sum(axis=1)
        pooled.append((own, np.mean(random, axis=0), number))
        result[roi] = _losses(*pooled[-1], seed) | {"regions": int(rois[roi].sum())}
    result["all areas"] = _losses(*(np.concatenate(x) for x in zip(*pooled, strict=True)), seed)
    return result


def _losses(own: np.ndarray, random: np.ndarray, number: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "objects": int(number.sum()),
        "changed": bootstrap_ratio(own, number, seed),
        "changed_by_random_sets": bootstrap_ratio(random, number, seed),
        "over_random": bootstrap_ratio(own, random, seed) if random.sum() else {"value": None},
    }


def region_effects(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    batch_size: int,
    seed: int,
    sampling: Mapping[str, Any],
) -> dict[str, Float[np.ndarray, "b p"]]:
    """What every single region does to the prediction at the step in the middle of a drawing.

    Args:
        pipeline: the model.
        fmri: responses.
        batch_size: images at once.
        seed: of the noise.
        sampling: options of `NeuroAdapterPipeline.interpret`.

    Returns:
        "effect": dropping the region alone; "effect alone": keeping it alone; see
        `NeuroAdapterPipeline.effects`.
    """
    count = len(pipeline.regions)
    each, none = np.eye(count, dtype=bool), np.zeros((1, count), np.float32)
    step = sampling["num_steps"] // 2
    found: dict[str, list[np.ndarray]] = {"effect": [], "effect alone": []}
    for first in tqdm(range(0, len(fmri), batch_size), unit="batch", desc="regions"):
        numbers = np.arange(first, first + batch_size)
        part = np.resize(fmri[first : first + batch_size], (batch_size, fmri.shape[1]))
        reconstructions = pipeline.interpret(
            part, none, shown=(step,), seed=seed, sample_ids=numbers, **sampling
        )
        for name, own in found.items():
            changes = pipeline.effects(
                part,
                reconstructions.noisy[0],
                int(reconstructions.timesteps[step]),
                each,
                alone=name != "effect",
            )
            own.append(changes.sum(axis=(2, 3))[: len(fmri) - first])
    return {name: np.concatenate(own) for name, own in found.items()}


def kept(path: str | Path, settings: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """What a run before this one computed with the same settings, or else what `compute` returns.

    The file is written atomically; numbers come back as JSON holds them.
    """
    path, wanted = Path(path), json.loads(json.dumps(settings))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] == wanted:
            return found["result"]
    result = json.loads(json.dumps(compute()))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": wanted, "result": result})
    return result


def tables(results: Mapping[str, Any]) -> str:
    """Everything of launch/attention_truth.py's results as Markdown, a section per question."""

    def cell(entry: Mapping[str, Any] | None, form: str = ".2f") -> str:
        if entry is None or entry["value"] is None:
            return "–"
        low, high = entry["interval"]
        return f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]"

    def table(head: list[str], rows: list[list[str]]) -> str:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

    ways = results["localisation"]
    pointing = ["pointing / chance", "AUC"]
    controls = ("mean map", "permuted")
    pooled = []
    for way, own in ways.items():
        scores = own["all areas"]
        blocks = (scores, scores["mean_map"], scores["permuted"])
        pooled.append(
            [way]
            + [
                text
                for block in blocks
                for text in (cell(block["pointing_over_chance"]), cell(block["auc"], ".3f"))
            ]
        )
    per_roi = [
        [
            roi,
            CATEGORY_OF_ROI[roi],
            str(results["regions"][roi]),
            str(scores["num_images"]),
            f"{scores['chance']:.3f}",
            cell(scores["pointing"]),
            cell(scores["pointing_over_chance"], ".1f"),
            cell(scores["auc"], ".3f"),
        ]
        for roi, scores in ways["attention"].items()
        if roi in CATEGORY_OF_ROI
    ]
    retinotopy = [
        [roi, *(cell(own[roi], ".3f") for own in results["retinotopy"].values())]
        for roi in results["retinotopy"]["attention"]
    ]
    ranks = [
        [reduction, pair, cell(entry), f"{entry['of_means']:.2f}"]
        for reduction, own in results["ranks"].items()
        for pair, entry in own.items()
        # What does not hold the brain view is the same for all reductions.
        if pair.startswith("brain view") or reduction == "attention"
    ]
    losses = [
        [
            perturbation,
            roi,
            str(entry.get("regions", "")),
            str(entry["objects"]),
            cell(entry["changed"]),
            cell(entry["changed_by_random_sets"]),
            cell(entry["over_random"], ".1f") if entry["over_random"]["value"] else "–",
        ]
        for perturbation, own in results["categories"].items()
        for roi, entry in own.items()
    ]
    moved = [
        [perturbation, name, str(entry["regions"]), *(cell(entry[m], ".3f") for m in MEASURES)]
        for perturbation, own in results["changes"].items()
        for name, entry in own.items()
    ]
    left = [
        [perturbation, name, cell(entry["pixel_correlation"]), cell(entry["recall"])]
        for perturbation, own in results["changes"].items()
        for name, entry in own.items()
    ]
    deletion = [
        [
            name,
            *(
                cell(own[way][measure]["roi"] if way != "gain" else own[way][measure], ".3f")
                for measure in ("pixel_correlation", "recall")
                for way in ("deletion", "insertion", "gain")
            ),
        ]
        for name, own in results["deletion"]["curves"].items()
    ]
    counts = results["counts"]
    tested = ", ".join(
        f"{kind}: {n} images and {counts['random'][kind]} random sets per area"
        for kind, n in counts["categories"].items()
    )
    return "\n".join(
        [
            f"{results['num_images']} test images where nothing else is said; [95 % bootstrap "
            "intervals over images]. Maps are means over all steps, effects over the shown ones.\n",
            "## Where the maps of the category areas look\n",
            "Pooled over areas; one row per reduction, raw and relative to its mean over images:\n",
            table(["map", *pointing] + [f"{x}, {c}" for c in controls for x in pointing], pooled),
            "By area, `attention`:\n",
            table(
                ["roi", "category", "regions", "images", "chance", "pointing", *pointing],
                per_roi,
            ),
            "Share of a map in the half of the image that the hemisphere sees (chance 0.5):\n",
            table(["roi", *results["retinotopy"]], retinotopy),
            "## Which region matters\n",
            f"Spearman's correlation over regions, {counts['effects']} images:\n",
            table(["reduction", "between", "per image", "of means"], ranks),
            "## Deletion and insertion\n",
            f"Area under the curve over the share of regions, {results['deletion']['num_images']} "
            "images; r is the pixel correlation with the stimulus:\n",
            table(
                ["ranking"]
                + [
                    f"{measure}, {way}"
                    for measure in ("r", "recall")
                    for way in ("deletion", "insertion", "insertion - deletion")
                ],
                deletion,
            ),
            "## Silencing and replacing\n",
            "Things that were drawn right and are not any more, with a category's area perturbed "
            f"({tested}):\n",
            table(
                ["perturbation", "roi", "regions", "objects", "changed", "random sets", "ratio"],
                losses,
            ),
            f"Distance from the intact drawing, as a share of another image's ({counts['changes']} "
            "images; 0: the same, 1: as unlike as another image's drawing):\n",
            table(["perturbation", "set", "regions", *MEASURES], moved),
            "What is left of the intact drawing's pixel correlation with the stimulus and of its "
            "recall (the same images):\n",
            table(["perturbation", "set", "pixel correlation", "recall"], left),
        ]
    )
