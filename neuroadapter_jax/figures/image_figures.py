"""Grids of images as figures of Matplotlib, as notebooks and documentation show them."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure

from neuroadapter_jax.figures.grids import image_grid

_DPI = 100
_TITLE = 28  # pixels


def grid_figure(
    rows: Mapping[str, UInt8[np.ndarray, "_b y x c"]],
    column_labels: Sequence[str] | None = None,
    *,
    columns: int = 10,
    scale: int = 2,
    title: str = "",
    figure: Figure | None = None,
) -> Figure:
    """Rows of images above one another, as `image_grid` puts them, in a figure of their size.

    ``grid_figure({"Stimulus": stimuli, "Reconstruction": images})`` shows each stimulus above its
    reconstruction.

    Args:
        rows: see `image_grid`.
        column_labels: text over each column.
        columns: images side by side.
        scale: whole-number enlargement of each pixel.
        title: text over the figure.
        figure: an empty one to draw into; when None a new one, in which a pixel of the grid is one
            of the figure at 100 dots per inch.

    Returns:
        The figure; the caller closes it.

    Raises:
        InputError: see `image_grid`.
    """
    picture = image_grid(rows, column_labels, columns=columns, scale=scale)
    head = _TITLE if title else 0
    height = picture.height + head
    if figure is None:
        figure = plt.figure(figsize=(picture.width / _DPI, height / _DPI), dpi=_DPI)
    axis = figure.add_axes((0, 0, 1, picture.height / height))
    axis.imshow(np.asarray(picture), interpolation="nearest")
    axis.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=12, y=1 - 6 / height, va="top")
    return figure
