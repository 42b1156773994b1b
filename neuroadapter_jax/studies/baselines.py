"""Floors, retrieval, a linear decoder, NeuroAdapter and the ceiling in one table.

Every method's images lie in a folder of their own, as launch/reconstruct.py writes them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real, UInt8
from tqdm import tqdm

from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.linear_two_stage import (
    LinearMap,
    LinearTwoStage,
    caption_states,
    captions_of,
    fit_linear_map,
    region_vertices,
)
from neuroadapter_jax.decoders.low_level_start import save_low_level_start
from neuroadapter_jax.decoders.retrieval import (
    Gallery,
    gallery_of_records,
    mean_image,
    random_rows,
    retrieve,
)
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
from neuroadapter_jax.files import write_json
from neuroadapter_jax.metrics.identification import two_way_pixels
from neuroadapter_jax.metrics.pixels import pixel_correlation, ssim
from neuroadapter_jax.metrics.recall import semantic_counts
from neuroadapter_jax.metrics.statistics import bootstrap_ratio
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.reconstruct import (
    Decoder,
    Reconstructions,
    load_reconstructions,
    reconstruct_split,
    write_reconstructions,
)
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth

# A score as sums over images: the score of a method is sum(first) / sum(second).
Scores = dict[str, tuple[Real[np.ndarray, " b"], Real[np.ndarray, " b"]]]
Score = Callable[[UInt8[np.ndarray, "b y x c"]], Scores]

METHODS = {
    "mean_image": "Floor: mean training image",
    "random_image": "Floor: a random training image",
    "retrieval": "Retrieval by the brain encoder",
    "linear_latents": "Linear latents alone, no diffusion",
    "linear": "Linear two-stage, without low-level path",
    "linear_low_level": "Linear two-stage, with low-level path",
    "neuroadapter": "NeuroAdapter",
    "neuroadapter_low_level": "NeuroAdapter, low-level start",
    "neuroadapter_chosen": "NeuroAdapter, chosen by the encoder",
    "neuroadapter_chosen_low_level": "NeuroAdapter, chosen, low-level start",
    "autoencoder": "Ceiling: the VAE's own reconstruction",
}
COLUMNS = {
    "pixel_correlation": ("PixCorr", ".3f"),
    "ssim": ("SSIM", ".3f"),
    "two_way_pixels": ("Two-way, pixels", ".1%"),
    "semantic_recall": ("Semantic recall", ".1%"),
    "object_identity": ("The thing itself", ".1%"),
}
# With the low-level path, without it.
PAIRS = (
    ("linear_low_level", "linear"),
    ("neuroadapter_low_level", "neuroadapter"),
    ("neuroadapter_chosen_low_level", "neuroadapter_chosen"),
)
STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
GUIDANCE_SCALES = (1.0, 2.0, 4.0, 7.0)


def pixel_scores(
    stimuli: UInt8[np.ndarray, "b y x c"], reconstructions: UInt8[np.ndarray, "b y x c"]
) -> Scores:
    """Pixel correlation, SSIM and two-way identification by pixels, per image."""
    ones = np.ones(len(stimuli))
    return {
        "pixel_correlation": (pixel_correlation(stimuli, reconstructions), ones),
        "ssim": (ssim(stimuli, reconstructions), ones),
        "two_way_pixels": (two_way_pixels(stimuli, reconstructions), ones),
    }


def scorer(
    stimuli: UInt8[np.ndarray, "b y x c"],
    image_ids: Int[np.ndarray, " b"],
    root: str | Path | None = None,
) -> Score:
    """What scores images drawn of some stimuli.

    Args:
        stimuli: the stimuli.
        image_ids: their ids.
        root: the simulated subject's folder, which adds semantic recall and the identification of
            things; None for pixels alone.
    """
    if root is None:
        return lambda reconstructions: pixel_scores(stimuli, reconstructions)
    categories, scenes = load_truth(root)["categories"][image_ids], load_scenes(root, image_ids)
    objects, reader = objects_shown(scenes), load_scene_reader()

    def score(reconstructions: UInt8[np.ndarray, "b y x c"]) -> Scores:
        read = semantic_counts(read_scenes(reader, reconstructions), categories)
        named = semantic_counts(identify_objects(reconstructions, scenes), objects)
        return pixel_scores(stimuli, reconstructions) | {
            "semantic_recall": read[:2],
            "object_identity": named[:2],
        }

    return score


def mean_scores(scores: Scores) -> dict[str, float]:
    """The value of each score."""
    return {name: float(over.sum() / under.sum()) for name, (over, under) in scores.items()}


def simulated_captions(root: str | Path) -> dict[int, list[str]]:
    """The captions of all images of a simulated root, by id."""
    return {i: [text] for i, text in enumerate(load_truth(root)["captions"].tolist())}


def choose_strength(
    without: Mapping[str, float], by_strength: Mapping[float, Mapping[str, float]]
) -> float:
    """The strength with the highest PixCorr + SSIM of those that cost no meaning.

    Meaning is semantic recall and the identification of things: neither may fall.

    Args:
        without: scores on validation images without a low-level start.
        by_strength: the same with it.

    Returns:
        The strength; 1 (no low-level start) where all cost meaning.
    """
    kept = {
        strength: scores["pixel_correlation"] + scores["ssim"]
        for strength, scores in by_strength.items()
        if all(scores[k] >= without[k] for k in ("semantic_recall", "object_identity"))
    }
    return max(kept, key=lambda strength: (kept[strength], strength), default=1.0)


@dataclass(frozen=True)
class _Split:
    dataset: PreparedDataset
    fmri: Float[np.ndarray, "b n"]
    latents: Float[np.ndarray, "b y x c"]
    stimuli: UInt8[np.ndarray, "b Y X 3"]


def _read(prepared: str | Path, name: str) -> _Split:
    dataset = PreparedDataset(prepared, name)
    batches = list(eval_batches(dataset, 50))

    def column(key: str) -> np.ndarray:
        return np.concatenate([batch[key][: batch["num_valid"]] for batch in batches])

    return _Split(
        dataset, column("betas").astype(np.float32), column("latent_mean"), column("image")
    )


def fit_latents(
    prepared: str | Path, pipeline: NeuroAdapterPipeline, folder: str | Path, *, progress: bool
) -> LinearMap:
    """The map from the regions' responses to scaled latents, fitted on training images.

    It is kept in latents.npz and not fitted again; records of other splits are not read.

    Args:
        prepared: folder of prepared records.
        pipeline: whose regions and scaling factor are used.
        folder: where the map is kept.
        progress: show bars.

    Raises:
        ValueError: the folder holds a map of other images.
    """
    scale = pipeline.backbone.vae.config.scaling_factor
    path = Path(folder) / "latents.npz"
    return _fitted(path, prepared, pipeline, lambda ids, latents: scale * latents, progress)


def fit_states(
    prepared: str | Path,
    pipeline: NeuroAdapterPipeline,
    captions: Mapping[int, Sequence[str]],
    folder: str | Path,
    *,
    progress: bool,
) -> LinearMap:
    """The map from responses to caption states, fitted on training images, kept in states.npz.

    Args:
        prepared: folder of prepared records.
        pipeline: whose regions and backbone are used.
        captions: of every training image, by id.
        folder: where the map is kept.
        progress: show bars.

    Raises:
        ValueError: as `fit_latents`, or a training image has no caption.
    """

    def states(ids: Int[np.ndarray, " i"], _) -> Float[np.ndarray, "i k c"]:
        return caption_states(pipeline.backbone, captions_of(captions, ids))

    return _fitted(Path(folder) / "states.npz", prepared, pipeline, states, progress)


def _fitted(
    path: Path,
    prepared: str | Path,
    pipeline: NeuroAdapterPipeline,
    targets: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "i ..."]],
    progress: bool,
) -> LinearMap:
    """`targets` is called with ids and latent means of the training images."""
    train, vertices = PreparedDataset(prepared, "train"), region_vertices(pipeline.regions)
    if path.is_file():
        found = LinearMap.load(path)
        if not np.array_equal(found.image_ids, train.image_ids):
            raise ValueError(f"{path} was fitted on other images; name another folder.")
        return found
    responses, latents = [], []
    for batch in eval_batches(train, 50):
        # The regions' vertices alone: the whole cortex of all images would fill the memory.
        responses.append(batch["betas"][: batch["num_valid"], vertices].astype(np.float32))
        latents.append(batch["latent_mean"][: batch["num_valid"]])
    made = fit_linear_map(
        np.concatenate(responses),
        targets(train.image_ids, np.concatenate(latents)),
        train.image_ids,
        vertices,
        progress=progress,
    )
    made.save(path)
    return made


def run_baselines(
    pipeline: NeuroAdapterPipeline,
    prepared: str | Path,
    out: str | Path,
    *,
    encoder: BrainEncoder,
    captions: Mapping[int, Sequence[str]] | None = None,
    gallery: Gallery | None = None,
    root: str | Path | None = None,
    methods: Sequence[str] = tuple(METHODS),
    strength: float | None = None,
    linear_guidance_scale: float | None = None,
    num_candidates: int = 8,
    num_steps: int = 10,
    sampler: str = "dpmsolver++",
    seed: int = 0,
    batch_size: int = 20,
    save_grid: Callable[[Path, Reconstructions], None] | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Fits, draws and scores every method on the test images; a killed call goes on.

    Maps are fitted on training images, strength and the linear decoder's guidance are chosen on
    validation images (`choose_strength`; the guidance by the highest semantic recall, then
    PixCorr), and test images are drawn once.

    Args:
        pipeline: NeuroAdapter.
        prepared: folder of prepared records.
        out: gets a folder of reconstructions per method, linear/ (the maps), retrieval.npz,
            low_level_test.npz, validation.json, results.json and table.md.
        encoder: retrieves and chooses.
        captions: of training images by id; without them the linear two-stage decoder is missing.
        gallery: reference set of the retrieval baseline; the training images when None.
        root: the simulated subject's folder, for semantic scores.
        methods: of `METHODS`.
        strength: of the low-level start; None chooses it, which needs `root`.
        linear_guidance_scale: likewise.
        num_candidates: drawn where the encoder chooses.
        num_steps: of the sampler, for all methods.
        sampler: likewise.
        seed: of noise, random images and bootstrap.
        batch_size: responses per call.
        save_grid: see `reconstruct_split`.
        progress: show bars.

    Returns:
        What results.json holds.

    Raises:
        ValueError: `out` holds another run, an unknown method, strength or guidance neither given
            nor to be chosen, or as `retrieve`, `fit_states` and `reconstruct_split`.
    """
    if unknown := sorted(set(methods) - set(METHODS)):
        raise ValueError(
            f"There is no method {', '.join(unknown)}; choose of {', '.join(METHODS)}."
        )
    if root is None and (strength is None or linear_guidance_scale is None):
        raise ValueError(
            "Without the simulated subject's folder nothing tells what a low-level start costs in "
            "meaning, so name strength and linear_guidance_scale."
        )
    missing = {
        name: "no captions were given for the training images"
        for name in ("linear", "linear_low_level")
        if captions is None and name in methods
    }
    wanted = [name for name in METHODS if name in methods and name not in missing]
    out = Path(out)
    drawing = {"num_steps": num_steps, "sampler": sampler, "seed": seed, "batch_size": batch_size}
    train = PreparedDataset(prepared, "train")
    gallery = gallery or gallery_of_records(train)
    _check_run(
        out,
        {
            "model": pipeline.provenance,
            "encoder": encoder.provenance,
            "prepared": train.provenance["request"],
            "gallery": [gallery.name, len(gallery)],
            "captions": None if captions is None else _digest(captions),
            "num_candidates": num_candidates,
            **drawing,
        },
    )
    test = _read(prepared, "test")
    with_start = [name for name in wanted if name.endswith("_low_level")]
    latents = low = linear = None
    if with_start or "linear_latents" in wanted:
        latents = fit_latents(prepared, pipeline, out / "linear", progress=progress)
        low = latents(test.fmri)
        save_low_level_start(out / "low_level_test.npz", test.dataset.image_ids, low)
    if {"linear", "linear_low_level"} & set(wanted):
        states = fit_states(prepared, pipeline, captions, out / "linear", progress=progress)
        linear = LinearTwoStage(
            pipeline.backbone,
            pipeline.regions,
            states,
            guidance_scale=linear_guidance_scale or GUIDANCE_SCALES[0],
            sampler=sampler,
            provenance={"fitted_on": len(states.image_ids), "data": train.provenance["request"]},
        )
    chosen = _choose(
        pipeline,
        linear,
        _read(prepared, "validation"),
        latents if with_start else None,
        root,
        out / "validation.json",
        drawing,
        strength,
        linear_guidance_scale,
        progress,
    )

    def reconstruct(
        name: str, decoder: Decoder, start: bool, judge: BrainEncoder | None = None, **more: Any
    ) -> None:
        which = "linear" if decoder is linear else "neuroadapter"
        reconstruct_split(
            decoder,
            test.dataset,
            out / name,
            low_level_start=low if start else None,
            strength=chosen["strength"][which] if start else 1.0,
            encoder=judge,
            num_candidates=num_candidates if judge else 1,
            save_grid=save_grid,
            progress=progress,
            **drawing,
            **more,
        )

    def write(name: str, images: UInt8[np.ndarray, "b y x c"], **settings: Any) -> None:
        known = {"method": name, "seed": seed, **settings}
        write_reconstructions(out / name, test.dataset, images, known, save_grid)

    def decoded(scaled: Float[np.ndarray, "b _y _x _c"]) -> UInt8[np.ndarray, "b y x c"]:
        parts = [scaled[i : i + batch_size] for i in range(0, len(scaled), batch_size)]
        return np.concatenate([pipeline.decode(part) for part in parts])

    def retrieval() -> None:
        found = retrieve(
            encoder,
            gallery,
            test.fmri,
            test.stimuli,
            test.dataset.image_ids,
            pipeline.regions,
            state=out / "retrieval.npz",
            progress=progress,
        )
        write("retrieval", gallery.read(found.rows), gallery=gallery.name, size=len(gallery))

    training = gallery_of_records(train)
    count = len(test.stimuli)
    scale = pipeline.backbone.vae.config.scaling_factor
    guided = {"guidance_scale": chosen["linear_guidance_scale"]}
    make: dict[str, Callable[[], None]] = {
        "mean_image": lambda: write("mean_image", np.repeat(mean_image(training)[None], count, 0)),
        "random_image": lambda: write(
            "random_image", training.read(random_rows(training, count, seed))
        ),
        "retrieval": retrieval,
        "linear_latents": lambda: write("linear_latents", decoded(low)),
        "linear": lambda: reconstruct("linear", linear, False, **guided),
        "linear_low_level": lambda: reconstruct("linear_low_level", linear, True, **guided),
        "neuroadapter": lambda: reconstruct("neuroadapter", pipeline, False),
        "neuroadapter_low_level": lambda: reconstruct("neuroadapter_low_level", pipeline, True),
        "neuroadapter_chosen": lambda: reconstruct("neuroadapter_chosen", pipeline, False, encoder),
        "neuroadapter_chosen_low_level": lambda: reconstruct(
            "neuroadapter_chosen_low_level", pipeline, True, encoder
        ),
        "autoencoder": lambda: write("autoencoder", decoded(scale * test.latents)),
    }
    score = scorer(test.stimuli, test.dataset.image_ids, root)
    scores = {}
    bar = tqdm(wanted, desc="Methods", unit="method", disable=not progress)
    for name in bar:
        bar.set_postfix_str(name)
        make[name]()
        scores[name] = score(load_reconstructions(out / name).best)
    results = {
        "num_images": count,
        "split": "test",
        "gallery": {"name": gallery.name, "images": len(gallery)},
        "settings": {"num_candidates": num_candidates, **drawing},
        "chosen_on_validation": chosen,
        "missing": missing,
        **summarise(scores, seed),
    }
    write_json(out / "results.json", results)
    (out / "table.md").write_text(tables(results), encoding="utf-8")
    return results


