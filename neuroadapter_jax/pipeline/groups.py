"""A call over many images in groups that fit into a device's memory."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


def in_groups(num: int, columns: int, most: int | None) -> list[tuple[slice, slice]]:
    """Rows and columns of groups of equal size that hold at most so many entries each.

    Equal, so that one compiled program serves all of them.

    Args:
        num: rows, such as responses.
        columns: such as candidates per response.
        most: entries of a group, at least 1; None for all in one group.
    """
    if most is None or num * columns <= most:
        return [(slice(0, num), slice(0, columns))]
    width = _divisor(columns, most)
    height = _divisor(num, most // columns) if width == columns else 1
    return [
        (slice(i, i + height), slice(j, j + width))
        for i in range(0, num, height)
        for j in range(0, columns, width)
    ]


def call_in_groups(
    call: Callable[[slice, slice], Any], groups: Sequence[tuple[slice, slice]]
) -> Any:
    """call(rows, columns) of every group, [b, s, ...] each, put together again on the host."""
    if len(groups) == 1:
        return call(*groups[0])
    rows: dict[int, list[Any]] = {}
    for row, column in groups:
        found = jax.tree.map(np.asarray, call(row, column))
        rows.setdefault(row.start, []).append(found)
    whole = [jax.tree.map(lambda *x: np.concatenate(x, axis=1), *each) for each in rows.values()]
    return jax.tree.map(lambda *x: np.concatenate(x), *whole)


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is not above `most`, which is at least 1."""
    return max(d for d in range(1, number + 1) if number % d == 0 and d <= max(1, most))
