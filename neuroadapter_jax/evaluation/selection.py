"""What choosing among candidates gives, beside the mean candidate, a random one and an oracle."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.evaluation.bootstrap import bootstrap_interval
from neuroadapter_jax.evaluation.identification import two_way_pixels
from neuroadapter_jax.evaluation.metrics import pixel_correlation


def selection_scores(
    seen: UInt8[np.ndarray, "b y x c"],
    candidates: UInt8[np.ndarray, "b s y x c"],
    chosen: Int[np.ndarray, " b"],
    *,
    further: dict[str, Float[np.ndarray, "b s"]] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Scores of four ways to take one of s candidates, and their paired gain over the mean one.

    "chosen": the judge's; "random": one drawn at random; "oracle": the one whose pixels correlate
    best with the stimulus, which no judge can know; "mean": the score averaged over candidates.

    Two-way identification has the stimuli as distractors (see `two_way`), so a candidate's score
    does not depend on which candidates other images take.

    Args:
        seen: stimuli.
        candidates: reconstructions of each.
        chosen: index of the judge's choice.
        further: name -> another score of each candidate.
        seed: of the random choice and the bootstrap.

    Returns:
        score -> way -> {"value", "interval"}, and for all but the mean "gain": the mean paired
        difference to the mean candidate with its interval.
    """
    count, num = candidates.shape[:2]
    columns = [candidates[:, j] for j in range(num)]
    scores = {
        "two_way_pixels": np.stack([two_way_pixels(seen, x) for x in columns], axis=1),
        "pixel_correlation": np.stack([pixel_correlation(seen, x) for x in columns], axis=1),
        **(further or {}),
    }
    rows = np.arange(count)
    ways = {
        "chosen": chosen,
        "random": np.random.default_rng(seed).integers(num, size=count),
        "oracle": scores["pixel_correlation"].argmax(axis=1),
    }
    result: dict[str, dict[str, Any]] = {}
    for name, values in scores.items():
        mean = values.mean(axis=1)
        result[name] = {"mean": bootstrap_interval(mean, seed)}
        for way, index in ways.items():
            taken = values[rows, index]
            gain = bootstrap_interval(taken - mean, seed)
            result[name][way] = bootstrap_interval(taken, seed) | {"gain": gain}
    return result
