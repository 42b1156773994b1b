"""Semantic recall and precision: which category is read in which slot of a scene.

A reading holds one category index per slot, or -1 for an empty slot.
"""

import numpy as np
from jaxtyping import Float, Int

from neuroadapter_jax.errors import InputError

EMPTY = -1


def semantic_counts(
    read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]
) -> tuple[Int[np.ndarray, " b"], Int[np.ndarray, " b"], Int[np.ndarray, " b"]]:
    """Counts, per image, of objects read rightly, shown, and read.

    An object is read rightly when the reading at its own slot is its category.

    Args:
        read: category read in each slot, -1 for empty.
        truth: category shown in each slot, -1 for empty.

    Returns:
        ``(hits, shown, claimed)``, integers per image.

    Raises:
        InputError: if the shapes differ.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import semantic_counts
        >>> truth = np.array([[3, -1, 5]])  # category 3 in slot 0, category 5 in slot 2
        >>> read = np.array([[3, 2, -1]])
        >>> [count.tolist() for count in semantic_counts(read, truth)]
        [[1], [2], [2]]
    """
    if read.ndim != 2 or read.shape != truth.shape:
        raise InputError(
            "A reading and its truth must have one shape [b, slot], found "
            f"{read.shape} and {truth.shape}."
        )
    shown, claimed = truth != EMPTY, read != EMPTY
    hits = shown & (read == truth)
    return hits.sum(axis=1), shown.sum(axis=1), claimed.sum(axis=1)


def semantic_recall(read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]) -> float:
    """Share of the objects shown whose category is read at their slot: sum hits / sum shown.

    Args:
        read: category read in each slot, -1 for empty.
        truth: category shown in each slot, -1 for empty.

    Returns:
        A share in [0, 1]; NaN if nothing is shown.

    Raises:
        InputError: if the shapes differ.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import semantic_recall
        >>> semantic_recall(np.array([[3, 2, -1]]), truth=np.array([[3, -1, 5]]))
        0.5
    """
    hits, shown, _ = semantic_counts(read, truth)
    return float(hits.sum() / shown.sum()) if shown.any() else float("nan")


def semantic_precision(read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]) -> float:
    """Share of the objects read that are shown, with that category at that slot.

    Args:
        read: category read in each slot, -1 for empty.
        truth: category shown in each slot, -1 for empty.

    Returns:
        A share in [0, 1]; NaN if nothing is read.

    Raises:
        InputError: if the shapes differ.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import semantic_precision
        >>> semantic_precision(np.array([[3, -1, -1]]), truth=np.array([[3, -1, 5]]))
        1.0
    """
    hits, _, claimed = semantic_counts(read, truth)
    return float(hits.sum() / claimed.sum()) if claimed.any() else float("nan")


def chance_recall(read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]) -> float:
    """Expected recall when readings are assigned to images by a uniformly random permutation.

    With sums over slots and categories, and # the number of images::

        chance = sum #read(slot, category) #truth(slot, category) / (b sum #truth(slot, category))

    exact, for whatever habits the readings have (favourite slots and categories).

    Args:
        read: category read in each slot, -1 for empty.
        truth: category shown in each slot, -1 for empty.

    Returns:
        A share in [0, 1]; NaN if nothing is shown.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import chance_recall
        >>> truth = np.array([[0], [1]])  # two images, each with another category in its slot
        >>> chance_recall(truth, truth)
        0.5
    """
    _, shown, _ = semantic_counts(read, truth)
    if not shown.any():
        return float("nan")
    categories = np.unique(truth[truth != EMPTY])[:, None, None]
    matches = ((read == categories).sum(axis=1) * (truth == categories).sum(axis=1)).sum()
    return float(matches / (len(read) * shown.sum()))


def permuted_recall(
    read: Int[np.ndarray, "b slot"],
    truth: Int[np.ndarray, "b slot"],
    seed: int = 0,
    num_permutations: int = 2000,
) -> Float[np.ndarray, " permutation"]:
    """Recalls of the same readings assigned to images by random permutations.

    Args:
        read: category read in each slot, -1 for empty.
        truth: category shown in each slot, -1 for empty.
        seed: seed of the permutations.
        num_permutations: how many to draw.

    Returns:
        One recall per permutation: the null distribution of `semantic_recall`.

    Raises:
        InputError: if the shapes differ.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import permuted_recall
        >>> truth = np.array([[0], [1]])  # two images, each with another category in its slot
        >>> recalls = permuted_recall(truth, truth, num_permutations=100)
        >>> np.unique(recalls).tolist()  # either all are right, or none is
        [0.0, 1.0]
    """
    _, shown, _ = semantic_counts(read, truth)
    matches = (read[:, None] == truth[None]) & (truth[None] != EMPTY)
    hits = matches.sum(axis=2)
    rng = np.random.default_rng(seed)
    images = np.arange(len(read))
    totals = [hits[rng.permutation(len(read)), images].sum() for _ in range(num_permutations)]
    return np.array(totals) / shown.sum()


def derangement(num_images: int, seed: int = 0) -> Int[np.ndarray, " b"]:
    """A random assignment of images to responses in which no image keeps its own.

    One random cycle through all images. ``responses[derangement(b)]`` are the responses of the
    permutation control.

    Args:
        num_images: number of images, at least 2.
        seed: seed of the cycle.

    Returns:
        Indices, each 0..b-1 once.

    Raises:
        InputError: if there are fewer than two images.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.recall import derangement
        >>> order = derangement(5)
        >>> sorted(order.tolist()), bool((order == np.arange(5)).any())
        ([0, 1, 2, 3, 4], False)
    """
    if num_images < 2:
        raise InputError(f"A derangement needs at least 2 images, found {num_images}.")
    order = np.random.default_rng(seed).permutation(num_images)
    result = np.empty(num_images, np.int64)
    result[order] = np.roll(order, -1)
    return result
