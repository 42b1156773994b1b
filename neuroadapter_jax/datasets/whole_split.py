"""Arrays of a whole split in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from neuroadapter_jax.datasets.input_pipeline import eval_batches


def read_split(
    dataset: Any,
    keys: Sequence[str],
    *,
    batch_size: int = 50,
    of_betas: Callable[[np.ndarray], Any] | None = None,
) -> dict[str, np.ndarray]:
    """Some arrays of every image of a split, in its order, repeats of a response averaged.

    Args:
        dataset: a `PreparedDataset`.
        keys: names of the arrays, such as "betas", "image" and "latent_mean".
        batch_size: records read at once.
        of_betas: what to keep of a batch of responses [b, n], such as a few of the vertices: the
            whole cortex of all images can fill the memory. All of it when None.

    Returns:
        key -> array, one row per image; "betas" as float32.
    """
    parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    for batch in eval_batches(dataset, batch_size):
        for key, found in parts.items():
            rows = batch[key]
            if key == "betas":
                rows = rows.astype(np.float32)
                rows = rows if of_betas is None else np.asarray(of_betas(rows))
            found.append(rows[: batch["num_valid"]])
    return {key: np.concatenate(found) for key, found in parts.items()}
