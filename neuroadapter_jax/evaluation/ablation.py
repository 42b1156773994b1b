"""The ablation table: variants of the method over seeds, beside the full model and the paper."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from neuroadapter_jax.evaluation.identification import two_way_pixels
from neuroadapter_jax.evaluation.metrics import pixel_correlation, ssim
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
from neuroadapter_jax.evaluation.semantics import semantic_counts
from neuroadapter_jax.evaluation.thing_identification import identify_things, things_shown
from neuroadapter_jax.reconstruction import Reconstructions
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
# Score -> its column, and the format of a value.
SCORES = {
    "pixel_correlation": ("pixel correlation", ".3f"),
    "ssim": ("SSIM", ".3f"),
    "two_way_pixels": ("two-way, pixels", ".1%"),
    "semantic_recall": ("semantic recall", ".1%"),
    "thing_identification": ("the thing itself", ".1%"),
}
LEVELS = {"low level": "pixel_correlation", "high level": "semantic_recall"}


class CandidateScores(NamedTuple):
    """Scores of every candidate of one run; a score is sum_b points / sum_b out_of.

    Attributes:
        image_ids: one per image.
        chosen: the encoder's choice.
        points: score -> points of each candidate, such as things found.
        out_of: score -> points that were to be had, such as things shown; 1 for a mean.
    """

    image_ids: Int[np.ndarray, " b"]
    chosen: Int[np.ndarray, " b"]
    points: dict[str, Float[np.ndarray, "b s"]]
    out_of: dict[str, Float[np.ndarray, " b"]]

    def of_chosen(self) -> dict[str, Float[np.ndarray, " b"]]:
        """Points of the candidates that the encoder chose."""
        rows = np.arange(len(self.chosen))
        return {name: values[rows, self.chosen] for name, values in self.points.items()}

    def of_any(self) -> dict[str, Float[np.ndarray, " b"]]:
        """Points that a candidate taken at random is expected to have."""
        return {name: values.mean(axis=1) for name, values in self.points.items()}

    def save(self, path: str | Path) -> None:
        """Write an npz file atomically."""
        arrays = {"image_ids": self.image_ids, "chosen": self.chosen}
        arrays |= {f"points/{name}": values for name, values in self.points.items()}
        arrays |= {f"out_of/{name}": values for name, values in self.out_of.items()}
        partial = Path(path).with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | Path) -> "CandidateScores":
        """Read a file of `save`."""
        with np.load(path) as arrays:
            parts = {
                part: {k.split("/")[1]: arrays[k] for k in arrays.files if k.startswith(f"{part}/")}
                for part in ("points", "out_of")
            }
            return cls(arrays["image_ids"], arrays["chosen"], **parts)


def score_candidates(drawn: Reconstructions, root: str | Path) -> CandidateScores:
    """Scores of all candidates of a folder of the simulated subject.

    Pixel correlation, SSIM and two-way identification with the stimuli as distractors, means over
    images; semantic recall and the identification of things, things found over things shown.

    Args:
        drawn: with the candidates that an encoder ranked.
        root: the simulated subject's folder, with truth.npz.

    Raises:
        ValueError: no encoder has chosen among several candidates.
    """
    if drawn.scores is None or drawn.drawn.shape[1] < 2:
        raise ValueError(
            "The ablation of the encoder's choice needs several candidates and their scores; draw "
            "with --encoder --keep_candidates and --num_candidates of 2 or more."
        )
    ids, seen = drawn.image_ids, drawn.seen
    categories = load_truth(root)["categories"][ids]
    scenes = load_scenes(root, ids)
    things, reader = things_shown(scenes), load_scene_reader()
    columns = [np.ascontiguousarray(x) for x in np.moveaxis(drawn.drawn, 1, 0)]
    read = [semantic_counts(read_scenes(reader, x), categories) for x in columns]
    named = [semantic_counts(identify_things(x, scenes), things) for x in columns]
    points = {
        "pixel_correlation": [pixel_correlation(seen, x) for x in columns],
        "ssim": [ssim(seen, x) for x in columns],
        "two_way_pixels": [two_way_pixels(seen, x) for x in columns],
        "semantic_recall": [hits for hits, _, _ in read],
        "thing_identification": [hits for hits, _, _ in named],
    }
    shown = {"semantic_recall": read[0][1], "thing_identification": named[0][1]}
    return CandidateScores(
        ids,
        drawn.chosen,
        {name: np.stack(values, axis=1).astype(float) for name, values in points.items()},
        {name: shown.get(name, np.ones(len(ids))).astype(float) for name in points},
    )


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
    runs: Mapping[str, Sequence[CandidateScores]], seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, Any]]:
    """Every variant's scores over seeds, and its differences to the full model.

    Args:
        runs: variant -> one run per seed, in the same order of seeds for all; `FULL` among them.
            The variant `NO_SELECTION` is added: the full model's mean candidate.
        seed: of the bootstrap.
        level: coverage of the intervals.

    Returns:
        variant -> "scores": score -> value, interval, per_seed; and for all but `FULL`
        "difference": score -> value, interval; "paper": the direction, None where not known;
        "ours": level -> "better", "worse" or "undecided" (the interval holds 0).

    Raises:
        ValueError: no full model, or runs of other numbers of seeds or other images.
    """
    if FULL not in runs:
        raise ValueError(f"The variants are {sorted(runs)}; {FULL!r} has to be one of them.")
    for name, several in runs.items():
        if len(several) != len(runs[FULL]):
            raise ValueError(
                f"{name} has {len(several)} seeds and {FULL} has {len(runs[FULL])}; every variant "
                "needs the same seeds."
            )
        if any(not np.array_equal(x.image_ids, runs[FULL][0].image_ids) for x in several):
            raise ValueError(f"{name} was drawn for other images than {FULL}; draw it again.")
    points = {name: [x.of_chosen() for x in several] for name, several in runs.items()}
    points[NO_SELECTION] = [x.of_any() for x in runs[FULL]]
    tail = [(1 - level) / 2, (1 + level) / 2]
    values: dict[str, dict[str, float]] = {}
    draws: dict[str, dict[str, np.ndarray]] = {}
    results: dict[str, dict[str, Any]] = {}
    for name in [name for name in LABELS if name in points] + sorted(points.keys() - LABELS.keys()):
        values[name], draws[name], scores = {}, {}, {}
        for score in SCORES:
            own = np.stack([x[score] for x in points[name]])
            out_of = np.stack([x.out_of[score] for x in runs[FULL]])
            values[name][score] = float(own.sum() / out_of.sum())
            draws[name][score] = crossed_bootstrap(own, out_of, seed)
            scores[score] = {
                "value": values[name][score],
                "interval": np.quantile(draws[name][score], tail).tolist(),
                "per_seed": (own.sum(axis=1) / out_of.sum(axis=1)).tolist(),
            }
        results[name] = {"scores": scores}
        if name != FULL:
            results[name]["difference"] = {
                score: {
                    "value": values[name][score] - values[FULL][score],
                    "interval": np.quantile(draws[name][score] - draws[FULL][score], tail).tolist(),
                }
                for score in SCORES
            }
            results[name]["paper"] = PAPER.get(name)
            results[name]["ours"] = {
                level_name: direction(results[name]["difference"][score]["interval"])
                for level_name, score in LEVELS.items()
            }
    return results


def direction(interval: Sequence[float]) -> str:
    """What an interval of a difference to the full model says, more being better."""
    low, high = interval
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def tables(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results of `ablation_results` as two Markdown tables: scores, and differences."""

    def cell(entry: Mapping[str, Any], form: str) -> str:
        low, high = entry["interval"]
        return f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]"

    def table(head: list[str], rows: list[list[str]]) -> str:
        lines = [head, ["---"] * len(head), *rows]
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)

    columns = [title for title, _ in SCORES.values()]
    scores = [
        [
            LABELS.get(name, name),
            *(cell(found["scores"][score], form) for score, (_, form) in SCORES.items()),
        ]
        for name, found in results.items()
    ]
    differences = [
        [
            LABELS.get(name, name),
            *(cell(found["difference"][s], f"+{form}") for s, (_, form) in SCORES.items()),
            found["paper"] or "not known",
            *(found["ours"][level] for level in LEVELS),
        ]
        for name, found in results.items()
        if name != FULL
    ]
    ours = [f"ours, {level}" for level in LEVELS]
    return (
        table(["", *columns], scores)
        + "\nDifference to the full model:\n\n"
        + table(["", *columns, "paper", *ours], differences)
    )
