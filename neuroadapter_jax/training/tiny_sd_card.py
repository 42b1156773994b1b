"""The model card of tiny-sd: what its training measured, and images of captions."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from neuroadapter_jax.adapter.guidance import sample_latents_from_streams
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import load_pretrained
from neuroadapter_jax.readers import read_json, read_json_lines


def sample_captions(
    folder: str | Path,
    captions: list[str],
    *,
    seed: int = 0,
    num_steps: int = 50,
    guidance_scale: float = 3.0,
) -> UInt8[np.ndarray, "b y x 3"]:
    """Images of captions by a text-to-image folder (DDIM; the empty caption as unconditional).

    Args:
        folder: in the diffusers layout.
        captions: one per image.
        seed: of the noise.
        num_steps: denoising steps.
        guidance_scale: of classifier-free guidance.
    """
    backbone = load_pretrained(folder)
    tokenizer = CLIPTokenizer(backbone.folder / "tokenizer")
    graphs, params = nnx.split((backbone.unet, backbone.vae, backbone.text_encoder))

    @jax.jit
    def sample(params, ids, empty, keys):
        unet, vae, text_encoder = nnx.merge(graphs, params)
        latents = sample_latents_from_streams(
            unet,
            [unet.text_context(text_encoder(ids))],
            [unet.text_context(text_encoder(empty))],
            keys,
            plan(backbone.schedule, Sampling("ddim", num_steps)),
            guidance_scale,
            backbone.schedule.prediction_type,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor))

    keys = jax.random.split(jax.random.key(seed), len(captions))
    return np.asarray(sample(params, tokenizer(captions), tokenizer([""]), keys))


def card(workdir: str | Path, samples: str) -> str:
    """The model card of a finished run, from what it measured.

    Args:
        workdir: of `tiny_sd.pretrain`.
        samples: file name of the picture of samples beside the card.
    """
    workdir = Path(workdir)
    summary = read_json(workdir / "summary.json", "the summary of a training of tiny-sd")
    rows = []
    for stage in ("vae", "unet"):
        timing = read_json_lines(workdir / stage / "timing.jsonl", "seconds of a training")
        minutes = sum(line["seconds"] for line in timing) / 60
        rows.append((stage, timing[-1]["step"], minutes))
    table = "\n".join(f"| {name} | {steps:,} | {minutes:.0f} |" for name, steps, minutes in rows)
    sizes, losses = summary["unet"], summary["vae"]
    noise_error = sizes["validation/loss"]
    return f"""# tiny-sd

A text-to-image latent diffusion model of Stable Diffusion 1.x's architecture for 64 x 64 scenes
of OpenMoji artwork, in the diffusers layout (float16). It was trained from scratch by

    {summary["command"]}

on {summary["num_scenes"]:,} captioned scenes, on two CPU cores that other work shared:

| stage | steps | minutes |
| --- | --- | --- |
{table}

| | |
| --- | --- |
| parameters of the autoencoder | {losses["parameters"]:,} |
| parameters of the U-Net | {sizes["unet_parameters"]:,} |
| parameters of the text encoder | {sizes["text_encoder_parameters"]:,} |
| autoencoder, held-out scenes: mean squared error in [-1, 1] | {losses["squared_error"]:.4f} |
| U-Net, held-out scenes: mean squared error of the predicted noise | {noise_error:.4f} |

A caption reads like "a dog upper left, a clock lower right, castle, grass, night". Samples (DDIM,
50 steps, guidance 3), the first eight held-out captions, none chosen:

![samples]({samples})

It knows nothing but these scenes. The artwork is OpenMoji's (https://openmoji.org), CC BY-SA 4.0;
so are the model's images.
"""
