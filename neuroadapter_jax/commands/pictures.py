"""The grids of pictures that commands write beside their results."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuroadapter_jax.pipeline.reconstruct import Reconstructions


def save_reconstruction_grid(folder: Path, result: "Reconstructions", num_shown: int = 40) -> None:
    """Write grid.png: each stimulus, or "none" where it has no image, above its reconstruction.

    Args:
        folder: of the reconstructions.
        result: what is in it.
        num_shown: the first so many images.
    """
    import numpy as np

    from neuroadapter_jax.figures.grids import image_grid, no_image, save_picture

    stimuli = np.where(
        result.has_target[:, None, None, None], result.stimuli, no_image(*result.stimuli.shape[1:3])
    )
    rows = {"stimulus": stimuli[:num_shown], "reconstruction": result.best[:num_shown]}
    names = result.names[:num_shown] if any(result.names) else None
    save_picture(folder / "grid.png", image_grid(rows, names))
