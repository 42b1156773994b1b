"""Whether a difference between two scores of the same images is one, and families of such tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Real
from scipy.stats import permutation_test

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.statistics import bootstrap_interval


def sign_flip_p(
    differences: Real[np.ndarray, " b"], seed: int = 0, num_resamples: int = 9999
) -> float:
    """Two-sided probability of so large a mean if each image's difference could have either sign.

    The permutation test of paired scores (Fisher 1935; `scipy.stats.permutation_test`): exact where
    all sign patterns can be tried, else at least 2 / (num_resamples + 1).

    Args:
        differences: one score less the other, per image; finite.
        seed: of the sign patterns.
        num_resamples: how many are tried.

    Returns:
        The probability, in (0, 1]; 1 where all differences are 0.

    Raises:
        InputError: there are no differences, or some are not finite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.comparisons import sign_flip_p
        >>> sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0]))  # one of 16 patterns, and its mirror image
        0.125
    """
    values = np.asarray(differences, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError(
            f"The differences have shape {values.shape} or are not all finite; expected one finite "
            "number per image."
        )
    if not values.any():
        return 1.0
    if len(values) == 1:
        return 1.0
    found = permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=num_resamples,
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def paired_difference(
    one: Real[np.ndarray, " b"], other: Real[np.ndarray, " b"], seed: int = 0
) -> dict[str, Any]:
    """Mean difference of two scores of the same images.

    Args:
        one: a score per image.
        other: another score of the same images.
        seed: of the bootstrap and of the test.

    Returns:
        ``value``, ``interval`` by bootstrap over images, and ``p`` of `sign_flip_p`.

    Raises:
        InputError: not one finite score per image each.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.comparisons import paired_difference
        >>> found = paired_difference(np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.4, 0.3]))
        >>> round(found["value"], 3), found["p"]
        (0.4, 0.25)
    """
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape:
        raise InputError(
            f"The scores have shapes {one.shape} and {other.shape}; expected those of the same "
            "images."
        )
    return bootstrap_interval(one - other, seed) | {"p": sign_flip_p(one - other, seed)}


def holm(p_values: Sequence[float] | Float[np.ndarray, " k"]) -> list[float]:
    """Probabilities of a family of tests, adjusted so that any false alarm has the stated chance.

    With the k probabilities in rising order, adjusted_i = max over j <= i of
    min(1, (k - j) p_j), j from 0 (Holm 1979, Scandinavian Journal of Statistics 6, 65).

    Args:
        p_values: one per test of the family, each in [0, 1].

    Returns:
        The adjusted probabilities, in the order given.

    Raises:
        InputError: a value outside [0, 1].

    Examples:
        >>> from neuroadapter_jax.metrics.comparisons import holm
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError(f"The probabilities are {values.tolist()}; expected numbers from 0 to 1.")
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1.0, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted.tolist()


def correct_family(tests: Sequence[dict[str, Any]]) -> int:
    """Writes `holm`'s adjusted probability into each test of a family, as ``p_holm``.

    Args:
        tests: each with ``p``, such as `paired_difference` returns; changed in place.

    Returns:
        How many tests the family has.
    """
    for test, p in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = p
    return len(tests)
