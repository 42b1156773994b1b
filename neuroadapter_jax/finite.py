"""Arrays that have to be finite: weights, features and latents are refused where they are not."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Shaped

from neuroadapter_jax.errors import NotFiniteError


def finite_rows(array: Shaped[np.ndarray, "b ..."]) -> Bool[np.ndarray, " b"]:
    """Whether all numbers of each row are finite."""
    return np.isfinite(array).all(axis=tuple(range(1, np.ndim(array))))


def require_finite_rows(array: Shaped[np.ndarray, "b ..."], what: str) -> None:
    """Refuse rows of features or scores of which one is NaN or infinite.

    Args:
        array: a row per image.
        what: the rows are, for the message.

    Raises:
        NotFiniteError: so it is; the first such row is named, counted from 0.
    """
    bad = np.flatnonzero(~finite_rows(array))
    if len(bad):
        raise NotFiniteError(
            f"{what}: {len(bad)} of {len(array)} rows hold NaN or infinite numbers, first "
            f"row {bad[0]}; expected finite numbers, so look at the image and at the network."
        )


def require_finite_tensors(
    tensors: Mapping[str, Shaped[np.ndarray, "..."]], source: str, remedy: str
) -> None:
    """Refuse weights of which one is NaN or infinite.

    Args:
        tensors: by name.
        source: the file they are from or go to, for the message.
        remedy: what to do.

    Raises:
        NotFiniteError: so it is; the first such tensor is named.
    """
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            count = int((~np.isfinite(tensor)).sum())
            raise NotFiniteError(
                f"{source}: {count} of {tensor.size} numbers of {name} are NaN or infinite; "
                f"expected finite weights, so {remedy}."
            )