def _choose(
    pipeline: NeuroAdapterPipeline,
    linear: LinearTwoStage | None,
    split: _Split,
    latents: LinearMap | None,
    root: str | Path | None,
    path: Path,
    drawing: dict[str, Any],
    strength: float | None,
    guidance: float | None,
    progress: bool,
) -> dict[str, Any]:
    """Strength of both decoders and the linear one's guidance, from validation images alone.

    What is given, or not needed (no `linear`, no `latents`), is not chosen.
    """
    known = json.loads(path.read_text()) if path.is_file() else {}
    options = {key: drawing[key] for key in ("num_steps", "sampler", "seed")}
    size, count = drawing["batch_size"], len(split.stimuli)
    low = None if latents is None else latents(split.fmri)
    score = None if root is None else scorer(split.stimuli, split.dataset.image_ids, root)
    choose_guidance = linear is not None and guidance is None
    choose_start = low is not None and strength is None
    drawers: dict[str, Decoder] = {"neuroadapter": pipeline}
    if linear is not None:
        drawers["linear"] = linear
    total = choose_guidance * len(GUIDANCE_SCALES) + choose_start * len(drawers) * (
        1 + len(STRENGTHS)
    )
    bar = tqdm(total=total, desc="Validation", unit="setting", disable=not progress)

    def scored(name: str, decoder: Decoder, guidance: float | None, strength: float | None):
        key = f"{name}, guidance {guidance}, strength {strength}"
        if key not in known:
            images = []
            for first in range(0, count, size):
                # The last call is filled up, so that one compilation serves all.
                rows = np.minimum(np.arange(first, first + size), count - 1)
                begin = {}
                if strength is not None:
                    begin = {"low_level_start": low[rows], "strength": strength}
                reconstructions = decoder(
                    split.fmri[rows],
                    sample_ids=rows,
                    num_candidates=1,
                    guidance_scale=guidance,
                    **begin,
                    **options,
                )
                images.append(reconstructions[:, 0])
            known[key] = mean_scores(score(np.concatenate(images)[:count]))
            write_json(path, known)
        bar.update()
        return known[key]

    if choose_guidance:
        found = {g: scored("linear", linear, g, None) for g in GUIDANCE_SCALES}
        guidance = max(
            found, key=lambda g: (found[g]["semantic_recall"], found[g]["pixel_correlation"])
        )
    strengths = {"neuroadapter": strength, "linear": strength}
    if choose_start:
        for name, decoder in drawers.items():
            own = guidance if decoder is linear else None
            without = scored(name, decoder, own, None)
            by_strength = {s: scored(name, decoder, own, s) for s in STRENGTHS}
            strengths[name] = choose_strength(without, by_strength)
    bar.close()
    return {
        "num_images": count,
        "strength": strengths,
        "linear_guidance_scale": guidance,
        "scores": known,
    }


