"""Every variant's scores over seeds, and its differences to the full model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.protocol import less_is_better
from neuroadapter_jax.studies.ablation.scores import ImageScores
from neuroadapter_jax.studies.ablation.variants import FULL, LABELS, LEVELS, PAPER, score_labels


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
    draw the same images, so the difference of two variants' values is paired over seeds and images.

    Args:
        points: of training seed k and image b.
        out_of: points that were available.
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
        InputError: no full model, or runs of another number of seeds or of other images.
    """
    if FULL not in runs:
        raise InputError(f"The variants are {sorted(runs)}; {FULL!r} has to be one of them.")
    first, count = runs[FULL][0], len(runs[FULL])
    for name, several in runs.items():
        if len(several) != count:
            raise InputError(
                f"{name} has {len(several)} seeds and {FULL} has {count}; every variant needs the "
                "same seeds."
            )
        if any(not np.array_equal(x.image_ids, first.image_ids) for x in several):
            raise InputError(f"{name} holds other images than {FULL}; reconstruct it again.")
    names = [name for name in LABELS if name in runs]
    names += [name for name in runs if name not in LABELS]
    quantiles = [(1 - coverage) / 2, (1 + coverage) / 2]

    def entry(value: float, resampled: Float[np.ndarray, " resample"]) -> dict[str, Any]:
        return {"value": value, "interval": np.quantile(resampled, quantiles).tolist()}

    results: dict[str, dict[str, Any]] = {
        name: {"scores": {}} | ({} if name == FULL else {"difference": {}}) for name in names
    }
    for score in [x for x in score_labels() if x in first.points]:
        out_of = np.tile(first.out_of[score], (count, 1))
        own = {name: np.stack([x.points[score] for x in runs[name]]) for name in names}
        values = {name: float(x.sum() / out_of.sum()) for name, x in own.items()}
        resampled = {name: crossed_bootstrap(x, out_of, seed) for name, x in own.items()}
        for name in names:
            each = (own[name].sum(axis=1) / out_of.sum(axis=1)).tolist()
            results[name]["scores"][score] = entry(values[name], resampled[name]) | {
                "per_seed": each
            }
            if name != FULL:
                results[name]["difference"][score] = entry(
                    values[name] - values[FULL], resampled[name] - resampled[FULL]
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
