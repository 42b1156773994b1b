"""Images on their way into records: squares of one size, and the moments of their latents."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import PIL.Image
from jaxtyping import Float, Int64, UInt8

from neuroadapter_jax.datasets.source import Source
from neuroadapter_jax.errors import InputError

EncodeImages = Callable[
    [UInt8[np.ndarray, "b y x 3"]],
    tuple[Float[np.ndarray, "b h w c"], Float[np.ndarray, "b h w c"]],
]


class ImageEncoder(NamedTuple):
    """The VAE of a backbone, as far as preparing needs it.

    Attributes:
        encode: uint8 images [b, y, x, 3] to mean and std [b, h, w, c] of the VAE's posterior, not
            multiplied by its scaling factor.
        fingerprint: identifies the weights.
    """

    encode: EncodeImages
    fingerprint: str


def read_squares(
    source: Source, ids: Int64[np.ndarray, " b"], image_size: int
) -> tuple[UInt8[np.ndarray, "b y x 3"], list[int]]:
    """Images as squares; a stimulus without one is black, and listed.

    Raises:
        InputError: the source gave another number of images, or something that is no image.
    """
    squares, lacking = np.zeros((len(ids), image_size, image_size, 3), np.uint8), []
    images = list(source.images(ids))
    if len(images) != len(ids):
        raise InputError(
            f"images of {source.name} gave {len(images)} images for {len(ids)} stimuli; expected "
            "one for each, None where there is none."
        )
    for square, image_id, image in zip(squares, ids, images, strict=True):
        if image is None:
            lacking.append(int(image_id))
        elif np.ndim(image) != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"images of {source.name} gave {image.dtype} of shape {np.shape(image)} for "
                f"stimulus {image_id}; expected uint8 [y, x, 3], red, green and blue of 0 to 255."
            )
        elif image.shape == square.shape:
            square[...] = image
        else:
            size, bilinear = (image_size, image_size), PIL.Image.Resampling.BILINEAR
            square[...] = np.asarray(PIL.Image.fromarray(image).resize(size, bilinear))
    return squares, lacking


def in_batches_of(encode_images: EncodeImages, batch_size: int) -> EncodeImages:
    """Calls the encoder with one batch size only, so that it compiles once."""

    def encode(images):
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            moments = encode_images(np.pad(batch, padding, mode="edge"))
            with np.errstate(over="ignore"):  # refused below
                parts.append([np.asarray(m, np.float16)[: len(batch)] for m in moments])
        mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise InputError(
                "The image encoder gave values that float16 cannot hold; check its weights."
            )
        return mean, std

    return encode
