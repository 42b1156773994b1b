"""The ablation table: variants of the method over seeds, beside the full model and the paper."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from neuroadapter_jax.evaluation.features import NETWORKS, PUBLISHED_NETWORKS
from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.evaluation.protocol import less_is_better, metric_labels, score_images
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
from neuroadapter_jax.metrics.recall import semantic_counts
from neuroadapter_jax.pipeline.reconstruct import Reconstructions
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth

FULL, NO_SELECTION = "full", "no_encoder_selection"
LABELS = {
    FULL: "full",
    "no_token_dropout": "without token dropout",
    "fixed_drop_rate": "fixed drop rate",
    "no_min_snr": "without Min-SNR",
    NO_SELECTION: "without encoder selection",
    "quarter_p": "p a quarter",
    "double_p": "p double",
    "no_region_structure": "without region structure",
}
# What notes on the paper report, beside its full model; it gives no numbers there. p is 200 in the
# paper's full model, 50 and 400 in its variants.
PAPER = {
    "no_token_dropout": "worse, high level most",
    "no_min_snr": "slightly worse",
    NO_SELECTION: "worse",
    "quarter_p": "worse",
    "double_p": "worse",
}
# In the simulated data, beside the field's metrics: things found over things shown.
OBJECTS_FOUND = {"semantic_recall": "semantic recall", "object_identity": "the thing itself"}
# Which score decides the direction of a level: the first of these that there is.
LEVELS = {
    "low level": ("pixcorr",),
    "high level": ("two_way_clip", "two_way_inception", "two_way_tiny_vit_pooled"),
}


class ImageScores(NamedTuple):
    """One reconstruction's scores per image; a score is sum_b points / sum_b out_of.

    Attributes:
        image_ids: one per image.
        points: score -> points of each image, such as things found.
        out_of: score -> points that were to be had, such as things shown; 1 for a mean.
        missing: metric -> why it is not there.
    """

    image_ids: Int[np.ndarray, " b"]
    points: dict[str, Float[np.ndarray, " b"]]
    out_of: dict[str, Float[np.ndarray, " b"]]
    missing: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write an npz file atomically."""
        arrays = {"image_ids": self.image_ids}
        for part in ("points", "out_of", "missing"):
            values = getattr(self, part).items()
            arrays |= {f"{part}/{name}": np.asarray(value) for name, value in values}
        partial = Path(path).with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> "ImageScores":
        """Read a file of `save`."""
        parts: dict[str, dict[str, Any]] = {"points": {}, "out_of": {}, "missing": {}}
        with np.load(path) as arrays:
            for key in arrays.files:
                part, _, name = key.partition("/")
                if name:
                    parts[part][name] = str(arrays[key]) if part == "missing" else arrays[key]
            return cls(arrays["image_ids"], **parts)


def score_choice(
    reconstructions: Reconstructions, simulated: str | Path | None = None
) -> ImageScores:
    """Scores of the chosen candidates: the field's metrics, and things found.

    Args:
        reconstructions: a folder's reconstructions.
        simulated: the simulated subject's folder, with truth.npz: adds the semantic recall and
            the identification of things, and metrics over the project's own small network. None
            for a real subject.
    """
    return _score(
        reconstructions.image_ids, reconstructions.stimuli, reconstructions.best, simulated
    )


def score_mean_candidate(
    reconstructions: Reconstructions, simulated: str | Path | None = None
) -> ImageScores:
    """What a candidate taken at random is expected to score: the mean over all of them.

    Args:
        reconstructions: with all candidates.
        simulated: see `score_choice`.
    """
    columns = [np.ascontiguousarray(x) for x in np.moveaxis(reconstructions.reconstructions, 1, 0)]
    scores = [
        _score(reconstructions.image_ids, reconstructions.stimuli, x, simulated) for x in columns
    ]
    means = {name: np.mean([x.points[name] for x in scores], axis=0) for name in scores[0].points}
    return scores[0]._replace(points=means)


def _score(
    image_ids: Int[np.ndarray, " b"],
    stimuli: UInt8[np.ndarray, "b y x c"],
    reconstructions: UInt8[np.ndarray, "b y x c"],
    simulated: str | Path | None,
) -> ImageScores:
    networks = PUBLISHED_NETWORKS if simulated is None else NETWORKS
    fields = score_images(stimuli, reconstructions, networks=networks, progress=False)
    points = dict(fields.per_image)
    out_of = {name: np.ones(len(image_ids)) for name in points}
    if simulated is not None:
        scenes = load_scenes(simulated, image_ids)
        categories = load_truth(simulated)["categories"][image_ids]
        for name, counts in {
            "semantic_recall": semantic_counts(
                read_scenes(load_scene_reader(), reconstructions), categories
            ),
            "object_identity": semantic_counts(
                identify_objects(reconstructions, scenes), objects_shown(scenes)
            ),
        }.items():
            points[name], out_of[name] = counts[0].astype(float), counts[1].astype(float)
    return ImageScores(image_ids, points, out_of, fields.missing)


