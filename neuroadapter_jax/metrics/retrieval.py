"""Top-1 retrieval among a pool: does an embedding name its own image among n?"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Real

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.finite import require_finite_rows
from neuroadapter_jax.metrics.statistics import bootstrap_interval

# Values of an embedding that are multiplied at once; bounds the memory of float64.
_BLOCK = 1 << 14


def retrieval_top1(
    predicted: Real[np.ndarray, "b *f"],
    true: Real[np.ndarray, "b *f"],
    *,
    pool: int = 300,
    repeats: int = 30,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " b"]]]:
    """Share of images whose own embedding is the most similar one among n, both ways.

    With S[i, j] the cosine of predicted[i] and true[j], both flattened: "forward", the image is
    found by the brain's embedding, counts i where S[i, i] is the one largest of its row;
    "backward", the brain's embedding is found by the image, the one largest of its column. A tie is
    a miss. Images are put into pools of n = min(pool, b), drawn without replacement `repeats`
    times (once where n = b, as all draws are the same then).

    MindEye (Scotti et al. 2023, arXiv 2305.18274, section 3.2) takes pools of 300 and 30 repeats.
    A smaller n is easier, so n belongs beside the number; chance is 1 / n.

    Args:
        predicted: embeddings predicted from responses, one row or stack of tokens per image.
        true: embeddings of the images, same order.
        pool: largest size of a pool, at least 2.
        repeats: pools that are drawn, at least 1.
        seed: of the pools and of the interval.

    Returns:
        "pool", "repeats", "chance", "num_images" and, for "forward" and "backward", the mean over
        images with its 95 % bootstrap interval over images and "standard_deviation" over pools
        (None for a single pool); and both directions' share of pools in which each image is found.
        Images that fell into no pool are left out of the interval and are NaN there.

    Raises:
        InputError: other shapes, fewer than two images, or a pool below 2.
        NotFiniteError: embeddings that hold NaN or infinite numbers.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.retrieval import retrieval_top1
        >>> true = np.eye(3)
        >>> predicted = np.array([[1.0, 0.2, 0.0], [0.9, 0.3, 0.0], [0.0, 0.1, 1.0]])
        >>> result, _ = retrieval_top1(predicted, true)
        >>> result["pool"], round(result["forward"]["value"], 3), result["chance"] == 1 / 3
        (3, 0.667, True)
    """
    if predicted.shape != true.shape or predicted.ndim < 2 or len(true) < 2:
        raise InputError(
            "Retrieval compares two stacks of embeddings of one shape [b, f], at least 2 images, "
            f"found {predicted.shape} and {true.shape}."
        )
    if pool < 2 or repeats < 1:
        raise InputError(
            f"Retrieval has a pool of {pool} and {repeats} repeats; expected at least 2 and 1."
        )
    similarity = _cosines(predicted, true)
    num = len(similarity)
    size = min(pool, num)
    pools = _pools(num, size, 1 if size == num else repeats, seed)
    found = {"forward": _hits(similarity, pools), "backward": _hits(similarity.T, pools)}
    result: dict[str, Any] = {
        "num_images": num,
        "pool": size,
        "repeats": len(pools),
        "chance": 1.0 / size,
    }
    per_image = {}
    counts = np.bincount(pools.ravel(), minlength=num)
    for name, hits in found.items():
        sums = np.bincount(pools.ravel(), hits.ravel(), minlength=num)
        shares = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        spread = float(hits.mean(axis=1).std(ddof=1)) if len(pools) > 1 else None
        result[name] = bootstrap_interval(shares[counts > 0], seed) | {"standard_deviation": spread}
        per_image[name] = shares
    return result, per_image


def _cosines(a: Real[np.ndarray, "b *f"], b: Real[np.ndarray, "b *f"]) -> Float[np.ndarray, "b b"]:
    """In float64, block by block: 1,000 embeddings of 257 x 768 need no second copy."""
    flat = [values.reshape(len(values), -1) for values in (a, b)]
    for values in flat:
        require_finite_rows(values, "embeddings to retrieve by")
    products = np.zeros((len(a), len(b)))
    squares = [np.zeros(len(values)) for values in flat]
    for first in range(0, flat[0].shape[1], _BLOCK):
        block = [np.asarray(x[:, first : first + _BLOCK], np.float64) for x in flat]
        products += block[0] @ block[1].T
        for square, values in zip(squares, block, strict=True):
            square += np.einsum("bf,bf->b", values, values)
    norms = [np.where(square > 0, np.sqrt(square), 1.0) for square in squares]
    return products / norms[0][:, None] / norms[1][None, :]


def _pools(num: int, size: int, repeats: int, seed: int) -> Int[np.ndarray, "k size"]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num)[:size] for _ in range(repeats)])


def _hits(
    similarity: Float[np.ndarray, "b b"], pools: Int[np.ndarray, "k size"]
) -> Bool[np.ndarray, "k size"]:
    """Whether each image of a pool exceeds all others of its row."""
    found = []
    for chosen in pools:
        part = similarity[np.ix_(chosen, chosen)].copy()
        own = np.diagonal(part).copy()
        np.fill_diagonal(part, -np.inf)
        # Products of equal rows differ by rounding, which is no difference.
        found.append(own - 1e-12 > part.max(axis=1))
    return np.stack(found)
