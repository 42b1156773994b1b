"""Grids of small images with labels, made with Pillow."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.pipeline import Reconstructions

_BACKGROUND = (255, 255, 255)
_INK = (40, 40, 40)


def _enlarged(image: UInt8[np.ndarray, "y x c"], scale: int) -> Image.Image:
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST)


def image_grid(
    rows: Mapping[str, UInt8[np.ndarray, "b y x c"]],
    column_labels: Sequence[str] | None = None,
    *,
    columns: int = 10,
    scale: int = 2,
    font_size: int = 14,
) -> Image.Image:
    """Puts rows of images above one another, in blocks of at most ``columns`` images.

    ``image_grid({"Stimulus": stimuli, "Reconstruction": images})`` puts each stimulus above its
    reconstruction.

    Args:
        rows: label of each row and its images, 0..255; all rows of one shape.
        column_labels: text over each column.
        columns: images side by side.
        scale: whole-number enlargement of each pixel.
        font_size: of the labels, in pixels.

    Returns:
        The picture.

    Raises:
        InputError: if rows are missing, empty or unequal, or the labels do not match.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.figures.grids import image_grid
        >>> images = np.zeros((3, 64, 64, 3), np.uint8)
        >>> picture = image_grid({"Stimulus": images, "Reconstruction": images})
        >>> picture.mode, picture.width > 3 * 64, picture.height > 2 * 64
        ('RGB', True, True)
    """
    shapes = {label: images.shape for label, images in rows.items()}
    if len(set(shapes.values())) != 1 or not min(shapes.values(), default=(0,))[0]:
        raise InputError(
            f"A grid needs rows of one shape [b, y, x, 3] with at least one image, found {shapes}."
        )
    count, height, width, _ = next(iter(shapes.values()))
    if column_labels is not None and len(column_labels) != count:
        raise InputError(f"A grid of {count} columns got {len(column_labels)} column labels.")
    font = ImageFont.load_default(font_size)
    gap, margin = 4, 10
    cell_y, cell_x = height * scale + gap, width * scale + gap
    left = margin + round(max(font.getlength(label) for label in rows)) + 8
    head = font_size + 6 if column_labels is not None else 0
    block = head + len(rows) * cell_y + margin
    columns = min(columns, count)
    picture = Image.new(
        "RGB",
        (left + columns * cell_x + margin, margin + -(-count // columns) * block),
        _BACKGROUND,
    )
    canvas = ImageDraw.Draw(picture)
    for start in range(0, count, columns):
        top = margin + start // columns * block
        for r, (label, images) in enumerate(rows.items()):
            y = top + head + r * cell_y
            canvas.text((left - 8, y + cell_y // 2), label, _INK, font, anchor="rm")
            for c, image in enumerate(images[start : start + columns]):
                picture.paste(_enlarged(image, scale), (left + c * cell_x, y))
        if column_labels is not None:
            for c, text in enumerate(column_labels[start : start + columns]):
                x = left + c * cell_x + cell_x // 2
                canvas.text((x, top + head // 2), text, _INK, font, anchor="mm")
    return picture


def no_image(height: int, width: int) -> UInt8[np.ndarray, "y x c"]:
    """A cell of a grid that says "none"."""
    picture = Image.new("RGB", (width, height), _BACKGROUND)
    canvas = ImageDraw.Draw(picture)
    canvas.rectangle((0, 0, width - 1, height - 1), outline=(190, 190, 190))
    font = ImageFont.load_default(max(8, min(height, width) // 5))
    canvas.text((width // 2, height // 2), "none", (120, 120, 120), font, anchor="mm")
    return np.asarray(picture)


def caption_grid(
    images: UInt8[np.ndarray, "b y x c"],
    captions: Sequence[str],
    *,
    columns: int = 4,
    scale: int = 3,
    font_size: int = 13,
) -> Image.Image:
    """Puts images side by side with a caption under each, wrapped to the image's width.

    Args:
        images: 0..255.
        captions: one per image.
        columns: images side by side.
        scale: whole-number enlargement of each pixel.
        font_size: of the captions, in pixels.

    Returns:
        The picture.

    Raises:
        InputError: if there are no images or the captions do not match.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.figures.grids import caption_grid
        >>> picture = caption_grid(np.zeros((2, 64, 64, 3), np.uint8), ["a dog", "a castle"])
        >>> picture.mode
        'RGB'
    """
    if len(images) == 0 or len(images) != len(captions):
        raise InputError(
            "A captioned grid needs one caption per image and at least one image, found "
            f"{len(images)} images and {len(captions)} captions."
        )
    font = ImageFont.load_default(font_size)
    _, height, width, _ = images.shape
    gap, line = 12, font_size + 4
    characters = int(width * scale / (font.getlength("abcdefghijklmnopqrstuvwxyz ") / 27))
    wrapped = [textwrap.wrap(caption, characters) for caption in captions]
    cell_x = width * scale + gap
    cell_y = height * scale + max(map(len, wrapped)) * line + gap
    columns = min(columns, len(images))
    size = (gap + columns * cell_x, gap + -(-len(images) // columns) * cell_y)
    picture = Image.new("RGB", size, _BACKGROUND)
    canvas = ImageDraw.Draw(picture)
    for i, (image, lines) in enumerate(zip(images, wrapped, strict=True)):
        x, y = gap + i % columns * cell_x, gap + i // columns * cell_y
        picture.paste(_enlarged(image, scale), (x, y))
        for row, text in enumerate(lines):
            canvas.text((x, y + height * scale + 2 + row * line), text, _INK, font)
    return picture


def save_grid(folder: str | Path, result: Reconstructions, num_shown: int = 40) -> None:
    """Writes grid.png: each stimulus, or "none" where it has no image, above its reconstruction.

    Args:
        folder: of the reconstructions.
        result: what the folder holds.
        num_shown: the first so many.
    """
    nothing = no_image(*result.stimuli.shape[1:3])
    stimuli = np.where(result.has_target[:, None, None, None], result.stimuli, nothing)
    rows = {"Stimulus": stimuli[:num_shown], "Reconstruction": result.best[:num_shown]}
    names = result.names[:num_shown] if any(result.names) else None
    save_picture(Path(folder) / "grid.png", image_grid(rows, names))
