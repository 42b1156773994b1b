"""Files and arrays of responses: what the readers have in common."""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from neuroadapter_jax.cortex.surface_files import open_mgh
from neuroadapter_jax.datasets.nsd.files import where_from
from neuroadapter_jax.errors import InputError, MissingFileError

_VERTEX_BLOCK = 8192


def mgh_shape(path: Path) -> tuple[int, int, int, int]:
    """Shape [vertices, 1, 1, trials] promised by the header, once the file's length fits it.

    Args:
        path: the file.
    """
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist; check the root, the subject and the space, or "
            f"{where_from(path)}."
        )
    image = open_mgh(path, remedy=where_from(path))
    vertices, one, other, trials = (*map(int, image.shape), 1, 1, 1)[:4]
    return vertices, one, other, trials


def fill_nan_vertices(betas: np.ndarray, path: Path) -> Int64[np.ndarray, " m"]:
    """Sets features that are NaN in all trials [trials, n] to 0, in place, and returns them.

    Args:
        betas: responses [trials, n]; changed.
        path: what they were read from, for the message.

    Raises:
        InputError: a feature that is NaN, or infinite, in some trials only.

    Examples:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from neuroadapter_jax.datasets.responses import fill_nan_vertices
        >>> betas = np.array([[1.0, np.nan], [2.0, np.nan]], np.float32)
        >>> fill_nan_vertices(betas, Path("lh.betas_session01.mgh")).tolist(), betas.tolist()
        ([1], [[1.0, 0.0], [2.0, 0.0]])
    """
    finite = np.isfinite(betas)
    if finite.all():
        return np.zeros(0, np.int64)
    empty = np.isnan(betas).all(axis=0)
    broken = np.flatnonzero(~finite.all(axis=0) & ~empty)
    if len(broken):
        trials = len(betas) - np.count_nonzero(finite[:, broken[0]])
        raise InputError(
            f"{path} is NaN or infinite in {trials} of {len(betas)} trials at vertex {broken[0]} "
            f"({len(broken)} such vertices); only a vertex that is NaN in all trials of a session "
            f"is known to occur, so {where_from(path)}."
        )
    vertices = np.flatnonzero(empty)
    betas[:, vertices] = 0
    return vertices


def zscore(betas: np.ndarray) -> None:
    """Z-scores each column in place (divisor N); a constant column becomes 0.

    By blocks of columns, so that float64 needs little memory.

    Args:
        betas: responses [trials, n]; changed.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.datasets.responses import zscore
        >>> betas = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
        >>> zscore(betas)
        >>> betas.tolist()
        [[-1.0, 0.0], [1.0, 0.0]]
    """
    for start in range(0, betas.shape[1], _VERTEX_BLOCK):
        part = betas[:, start : start + _VERTEX_BLOCK]
        values = part.astype(np.float64)
        constant = values.max(axis=0) == values.min(axis=0)
        values -= values.mean(axis=0)
        deviation = values.std(axis=0)
        part[...] = values / np.where(constant, 1, deviation)
        part[:, constant] = 0
