"""What a trained image adapter keeps of an image, on held-out scenes, and its card."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from neuroadapter_jax.adapter.from_embedding import CEILING_GUIDANCE, images_from_embedding
from neuroadapter_jax.adapter.image_adapter_files import load_image_adapter
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import load_pretrained, num_parameters
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder
from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.tables import markdown_table
from neuroadapter_jax.training.image_adapter import ImageAdapterRun
from neuroadapter_jax.training.metrics_log import read_metrics

_SAMPLING = Sampling("dpmsolver++", num_steps=10, guidance_scale=CEILING_GUIDANCE)


def reconstruct_scenes(
    run: ImageAdapterRun, export: str | Path, images: UInt8[np.ndarray, "b y x c"]
) -> UInt8[np.ndarray, "b y x c"]:
    """Scenes from their own embedding through the exported adapter, with the empty prompt.

    Args:
        run: which backbone and image encoder.
        export: folder of the adapter.
        images: the scenes.
    """
    backbone, embedder = load_pretrained(run.backbone), ImageEmbedder.load(run.embedder)
    adapter = load_image_adapter(export, backbone.unet).adapter
    return images_from_embedding(
        backbone, adapter, embedder(images), embedder.of_no_image(), _SAMPLING
    )


def card(
    run: ImageAdapterRun,
    export: str | Path,
    workdir: str | Path,
    scores: Mapping[str, str],
    command: str,
) -> str:
    """The model card of a finished run, from what it measured.

    Args:
        run: what defined it.
        export: folder of the adapter.
        workdir: of the training.
        scores: of held-out scenes, as a table's rows.
        command: what was typed.
    """
    lines = read_metrics(Path(workdir) / "metrics.jsonl")
    last = [line for line in lines if line["kind"] == "evaluation"][-1]
    timing = read_json_lines(Path(workdir) / "timing.jsonl", "seconds of a training")
    minutes = sum(line["seconds"] for line in timing) / 60
    unet = load_pretrained(run.backbone).unet
    adapter = load_image_adapter(export, unet).adapter
    rows = {
        **scores,
        "squared error of the predicted noise, empty prompt, with the image": (
            f"{last['validation/loss']:.4f}"
        ),
        "… with no image": f"{last['validation/without_image']:.4f}",
    }
    queries = adapter.resampler.config.queries
    return f"""# An image adapter for {run.backbone}

An IP-Adapter "plus" ({num_parameters(adapter):,} parameters, float16, under the names of
ip-adapter-plus_sd15.safetensors): from the embedding that `{run.embedder}` gives of an image it
makes {queries} tokens, to which the frozen U-Net of `{run.backbone}` attends beside its text.
Decoders that predict the embedding from responses show by it what they predict. It was trained by

    {command}

on {run.num_scenes:,} scenes, {last["step"]:,} steps, {minutes:.0f} minutes on CPU cores that other
work shared. On held-out scenes, from their own embedding with the empty prompt, at guidance
{CEILING_GUIDANCE}:

{markdown_table(["", ""], rows.items())}
No response of a brain went into it. The artwork is OpenMoji's (https://openmoji.org), CC BY-SA 4.0.
"""
