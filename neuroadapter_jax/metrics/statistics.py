"""Percentile bootstrap over images."""

import numpy as np
from jaxtyping import Real

from neuroadapter_jax.errors import InputError


def bootstrap_ratio(
    numerator: Real[np.ndarray, " b"],
    denominator: Real[np.ndarray, " b"],
    seed: int = 0,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, float | list[float] | None]:
    """Ratio of two sums over images with its percentile interval.

    value = sum_b numerator_b / sum_b denominator_b; the interval's ends are the quantiles of the
    same ratio over images drawn with replacement (numerator and denominator together). With
    objects found over objects shown it is a recall, with two methods' hits their ratio.

    Args:
        numerator: one number per image.
        denominator: one number per image, not negative.
        seed: seed of the resampling.
        num_resamples: number of resamples.
        level: coverage of the interval, in (0, 1).

    Returns:
        ``value`` and ``interval`` [low, high]; None for both where the denominator sums to 0.
        Resamples whose denominator is 0 are left out.

    Raises:
        InputError: if the arrays are empty, of unequal length or not finite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.statistics import bootstrap_ratio
        >>> found, shown = np.array([1, 2, 0, 3]), np.array([2, 2, 1, 3])
        >>> result = bootstrap_ratio(found, shown)
        >>> result["value"], result["interval"][0] < 0.75 < result["interval"][1]
        (0.75, True)
    """
    numerator, denominator = (np.asarray(v, np.float64) for v in (numerator, denominator))
    if numerator.ndim != 1 or numerator.shape != denominator.shape or not len(numerator):
        raise InputError(
            "The bootstrap needs one number per image, at least one image, found arrays of shape "
            f"{numerator.shape} and {denominator.shape}."
        )
    if not (np.isfinite(numerator).all() and np.isfinite(denominator).all()):
        raise InputError(
            "The bootstrap needs finite values, found NaN or infinity: drop or repair those "
            "images first."
        )
    if denominator.sum() == 0:
        return {"value": None, "interval": None}
    count = len(numerator)
    counts = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=num_resamples
    )
    below = counts @ denominator
    resampled = (counts @ numerator)[below > 0] / below[below > 0]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return {
        "value": float(numerator.sum() / denominator.sum()),
        "interval": [float(low), float(high)],
    }


def bootstrap_interval(
    values: Real[np.ndarray, " b"],
    seed: int = 0,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, float | list[float] | None]:
    """Mean over images with its percentile interval.

    The images are the sampling unit; a two-way score keeps its pool of distractors.

    Args:
        values: one score per image.
        seed: seed of the resampling.
        num_resamples: number of resamples.
        level: coverage of the interval, in (0, 1).

    Returns:
        ``value`` and ``interval`` [low, high].

    Raises:
        InputError: if there are no values or some are not finite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.statistics import bootstrap_interval
        >>> bootstrap_interval(np.array([0.5, 0.5, 0.5]))
        {'value': 0.5, 'interval': [0.5, 0.5]}
    """
    values = np.asarray(values, np.float64)
    return bootstrap_ratio(values, np.ones_like(values), seed, num_resamples, level)
