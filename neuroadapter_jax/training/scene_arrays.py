"""What frozen networks make of the training scenes, once: computed in pieces, kept in a file."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float16, Shaped, UInt8

from neuroadapter_jax.diffusion.images import to_model_range
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.files import write_file
from neuroadapter_jax.readers import read_npy

_AT_ONCE = 64


def in_pieces(
    function: Callable[[np.ndarray], np.ndarray], rows: Shaped[np.ndarray, "n ..."]
) -> Shaped[np.ndarray, "n ..."]:
    """function(rows), 64 rows at once."""
    starts = range(0, len(rows), _AT_ONCE)
    return np.concatenate([np.asarray(function(rows[i : i + _AT_ONCE])) for i in starts])


def scaled_latents(
    vae: AutoencoderKL, images: UInt8[np.ndarray, "n Y X 3"]
) -> Float16[np.ndarray, "n y x c"]:
    """The autoencoder's mean latents of images, times its scaling factor."""
    graph, params = nnx.split(vae)
    encode = jax.jit(lambda params, x: nnx.merge(graph, params).encode(to_model_range(x))[0])
    latents = in_pieces(lambda x: encode(params, x), images) * vae.config.scaling_factor
    return latents.astype(np.float16)


def kept_in_file(path: Path, what: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """make(), or what the file has of an earlier call; the folder has to be one run's alone."""
    if path.is_file():
        return read_npy(path, what, remedy=f"delete {path}")
    made = make()
    write_file(path, lambda partial: np.save(partial, made))
    return made
