"""A backbone of Stable Diffusion 1.x's topology, a released model over it, and its checkpoint."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_backbone import write_backbone

from neuroadapter_jax.adapter.guidance import Guidance, sample_latents
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.prompt import empty_prompt
from neuroadapter_jax.diffusion.samplers import plan, unit_noise
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.interop import load_released

B, P, V, F = 3, 5, 7, 8
LH, RH = 19, 23
GUIDANCE, STEPS = 2.5, 4
UNET = {
    "sample_size": 16,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "block_out_channels": (6, 9, 15, 21),
    "layers_per_block": 2,
    "cross_attention_dim": F,
    "attention_head_dim": 3,
    "norm_num_groups": 3,
}


@pytest.fixture(scope="session")
def sd_backbone(tmp_path_factory):
    from torch_reference import randomise

    diffusers = pytest.importorskip("diffusers")
    folder = write_backbone(tmp_path_factory.mktemp("sd") / "backbone")
    for file in (folder / "unet").iterdir():
        file.unlink()
    randomise(diffusers.UNet2DConditionModel(**UNET), seed=11).save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="session")
def regions():
    sizes = [3, 7, 1, 5, 2]
    rng = np.random.default_rng(5)
    lh = np.split(rng.permutation(LH)[:10], [3])
    rh = np.split(rng.permutation(RH)[:8], [1, 6])
    parts = tuple(np.sort(part).astype(np.int32) for part in [*lh, *rh])
    assert [len(part) for part in parts] == sizes
    return Parcellation(tuple("abcde"), ("lh",) * 2 + ("rh",) * 3, parts, (LH, RH))


@pytest.fixture(scope="session")
def released(sd_backbone):
    """The released classes with random weights over the backbone's U-Net."""
    from torch_reference import randomise
    from torch_released import GuidanceGenerator, Model

    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DConditionModel.from_pretrained(sd_backbone / "unet")
    model, bank = Model(unet, P), GuidanceGenerator(P, V, F)
    for seed, module in enumerate([model.image_proj_model, *model.adapter_modules, bank]):
        randomise(module, seed)
    return SimpleNamespace(model=model.eval().requires_grad_(False), bank=bank)


@pytest.fixture(scope="session")
def checkpoint(released, tmp_path_factory):
    from torch_released import write_checkpoint

    return write_checkpoint(
        tmp_path_factory.mktemp("run") / "checkpoint-300", released.model, released.bank
    )


@pytest.fixture(scope="session")
def pipeline(checkpoint, sd_backbone, regions):
    return load_released(checkpoint, sd_backbone, regions)


@pytest.fixture(scope="session")
def fmri():
    return np.random.default_rng(3).standard_normal((B, LH + RH)).astype(np.float32)


@pytest.fixture(scope="session")
def packed(fmri, regions):
    """The same responses by region, packed by hand."""
    out = np.zeros((B, P, V), np.float32)
    for i, (vertices, hemisphere) in enumerate(
        zip(regions.vertices, regions.hemispheres, strict=True)
    ):
        out[:, i, : len(vertices)] = fmri[:, vertices + (LH if hemisphere == "rh" else 0)]
    return out


@pytest.fixture(scope="session")
def noise():
    """Where every sample starts, [b, y, x, c], and the keys that give it."""
    keys = jax.random.split(jax.random.key(7), B)
    return np.asarray(unit_noise(keys, 0, (16, 16, 4))), keys


@pytest.fixture(scope="session")
def reconstructions(pipeline, fmri, noise):
    """Our guided latents [b, y, x, c] by sampler, and their settings."""
    text = empty_prompt(pipeline.backbone)
    graph, state = nnx.split((pipeline.adapter, pipeline.backbone.unet))

    def reconstruct(state, fmri, sampler):
        adapter, unet = nnx.merge(graph, state)
        brain = adapter(pack(fmri, pipeline.packing))
        steps = plan(pipeline.backbone.schedule, Sampling(sampler, STEPS))
        guidance = Guidance(text, brain, adapter.unconditional(), jnp.float32(GUIDANCE))
        return sample_latents(unet, guidance, noise[1], steps)[0]

    jitted = jax.jit(reconstruct, static_argnames="sampler")

    @functools.cache
    def latents(sampler):
        return np.asarray(jitted(state, fmri, sampler))

    return SimpleNamespace(latents=latents, num_steps=STEPS, guidance=GUIDANCE)
