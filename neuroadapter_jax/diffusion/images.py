"""Images as files hold them, 0 to 255, and as networks see them, -1 to 1."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def to_model_range(images: UInt8[Array, "b y x c"]) -> Float[Array, "b y x c"]:
    """Bytes 0 ... 255 as numbers in [-1, 1], which the VAE reads.

    Args:
        images: 0 to 255.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.diffusion.images import to_model_range
        >>> to_model_range(np.array([[[[0, 255]]]], np.uint8)).tolist()
        [[[[-1.0, 1.0]]]]
    """
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(images: Float[Array, "b y x c"]) -> UInt8[Array, "b y x c"]:
    """Numbers in [-1, 1], which the VAE writes, as bytes 0 ... 255, rounded and clipped.

    Args:
        images: about -1 to 1.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.images import to_uint8
        >>> to_uint8(jnp.array([[[[-1.0, 0.0, 1.2]]]])).tolist()
        [[[[0, 128, 255]]]]
    """
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
