"""What of an image the brain encoder reads: prepared images and a frozen backbone's features."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from neuroadapter_jax.encoder.vit import Dinov2Model

_MEAN, _SD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])  # of ImageNet
PATCH_TOKENS = 0


@dataclasses.dataclass(frozen=True)
class Features:
    """What of an image the encoders read.

    Attributes:
        backbone: a DINOv2 model; see `dinov2_folder`.
        image_size: images are resized to this many rows and columns; 425 in the released code.
        padded_size: then zeros are added below and to the right up to a multiple of the patch; 434.
    """

    backbone: str = "facebook/dinov2-base"
    image_size: int = 425
    padded_size: int = 434


def prepare_images(
    images: UInt8[Array | np.ndarray, "b y x c"], features: Features
) -> Float[Array, "b y2 x2 c"]:
    """Images as the backbone takes them: resized, normalised by ImageNet's colours, padded.

    Resizing is bilinear with antialiasing, as torchvision's.

    Args:
        images: 0 to 255.
        features: says the sizes.
    """
    size, extra = features.image_size, features.padded_size - features.image_size
    x = jnp.asarray(images, jnp.float32) / 255.0
    if x.shape[1:3] != (size, size):
        x = jax.image.resize(x, (len(x), size, size, x.shape[-1]), "bilinear", antialias=True)
    return jnp.pad((x - _MEAN) / _SD, ((0, 0), (0, extra), (0, extra), (0, 0)))


def read_features(
    backbone: Dinov2Model, images: Float[Array, "b y x c"], block: int
) -> Float[Array, "b k f"]:
    """Patch features of prepared images.

    Args:
        backbone: the model.
        images: from `prepare_images`.
        block: counted from the end, from 1: the queries of that block's attention;
            0: the patch tokens.
    """
    if block == PATCH_TOKENS:
        return backbone.patch_tokens(images)
    return backbone.query_features(images, block)
