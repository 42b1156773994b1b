"""The one writer of pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from neuroadapter_jax.files import write_file


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
