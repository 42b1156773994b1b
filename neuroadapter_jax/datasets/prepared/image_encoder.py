"""The backbone's VAE as a function from images to the moments of their latents."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neuroadapter_jax.datasets.prepared.images import ImageEncoder
from neuroadapter_jax.diffusion.config_files import component_config
from neuroadapter_jax.diffusion.weights import backbone_folder, load_component
from neuroadapter_jax.ranges import SettingError

# Rows of pixels from which on images are encoded one after the other, which saves memory alone.
LARGE = 256


def require_image_size(backbone: str | Path, image_size: int) -> None:
    """Refuse a size of images that a backbone's networks cannot halve as often as they do.

    Args:
        backbone: see `backbone_folder`; no weights are read. Without a U-Net, which preparing does
            not need, the autoencoder alone counts.
        image_size: rows and columns.

    Raises:
        SettingError: another size than a multiple of what the autoencoder and the U-Net divide by.
    """
    folder = backbone_folder(backbone)
    multiple = component_config(folder, "vae").downscale
    if (folder / "unet" / "config.json").is_file():
        multiple *= 2 ** (len(component_config(folder, "unet").block_out_channels) - 1)
    if image_size % multiple:
        raise SettingError("image_size", image_size, f"a multiple of {multiple} for {backbone}")


def load_image_encoder(backbone: str | Path) -> ImageEncoder:
    """Loads the VAE of a backbone, see `backbone_folder`.

    Its fingerprint is a hash of the VAE's files.

    Args:
        backbone: a folder, a shipped name such as "tiny-sd", or a Hub id.
    """
    folder = backbone_folder(backbone)
    graph, state = nnx.split(load_component(backbone, "vae"))

    @jax.jit
    def moments(state, images):
        vae = nnx.merge(graph, state)
        if images.shape[1] < LARGE:
            return vae.encode(images)
        return jax.tree.map(lambda x: x[:, 0], jax.lax.map(vae.encode, images[:, None]))

    def encode_images(images):
        mean, std = moments(state, jnp.asarray(images, jnp.float32) / 127.5 - 1)
        return np.asarray(mean), np.asarray(std)

    return ImageEncoder(encode_images, _folder_hash(folder / "vae"))


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".json", ".safetensors"}):
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
