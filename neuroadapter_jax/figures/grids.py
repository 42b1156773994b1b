"""Grids of small images with labels, made with Pillow."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.pipeline import Reconstructions

_BACKGROUND = (255, 255, 255)
_INK = (40, 40, 40)
_LABEL_CHARACTERS = 16  # of a line of a row's label
_LEAST_FONT = 8


def _enlarged(image: UInt8[np.ndarray, "y x c"], scale: int) -> Image.Image:
    size = (image.shape[1] * scale, image.shape[0] * scale)
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST)


def _font(size: int, texts: Sequence[str], width: int) -> ImageFont.FreeTypeFont:
    """The font of a size, or the largest smaller one in which every text has the width."""
    while size > _LEAST_FONT:
        font = ImageFont.load_default(size)
        if max(font.getlength(text) for text in texts) <= width:
            break
        size -= 1
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _drawn(picture: Image.Image, axes: Axes | None) -> Image.Image:
    """The picture, drawn into a figure's axes as well, if there are any."""
    if axes is not None:
        axes.imshow(np.asarray(picture))
        axes.set_axis_off()
    return picture


def image_grid(
    rows: Mapping[str, UInt8[np.ndarray, "_b y x c"]],
    column_labels: Sequence[str] | None = None,
    *,
    columns: int = 10,
    scale: int = 2,
    font_size: int | None = None,
    axes: Axes | None = None,
) -> Image.Image:
    """Puts rows of images above one another, in blocks of at most ``columns`` images.

    ``image_grid({"Stimulus": stimuli, "Reconstruction": images})`` puts each stimulus above its
    reconstruction.

    Args:
        rows: label of each row and its images [b, y, x, 3], 0..255, of one shape. A row that is the
            same in every column stands once, in the first; it may be given as one image.
        column_labels: text over each column, in a smaller font where they are long.
        columns: images side by side.
        scale: whole-number enlargement of each pixel.
        font_size: of the labels, in pixels; a sixth of the images' height when None, but 14 at
            least.
        axes: of a Matplotlib figure, to draw the picture into as well.

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
    count = max((shape[0] for shape in shapes.values()), default=0)
    sizes = {shape[1:] for shape in shapes.values()}
    if len(sizes) != 1 or not count or {shape[0] for shape in shapes.values()} - {1, count}:
        raise InputError(
            "A grid needs rows of one shape [b, y, x, 3] with at least one image, or of one image "
            f"that stands for all, found {shapes}."
        )
    height, width, _ = next(iter(sizes))
    if column_labels is not None and len(column_labels) != count:
        raise InputError(f"A grid of {count} columns got {len(column_labels)} column labels.")
    font_size = font_size or max(14, height * scale // 6)
    gap, margin = 4, 10
    cell_y, cell_x = height * scale + gap, width * scale + gap
    font = ImageFont.load_default(font_size)
    wrapped = {
        label: "\n".join(textwrap.wrap(label, _LABEL_CHARACTERS, break_on_hyphens=False))
        for label in rows
    }
    lines = [line for text in wrapped.values() for line in text.split("\n")]
    left = margin + round(max(font.getlength(line) for line in lines)) + 8
    head = font_size + 6 if column_labels is not None else 0
    block = head + len(rows) * cell_y + margin
    columns = min(columns, count)
    picture = Image.new(
        "RGB",
        (left + columns * cell_x + margin, margin + -(-count // columns) * block),
        _BACKGROUND,
    )
    canvas = ImageDraw.Draw(picture)
    small = _font(font_size, column_labels or [""], width * scale)
    for start in range(0, count, columns):
        top = margin + start // columns * block
        for r, (label, images) in enumerate(rows.items()):
            y = top + head + r * cell_y
            place = (left - 8, y + cell_y // 2)
            canvas.multiline_text(place, wrapped[label], _INK, font, anchor="rm", align="right")
            once = (images == images[:1]).all()
            own = images[:1] if once else images[start : start + columns]
            for c, image in enumerate(own):
                picture.paste(_enlarged(image, scale), (left + c * cell_x, y))
        if column_labels is not None:
            for c, text in enumerate(column_labels[start : start + columns]):
                x = left + c * cell_x + cell_x // 2
                canvas.text((x, top + head // 2), text, _INK, small, anchor="mm")
    return _drawn(picture, axes)


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
    axes: Axes | None = None,
) -> Image.Image:
    """Puts images side by side with a caption under each, wrapped to the image's width.

    Args:
        images: 0..255.
        captions: one per image.
        columns: images side by side.
        scale: whole-number enlargement of each pixel.
        font_size: of the captions, in pixels.
        axes: of a Matplotlib figure, to draw the picture into as well.

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
    return _drawn(picture, axes)


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