def summarise(scores: Mapping[str, Scores], seed: int = 0) -> dict[str, Any]:
    """Values with 95 % bootstrap intervals over images, and what methods differ by.

    Args:
        scores: of each method, on the same images.
        seed: of the bootstrap.

    Returns:
        "methods": method -> score -> {"value", "interval"}; "improvement_over_retrieval":
        (x - baseline) / baseline, which the paper's comparison shows in percent, images resampled
        together; "low_level_start": with less without it, paired, per pair of `PAIRS`.
    """
    methods = {
        name: {key: bootstrap_ratio(*sums, seed) for key, sums in each.items()}
        for name, each in scores.items()
    }
    improvement = {}
    base = scores.get("retrieval")
    for name, each in scores.items() if base else ():
        if name != "retrieval":
            improvement[name] = {
                key: bootstrap_ratio(each[key][0] - base[key][0], base[key][0], seed)
                for key in each
            }
    paired = {
        f"{one} - {other}": {
            key: bootstrap_ratio(over - scores[other][key][0], under, seed)
            for key, (over, under) in scores[one].items()
        }
        for one, other in PAIRS
        if one in scores and other in scores
    }
    return {
        "methods": methods,
        "improvement_over_retrieval": improvement,
        "low_level_start": paired,
    }


def tables(results: dict[str, Any]) -> str:
    """The results as Markdown: scores, improvement over retrieval, paired differences."""
    found = results["methods"]
    columns = [key for key in COLUMNS if any(key in each for each in found.values())]

    def table(entries: Mapping[str, Any], labels: Mapping[str, str], form: str) -> list[str]:
        lines = [
            [labels[name], *(_cell(each[key], form or COLUMNS[key][1]) for key in columns)]
            for name, each in entries.items()
        ]
        head = ["", *(COLUMNS[key][0] for key in columns)]
        return ["| " + " | ".join(x) + " |" for x in (head, ["---"] * len(head), *lines)]

    text = [
        f"{results['num_images']} test images; value [95 % bootstrap interval over images].",
        "",
        *table(found, METHODS, ""),
    ]
    if improvement := results["improvement_over_retrieval"]:
        text += [
            "",
            f"Improvement over retrieval from {results['gallery']['images']} images, "
            "(x - retrieval) / retrieval:",
            "",
            *table(improvement, METHODS, "+.0%"),
        ]
    if paired := results["low_level_start"]:
        labels = {f"{one} - {other}": METHODS[one] for one, other in PAIRS}
        text += [
            "",
            "What the low-level start changes (with less without, paired):",
            "",
            *table(paired, labels, "+.3f"),
        ]
    for name, why in results["missing"].items():
        text += ["", f"Missing: {METHODS[name]} ({why})."]
    return "\n".join(text) + "\n"


def _cell(entry: dict[str, Any], form: str) -> str:
    if entry["value"] is None:
        return "–"
    low, high = entry["interval"]
    return f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]"


def _digest(captions: Mapping[int, Sequence[str]]) -> str:
    text = json.dumps({str(key): list(captions[key]) for key in sorted(captions)})
    return hashlib.sha256(text.encode()).hexdigest()


def _check_run(out: Path, settings: dict[str, Any]) -> None:
    """Refuses a folder of another run; else notes the settings."""
    settings = json.loads(json.dumps(settings))
    path = out / "settings.json"
    if path.is_file() and (found := json.loads(path.read_text())) != settings:
        different = sorted(k for k in settings | found if settings.get(k) != found.get(k))
        raise ValueError(
            f"{out} holds baselines of other {', '.join(different)}; name another folder or delete "
            "this one."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, settings)
