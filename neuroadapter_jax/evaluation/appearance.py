"""How unlike two images are: in pixels, structure, latents, features, and in what they show."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.encoder.brain_encoder import (
    PATCH_TOKENS,
    Features,
    prepare_images,
    read_features,
)
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.metrics.pixels import ssim

MEASURES = ("pixel", "structure", "latent", "feature", "category")


class Appearance(NamedTuple):
    """Images as the distances compare them.

    Attributes:
        images: 0..255.
        latents: means of the backbone's autoencoder.
        features: patch tokens of a vision transformer.
        read: category in each slot, -1 for empty.
    """

    images: UInt8[np.ndarray, "b y x c"]
    latents: Float[np.ndarray, "b d"]
    features: Float[np.ndarray, "b f"]
    read: Int[np.ndarray, "b slot"]


def make_appearance(
    vae: AutoencoderKL, vit: Dinov2Model, reader: SceneReader, batch_size: int = 50
) -> Callable[[UInt8[np.ndarray, "b y x c"]], Appearance]:
    """images -> `Appearance`, by networks that were trained on images alone."""
    size = vit.config.image_size
    features = Features(image_size=size, padded_size=size)
    vae_graph, vae_params = nnx.split(vae)
    vit_graph, vit_params = nnx.split(vit)

    @jax.jit
    def look(vae_params, vit_params, images):
        latents, _ = nnx.merge(vae_graph, vae_params).encode(images / 127.5 - 1)
        tokens = read_features(
            nnx.merge(vit_graph, vit_params), prepare_images(images, features), PATCH_TOKENS
        )
        return latents, tokens

    def appearance(images: UInt8[np.ndarray, "b y x c"]) -> Appearance:
        found = []
        for rows, valid in filled_batches(len(images), batch_size):
            both = look(vae_params, vit_params, jnp.asarray(images[rows]))
            found.append([np.asarray(x)[:valid].reshape(valid, -1) for x in both])
        latents, tokens = (np.concatenate(x) for x in zip(*found, strict=True))
        return Appearance(images, latents, tokens, read_scenes(reader, images))

    return appearance


def distances(a: Appearance, b: Appearance) -> dict[str, Float[np.ndarray, " b"]]:
    """How unlike two stacks of images are, pair by pair; 0 for the same image.

    * ``pixel``, ``latent``, ``feature``: root mean square of the difference of the pixels, the
      latents, the patch tokens.
    * ``structure``: 1 - SSIM.
    * ``category``: number of slots in which another category (or none, or one at all) is read.
    """

    def rms(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " b"]:
        difference = x.reshape(len(x), -1).astype(np.float64) - y.reshape(len(y), -1)
        return np.sqrt(np.square(difference).mean(axis=1))

    return {
        "pixel": rms(a.images, b.images),
        "structure": 1.0 - ssim(a.images, b.images),
        "latent": rms(a.latents, b.latents),
        "feature": rms(a.features, b.features),
        "category": (a.read != b.read).sum(axis=1).astype(float),
    }
