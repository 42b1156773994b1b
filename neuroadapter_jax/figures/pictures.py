"""The one writer of pictures, the one maker of panels, and the colours of ROIs."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image

from neuroadapter_jax.files import write_file


def panels(
    figure: Figure | None, rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, Any]:
    """A figure, the caller's or a new one, and its axes as an array [rows, columns].

    Args:
        figure: an empty one to draw into; a new one when None.
        rows: of panels.
        columns: of panels.
        size: width and height of a new figure, inches.
        options: of `Figure.subplots`.
    """
    figure = plt.figure(figsize=size) if figure is None else figure
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save_picture(path: str | Path, picture: Image.Image | Figure, dpi: int = 110) -> None:
    """Writes a picture or a figure as PNG, whole or not at all; a figure is closed.

    Args:
        path: file to write; its folder is made if missing.
        picture: what to write.
        dpi: resolution of a figure, dots per inch.
    """
    if isinstance(picture, Image.Image):
        image = picture
        write_file(path, lambda partial: image.save(partial, format="PNG"))
        return
    figure = picture
    write_file(
        path, lambda partial: figure.savefig(partial, dpi=dpi, format="png", facecolor="white")
    )
    plt.close(figure)


def tab20() -> Float[np.ndarray, "20 3"]:
    """Matplotlib's twenty colours that tell kinds apart."""
    return plt.get_cmap("tab20")(np.arange(20))[:, :3]


def roi_colours(count: int) -> list:
    """The colours of so many ROIs, the same in every figure, as rows of red, green and blue.

    Args:
        count: of the ROIs.
    """
    palette = tab20()
    bright = [palette[i] for i in (6, 2, 12, 0, 4, 18, 16, 10, 8, 7, 3, 13, 1, 5, 19, 17, 11, 9)]
    return [bright[i % len(bright)] for i in range(count)]
