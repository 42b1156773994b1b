"""What choosing among candidates gives, beside the mean candidate, a random one and an oracle."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from neuroadapter_jax.metrics.statistics import bootstrap_interval
from neuroadapter_jax.tables import markdown_table

WAYS = ("chosen", "random", "oracle")


def selection_scores(
    scores: Mapping[str, Float[np.ndarray, "b s"]],
    chosen: Int[np.ndarray, " b"],
    *,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Scores of four ways to take one of s candidates, and their paired gain over the mean one.

    "chosen": the encoder's; "random": one taken at random; "oracle": the one whose pixels correlate
    best with the stimulus, which no encoder can know; "mean": the score averaged over candidates.

    Args:
        scores: name -> score of every candidate; "pixcorr", the pixel correlation, among them.
        chosen: index of the encoder's choice.
        seed: of the random choice and the bootstrap.

    Returns:
        score -> way -> {"value", "interval"}, and for all but the mean "gain": the mean paired
        difference to the mean candidate with its interval.
    """
    count, num = scores["pixcorr"].shape
    rows = np.arange(count)
    taken = {
        "chosen": chosen,
        "random": np.random.default_rng(seed).integers(num, size=count),
        "oracle": scores["pixcorr"].argmax(axis=1),
    }
    result: dict[str, dict[str, Any]] = {}
    for name, values in scores.items():
        mean = values.mean(axis=1)
        result[name] = {"mean": bootstrap_interval(mean, seed)}
        for way in WAYS:
            own = values[rows, taken[way]]
            gain = bootstrap_interval(own - mean, seed)
            result[name][way] = bootstrap_interval(own, seed) | {"gain": gain}
    return result


def selection_table(found: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """`selection_scores` as a Markdown table.

    Args:
        found: of `selection_scores`.
        labels: names of scores.
    """
    rows = []
    for name, ways in found.items():
        cells = [f"{ways['mean']['value']:.4f}"]
        for way in WAYS:
            gain = ways[way]["gain"]
            low, high = gain["interval"]
            cells.append(
                f"{ways[way]['value']:.4f}, {gain['value']:+.4f} [{low:+.4f}, {high:+.4f}]"
            )
        rows.append([labels.get(name, name), *cells])
    return markdown_table(["score", "mean candidate", *WAYS], rows)
