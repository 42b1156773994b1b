"""Work over many rows in batches of one size, so that one compiled program serves them all."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int, Shaped


def filled_batches(count: int, batch_size: int) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """Rows 0 to count - 1 in batches of one size; the last one repeats its last row.

    Args:
        count: number of rows.
        batch_size: rows per batch, b.

    Yields:
        The rows of a batch, and how many of them are not repetitions.
    """
    for first in range(0, count, batch_size):
        valid = min(batch_size, count - first)
        yield np.minimum(np.arange(first, first + batch_size), count - 1), valid


def map_batches(
    function: Callable[[Int[np.ndarray, " b"]], Shaped[np.ndarray, "b ..."]],
    count: int,
    batch_size: int,
) -> Shaped[np.ndarray, "_count ..."]:
    """function(rows) of every batch of `filled_batches`, without the repetitions, as one array.

    Args:
        function: rows of one batch -> one result per row.
        count: number of rows, at least 1.
        batch_size: rows per call.
    """
    parts = [function(rows)[:valid] for rows, valid in filled_batches(count, batch_size)]
    return np.concatenate(parts)
