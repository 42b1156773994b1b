"""Which candidate image predicts the measured response best."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# Relative variance below which values count as constant: rounding noise of float32.
_CONSTANT = 1e-10
# Two correlations count as equal up to this difference. The same image at another place of a batch,
# or on another kind of processor, is predicted with other last bits, which moves r by less.
ROUNDING = 1e-5


def masked_correlation(
    a: Float[Array | np.ndarray, "*#b n"],
    b: Float[Array | np.ndarray, "*#b n"],
    mask: Bool[Array | np.ndarray, " n"],
) -> Float[Array, "*b"]:
    """Pearson's r over the vertices of a mask.

    ::

        r = sum_v (a_v - mean a) (b_v - mean b)
            / sqrt(sum_v (a_v - mean a)^2 sum_v (b_v - mean b)^2)

    A vertex where either side is NaN or infinite is left out of that pair alone. r is NaN where
    fewer than two vertices are left, or either side is constant over them: there is no evidence,
    neither for nor against.

    Args:
        a: responses, any unit.
        b: responses to correlate with.
        mask: which vertices count.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.ranking import masked_correlation
        >>> a = np.array([1.0, 2.0, 3.0, 9.0, np.nan])
        >>> b = np.array([2.0, 4.0, 6.0, 0.0, 1.0])
        >>> mask = np.array([True, True, True, False, True])
        >>> round(float(masked_correlation(a, b, mask)), 4)  # over the first three vertices
        1.0
    """
    a, b = jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    valid = mask & jnp.isfinite(a) & jnp.isfinite(b)
    count = valid.sum(axis=-1)

    def centred(x):
        x = jnp.where(valid, x, 0.0)
        mean = x.sum(axis=-1, keepdims=True) / jnp.maximum(count, 1)[..., None]
        return jnp.where(valid, x - mean, 0.0), jnp.square(x).sum(axis=-1)

    (a, squares_a), (b, squares_b) = centred(a), centred(b)
    variance_a, variance_b = jnp.square(a).sum(axis=-1), jnp.square(b).sum(axis=-1)
    defined = (
        (count >= 2) & (variance_a > _CONSTANT * squares_a) & (variance_b > _CONSTANT * squares_b)
    )
    # The roots apart: their product would overflow before r does.
    scale = jnp.sqrt(variance_a) * jnp.sqrt(variance_b)
    r = (a * b).sum(axis=-1) / jnp.where(defined, scale, 1.0)
    return jnp.where(defined, r, jnp.nan)


def pairwise_correlation(
    a: Float[Array | np.ndarray, "b n"],
    b: Float[Array | np.ndarray, "k n"],
) -> Float[Array, "b k"]:
    """`masked_correlation` of every row of a with every row of b, as one matrix product.

    Args:
        a: finite responses of the vertices that count, any unit.
        b: responses to correlate with.

    Returns:
        Pearson's r, NaN where a row is constant.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.ranking import pairwise_correlation
        >>> a, b = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> np.round(pairwise_correlation(a, b), 4).tolist()
        [[1.0, -1.0]]
    """

    def standardised(x):
        x = jnp.asarray(x, jnp.float32)
        centred = x - x.mean(axis=1, keepdims=True)
        variance, squares = jnp.square(centred).sum(axis=1), jnp.square(x).sum(axis=1)
        length = jnp.where(variance > _CONSTANT * squares, jnp.sqrt(variance), jnp.nan)
        return centred / length[:, None]

    # The default precision of accelerators would round r to three digits.
    return jnp.matmul(standardised(a), standardised(b).T, precision=jax.lax.Precision.HIGHEST)


def choose(scores: Float[np.ndarray, "b s"]) -> Int[np.ndarray, " b"]:
    """Index of the highest score of each row: the first of equals, and NaN loses to any number.

    Args:
        scores: correlations, -1 to 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.ranking import choose
        >>> choose(np.array([[0.1, 0.4, np.nan], [0.3, 0.3, 0.2]])).tolist()
        [1, 0]
    """
    return best_candidates(scores, 1)[:, 0]


def best_candidates(scores: Float[np.ndarray, "b s"], count: int) -> Int[np.ndarray, "b _k"]:
    """Indices of the highest scores of each row, the best first.

    The best is the first whose score lies within `ROUNDING` of the row's maximum, so that equal
    images rank by their place whatever the processor; the next is the best of the rest. NaN loses
    to any number.

    Args:
        scores: correlations, -1 to 1.
        count: how many, 1 to s.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.ranking import best_candidates
        >>> best_candidates(np.array([[0.1, 0.4, np.nan, 0.2]]), count=2).tolist()
        [[1, 3]]
    """
    scores = np.array(scores, np.float64)
    scores[np.isnan(scores)] = -np.inf
    rows, found = np.arange(len(scores)), []
    left = np.ones(scores.shape, bool)
    for _ in range(count):
        highest = np.where(left, scores, -np.inf).max(axis=1, keepdims=True)
        found.append(np.argmax(left & (scores >= highest - ROUNDING), axis=1))
        left[rows, found[-1]] = False
    return np.stack(found, axis=1)
