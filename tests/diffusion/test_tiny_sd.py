"""diffusers' own pipeline and ours give the same image from the same backbone and latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan, sample
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import backbone_folder, load_pretrained, num_parameters

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import torch
from diffusers import StableDiffusionPipeline

CAPTIONS = ["a dog upper left, castle, meadow, clear sky", "an apple"]
GUIDANCE, STEPS = 3.5, 7


@pytest.fixture(params=["random", "shipped"])
def folder(request, random_backbone):
    return random_backbone if request.param == "random" else backbone_folder("tiny-sd")


def reconstruct(folder, latents):
    backbone = load_pretrained(folder)
    tokenizer = CLIPTokenizer(folder / "tokenizer")
    graph, state = nnx.split((backbone.unet, backbone.text_encoder, backbone.vae))
    steps = plan(backbone.schedule, Sampling("ddim", STEPS))
    ids = tokenizer([*CAPTIONS, *[""] * len(CAPTIONS)])

    @jax.jit
    def run(state, ids, latents):
        unet, encoder, vae = nnx.merge(graph, state)
        text = unet.text_context(encoder(ids))

        def predict(x, timestep):
            twice = jnp.concatenate([x, x])
            out = unet(twice, jnp.full((len(twice),), timestep), [text])
            conditional, unconditional = jnp.split(out, 2)
            return unconditional + jnp.float32(GUIDANCE) * (conditional - unconditional), None

        keys = jax.random.split(jax.random.key(0), len(latents))
        reconstructions, _ = sample(predict, latents, keys, steps)
        return to_uint8(vae.decode(reconstructions / vae.config.scaling_factor))

    return np.asarray(run(state, jnp.asarray(ids), jnp.asarray(latents)))


@pytest.mark.slow
def test_the_same_image_as_diffusers(folder, rng):
    size = load_pretrained(folder).unet.config.sample_size
    latents = rng.standard_normal((len(CAPTIONS), size, size, 4)).astype(np.float32)
    pipe = StableDiffusionPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True
    )
    pipe.set_progress_bar_config(disable=True)
    truth = pipe(
        CAPTIONS,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=torch.from_numpy(np.ascontiguousarray(np.moveaxis(latents, -1, 1))),
    ).images
    truth = np.stack([np.asarray(image) for image in truth]).astype(int)
    ours = reconstruct(folder, latents).astype(int)
    assert ours.shape == truth.shape == (len(CAPTIONS), 4 * size, 4 * size, 3)
    assert truth.std() > 8  # not one colour, not all cut off
    assert np.mean((truth > 0) & (truth < 255)) > 0.5
    assert np.abs(ours - truth).max() <= 2


def test_tiny_sd_is_as_small_as_promised():
    folder = backbone_folder("tiny-sd")
    backbone = load_pretrained(folder)
    parts = (backbone.unet, backbone.vae, backbone.text_encoder)
    assert sum(map(num_parameters, parts)) <= 8_000_000
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) <= 20 * 2**20
    assert not any(p.suffix in {".bin", ".pt", ".pkl", ".ckpt"} for p in folder.rglob("*"))
