"""Images as files hold them, 0 to 255, and as networks see them, -1 to 1."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def to_model_range(images: UInt8[Array, "b y x c"]) -> Float[Array, "b y x c"]:
    """0 ... 255 -> [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def to_uint8(images: Float[Array, "b y x c"]) -> UInt8[Array, "b y x c"]:
    """[-1, 1] -> 0 ... 255, rounded, clipped."""
    return jnp.clip(jnp.round((images + 1.0) * 127.5), 0, 255).astype(jnp.uint8)
