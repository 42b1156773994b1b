"""A backbone of random weights and very small widths, in the diffusers layout."""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL
from neuroadapter_jax.diffusion.weights import ASSETS, save_component, save_schedule


def random_network(make: Callable[[nnx.Rngs], nnx.Module], seed: int) -> nnx.Module:
    """A module drawn by NumPy, so that nothing is compiled, no bias is 0 and no norm is 1."""
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(abstract_network(make))

    def fill(path, leaf):
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        if leaf.ndim > 1:
            noise /= np.prod(leaf.shape[:-1]) ** 0.5
        elif "scale" in str(path[-2:]):
            noise = 1 + 0.3 * noise
        else:
            noise = 0.3 * noise
        return jnp.asarray(noise)

    return nnx.merge(graph, jax.tree_util.tree_map_with_path(fill, state))


def write_backbone(folder: Path) -> Path:
    """Images 64 x 64, latents 16 x 16 x 4, and tiny-sd's own vocabulary."""
    shutil.copytree(ASSETS / "tiny-sd" / "tokenizer", folder / "tokenizer")
    shutil.copy(ASSETS / "tiny-sd" / "model_index.json", folder)
    tokenizer = CLIPTokenizer(folder / "tokenizer")
    configs = {
        "vae": AutoencoderConfig(
            block_out_channels=(8, 8, 8), layers_per_block=1, norm_num_groups=4, sample_size=64
        ),
        "unet": UNetConfig(
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=4,
        ),
        "text_encoder": CLIPTextConfig(tokenizer.vocab_size, 8, 13, 1, 2, tokenizer.length),
    }
    classes = {"vae": AutoencoderKL, "unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    for seed, (name, config) in enumerate(configs.items()):
        cls = classes[name]
        network = random_network(lambda rngs, c=config, cls=cls: cls(c, rngs=rngs), seed)
        save_component(network, folder, name)
    save_schedule(folder, NoiseSchedule(timestep_spacing="leading"))
    return folder


@functools.cache
def _backbone_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        write_backbone(Path(folder) / "b")
        paths = [path for path in (Path(folder) / "b").rglob("*") if path.is_file()]
        return {str(path.relative_to(Path(folder) / "b")): path.read_bytes() for path in paths}


def write_backbone_once(folder: Path) -> Path:
    """`write_backbone`, whose networks are made once in a process."""
    for name, content in _backbone_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
