"""Scores of every method as sums over images, so that ratios and differences can be resampled."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Real, UInt8

from neuroadapter_jax.evaluation.simulated_truth import SimulatedTruth
from neuroadapter_jax.metrics.pixel_scores import pixel_scores
from neuroadapter_jax.metrics.statistics import bootstrap_ratio

# A score as sums over images: the score of a method is sum(first) / sum(second).
Scores = dict[str, tuple[Real[np.ndarray, " b"], Real[np.ndarray, " b"]]]
ScoreImages = Callable[[UInt8[np.ndarray, "b y x c"]], Scores]

# With the low-level path, without it.
PAIRS = (
    ("linear_low_level", "linear"),
    ("neuroadapter_low_level", "neuroadapter"),
    ("neuroadapter_chosen_low_level", "neuroadapter_chosen"),
)


def make_score(
    stimuli: UInt8[np.ndarray, "b y x c"],
    image_ids: Int[np.ndarray, " b"],
    root: str | Path | None = None,
) -> ScoreImages:
    """A function that scores reconstructions of some stimuli.

    Args:
        stimuli: what the reconstructions are compared with.
        image_ids: their ids.
        root: the simulated subject's folder, which adds semantic recall and object identity; None
            for the scores of pixels alone.
    """
    ones = np.ones(len(stimuli))
    truth = None if root is None else SimulatedTruth.load(root, image_ids)

    def score(reconstructions: UInt8[np.ndarray, "b y x c"]) -> Scores:
        found: Scores = {
            name: (values, ones) for name, values in pixel_scores(stimuli, reconstructions).items()
        }
        return found if truth is None else found | truth.counts(reconstructions)

    return score


def mean_scores(scores: Scores) -> dict[str, float]:
    """The value of each score."""
    return {name: float(over.sum() / under.sum()) for name, (over, under) in scores.items()}


def permuted_rows(count: int, seed: int = 0) -> Int[np.ndarray, " b"]:
    """An order in which no image stands at its own place, drawn at random: a control.

    Args:
        count: number of images; a single one stays where it is.
        seed: of the order.
    """
    cycle = np.random.default_rng([seed, 1]).permutation(count)
    order = np.empty(count, int)
    order[cycle] = np.roll(cycle, 1)
    return order


def summarise(
    scores: Mapping[str, Scores], permuted: Mapping[str, Scores] | None = None, seed: int = 0
) -> dict[str, Any]:
    """Values with 95 % bootstrap intervals over images, and the differences between methods.

    Args:
        scores: of each method, on the same images.
        permuted: the same of reconstructions from the responses to other images.
        seed: of the bootstrap.

    Returns:
        "methods": method -> score -> {"value", "interval"}; "permuted": the same of the control,
        which is at chance where nothing but the responses is decoded; "improvement_over_retrieval":
        (x - baseline) / baseline, which the paper's comparison shows in percent, images resampled
        together; "low_level_start": the score with less the score without it, paired, for each of
        `PAIRS`.
    """
    methods, control = (
        {
            name: {key: bootstrap_ratio(*sums, seed) for key, sums in each.items()}
            for name, each in found.items()
        }
        for found in (scores, permuted or {})
    )
    improvement = {}
    if base := scores.get("retrieval"):
        improvement = {
            name: {
                key: bootstrap_ratio(each[key][0] - base[key][0], base[key][0], seed)
                for key in each
            }
            for name, each in scores.items()
            if name != "retrieval"
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
        "permuted": control,
        "improvement_over_retrieval": improvement,
        "low_level_start": paired,
    }