def crossed_bootstrap(
    points: Real[np.ndarray, "k b"],
    out_of: Real[np.ndarray, "k b"],
    seed: int = 0,
    num_resamples: int = 2000,
) -> Float[np.ndarray, " resample"]:
    """Resampled values of a score over seeds and images, both drawn with replacement.

        value = sum_kb w_k u_b points_kb / sum_kb w_k u_b out_of_kb,

    w and u the numbers of times that seed k and image b were drawn: the seeds have the same test
    images, so rows and columns are drawn (the pigeonhole bootstrap, Owen 2007, Annals of Applied
    Statistics 1, 386). With one seed the images alone are drawn. Calls of the same seed and shape
    draw alike, so the difference of two variants' values is paired over seeds and images.

    Args:
        points: of training seed k and image b.
        out_of: points to be had.
        seed: of the resampling.
        num_resamples: number of resamples.
    """
    rng = np.random.default_rng(seed)
    weights = [
        rng.multinomial(count, np.full(count, 1 / count), size=num_resamples)
        for count in points.shape
    ]

    def total(values: np.ndarray) -> np.ndarray:
        return ((weights[0] @ values) * weights[1]).sum(axis=1)

    return total(points) / total(out_of)


def ablation_results(
    runs: Mapping[str, Sequence[ImageScores]], seed: int = 0, coverage: float = 0.95
) -> dict[str, dict[str, Any]]:
    """Every variant's scores over seeds, and its differences to the full model.

    Args:
        runs: variant -> one run per seed, the same seeds in the same order for all; `FULL` is one.
        seed: of the bootstrap.
        coverage: of the intervals.

    Returns:
        variant -> "scores": score -> value, interval, per_seed; and for all but `FULL`
        "difference": score -> value, interval; "paper": the direction, None where not known;
        "ours": level -> "better", "worse" or "undecided", where the interval holds 0.

    Raises:
        ValueError: no full model, or runs of another number of seeds or of other images.
    """
    if FULL not in runs:
        raise ValueError(f"The variants are {sorted(runs)}; {FULL!r} has to be one of them.")
    first, count = runs[FULL][0], len(runs[FULL])
    for name, several in runs.items():
        if len(several) != count:
            raise ValueError(
                f"{name} has {len(several)} seeds and {FULL} has {count}; every variant needs the "
                "same seeds."
            )
        if any(not np.array_equal(x.image_ids, first.image_ids) for x in several):
            raise ValueError(f"{name} was drawn for other images than {FULL}; draw it again.")
    names = [name for name in LABELS if name in runs]
    names += [name for name in runs if name not in LABELS]
    quantiles = [(1 - coverage) / 2, (1 + coverage) / 2]

    def entry(value: float, draws: Float[np.ndarray, " resample"]) -> dict[str, Any]:
        return {"value": value, "interval": np.quantile(draws, quantiles).tolist()}

    results: dict[str, dict[str, Any]] = {
        name: {"scores": {}} | ({} if name == FULL else {"difference": {}}) for name in names
    }
    for score in [x for x in _labels() if x in first.points]:
        out_of = np.tile(first.out_of[score], (count, 1))
        own = {name: np.stack([x.points[score] for x in runs[name]]) for name in names}
        values = {name: float(x.sum() / out_of.sum()) for name, x in own.items()}
        draws = {name: crossed_bootstrap(x, out_of, seed) for name, x in own.items()}
        for name in names:
            each = (own[name].sum(axis=1) / out_of.sum(axis=1)).tolist()
            results[name]["scores"][score] = entry(values[name], draws[name]) | {"per_seed": each}
            if name != FULL:
                results[name]["difference"][score] = entry(
                    values[name] - values[FULL], draws[name] - draws[FULL]
                )
    for name in names:
        if name != FULL:
            results[name]["paper"] = PAPER.get(name)
            results[name]["ours"] = {
                level: direction(results[name]["difference"], scores)
                for level, scores in LEVELS.items()
            }
    return results


def direction(differences: Mapping[str, Mapping[str, Any]], scores: Sequence[str]) -> str:
    """What the interval of the first score that there is says: better, worse or undecided."""
    score = next((name for name in scores if name in differences), None)
    if score is None:
        return "not measured"
    low, high = differences[score]["interval"]
    if less_is_better(score):
        low, high = -high, -low
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def tables(results: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> str:
    """The results of `ablation_results` as two Markdown tables: scores, and differences.

    Args:
        results: of `ablation_results`.
        missing: metric -> why it is not there; said below the tables.
    """
    scores = list(results[FULL]["scores"])
    columns = [_labels()[score] for score in scores]

    def cell(score: str, found: Mapping[str, Any], sign: str = "") -> str:
        percent = score in OBJECTS_FOUND or score.startswith("two_way")
        form = f"{sign}.1f" if percent else f"{sign}.3f"
        numbers = [found["value"], *found["interval"]]
        value, low, high = (f"{100 * x if percent else x:{form}}" for x in numbers)
        return f"{value} [{low}, {high}]"

    def table(head: list[str], rows: list[list[str]]) -> str:
        lines = [head, ["---"] * len(head), *rows]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)

    values = [
        [LABELS.get(name, name), *(cell(score, found["scores"][score]) for score in scores)]
        for name, found in results.items()
    ]
    differences = [
        [
            LABELS.get(name, name),
            found["paper"] or "not known",
            *(found["ours"][level] for level in LEVELS),
            *(cell(score, found["difference"][score], "+") for score in scores),
        ]
        for name, found in results.items()
        if name != FULL
    ]
    head = ["", "paper", *(f"ours, {level}" for level in LEVELS), *columns]
    reasons: dict[str, list[str]] = {}
    for metric, why in missing.items():
        reasons.setdefault(why, []).append(_labels()[metric])
    notes = [f"Not computed: {', '.join(names)} ({why}).\n" for why, names in reasons.items()]
    return "\n".join(
        [table(["", *columns], values), "Difference to full:\n", table(head, differences), *notes]
    )


def _labels() -> dict[str, str]:
    return metric_labels() | OBJECTS_FOUND
