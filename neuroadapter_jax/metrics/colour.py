"""How unlike the colours of two images are, whatever they show: CD and STRESS."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.pixels import check_pairs

COLOUR_METRICS = {"colour_cd": "CD (colours)", "colour_stress": "STRESS (palette)"}
PALETTE_SIDE = 8


def colour_palette(
    images: UInt8[np.ndarray, "b y x c"], side: int = PALETTE_SIDE
) -> UInt8[np.ndarray, "b _side _side c"]:
    """An image's coarse colours: resized bicubically to side x side (Pillow, 8 bits).

    DREAM (Xia et al. 2024, arXiv 2310.02265) conditions on 8 x 8 of them (blocks of 64 at 512).

    Args:
        images: 0..255.
        side: rows and columns of the palette, at least 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.colour import colour_palette
        >>> colour_palette(np.full((1, 64, 64, 3), 7, np.uint8)).shape
        (1, 8, 8, 3)
    """
    small = [Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC) for x in images]
    return np.stack([np.asarray(x) for x in small])


def colour_errors(
    images_true: UInt8[np.ndarray, "b y x c"],
    images_reconstructed: UInt8[np.ndarray, "b _y _x c"],
    bins: int = 8,
) -> dict[str, Float[np.ndarray, " b"]]:
    """Colour discrepancy and STRESS of each pair of images; of both less is better.

    With p and q the joint histograms of red, green and blue, and a and b the values of both
    palettes (see `colour_palette`)::

        colour_cd     = sqrt(1 - sum_k sqrt(p_k q_k))                  Hellinger's distance, 0 to 1
        colour_stress = sqrt(sum (a - F b)^2 / sum (F b)^2),  F = sum a^2 / sum a b      0 to 1

    STRESS: Garcia et al. 2007, J. Opt. Soc. Am. A 24, equation 1, as a share, not in percent; it is
    blind to a common factor of brightness. DREAM (Xia et al. 2024, arXiv 2310.02265) reports both
    without the size of its histograms; here they have 8 bins a channel.

    Args:
        images_true: stimuli, 0..255.
        images_reconstructed: reconstructions, 0..255, same order; of any size.
        bins: of each channel, 2 to 256.

    Raises:
        InputError: no uint8 RGB images, another number of them, or other bins.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.colour import colour_errors
        >>> red, blue = np.zeros((2, 1, 16, 16, 3), np.uint8)
        >>> red[..., 0], blue[..., 2] = 255, 255
        >>> {name: float(value[0]) for name, value in colour_errors(red, blue).items()}
        {'colour_cd': 1.0, 'colour_stress': 1.0}
    """
    if len(images_true) != len(images_reconstructed) or not 2 <= bins <= 256:
        raise InputError(
            f"Colours compare as many reconstructions as stimuli, found {len(images_true)} and "
            f"{len(images_reconstructed)}, in 2 to 256 bins, found {bins}."
        )
    for images in (images_true, images_reconstructed):
        check_pairs(images, images)
        if images.dtype != np.uint8:
            raise InputError(f"Colours need uint8 images, found {images.dtype}: convert them.")
    p, q = (_histograms(x, bins) for x in (images_true, images_reconstructed))
    shared = np.sqrt(p * q).sum(axis=1)
    a, b = (
        colour_palette(x).reshape(len(x), -1).astype(np.float64)
        for x in (images_true, images_reconstructed)
    )
    return {"colour_cd": np.sqrt(np.clip(1.0 - shared, 0.0, 1.0)), "colour_stress": _stress(a, b)}


def _histograms(images: UInt8[np.ndarray, "b y x c"], bins: int) -> Float[np.ndarray, "b _k"]:
    parts = images.reshape(len(images), -1, 3).astype(np.int64) * bins // 256
    index = (parts[..., 0] * bins + parts[..., 1]) * bins + parts[..., 2]
    counts = np.stack([np.bincount(row, minlength=bins**3) for row in index])
    return counts / index.shape[1]


def _stress(a: Float[np.ndarray, "b f"], b: Float[np.ndarray, "b f"]) -> Float[np.ndarray, " b"]:
    """1 where a palette is black and the other is not, or where they share no channel at all."""
    products = (a * b).sum(axis=1)
    both_black = ~a.any(axis=1) & ~b.any(axis=1)
    factor = (a**2).sum(axis=1) / np.where(products > 0, products, 1.0)
    scaled = factor[:, None] * b
    below = (scaled**2).sum(axis=1)
    value = np.sqrt(((a - scaled) ** 2).sum(axis=1) / np.where(below > 0, below, 1.0))
    return np.where(both_black, 0.0, np.where(products > 0, np.minimum(value, 1.0), 1.0))
