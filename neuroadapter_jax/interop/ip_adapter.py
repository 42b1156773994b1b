"""A NeuroAdapter as an IP-Adapter that diffusers loads."""

from pathlib import Path

import numpy as np

from neuroadapter_jax.adapter.decoupled_attention import processor_indices
from neuroadapter_jax.diffusion.weights import to_tensors, write_safetensors
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline


def refuse_queries(pipeline: NeuroAdapterPipeline) -> None:
    """Refuses what has no place in a file of one token per region.

    Raises:
        InputError: the adapter's tokens are learned queries, or made by a network per region.
    """
    if (queries := pipeline.adapter.config.token_queries) is not None:
        raise InputError(
            f"The adapter reads its regions by {queries} learned queries (token_queries), which "
            "this layout has no place for; convert one with a token per region."
        )
    if (hidden := pipeline.adapter.config.region_hidden) is not None:
        raise InputError(
            f"The adapter has a network of hidden width {hidden} per region (region_hidden), which "
            "this layout has no place for; convert one with a linear projection per region."
        )


def refuse_lora(pipeline: NeuroAdapterPipeline) -> None:
    """Refuses a model whose U-Net a LoRA changes, for which a file of the adapter has no place.

    Raises:
        InputError: there is one.
    """
    if pipeline.backbone.lora is not None:
        raise InputError(
            "The model has a LoRA beside its adapter (lora.safetensors), which this layout has no "
            "place for; convert the model that it was distilled from, and give diffusers "
            "lora.safetensors by load_lora_weights."
        )


def save_ip_adapter(pipeline: NeuroAdapterPipeline, path: str | Path) -> None:
    """Write the adapter in the safetensors layout of IP-Adapter's "full" models.

    Of the layouts that diffusers' `load_ip_adapter` knows, only this one maps every token by
    itself: LayerNorm(W2 gelu(W1 x + b1) + b2) with a square W1. The token norm, LayerNorm(W x + b),
    is a case of it, because gelu(z) - gelu(-z) = z: with tokens of width c, padded by zeros to a
    width of 2 c::

        W1 = [[1, 0], [-1, 0]],  b1 = 0,  W2 = [W, -W],  b2 = b

    which is exact but for rounding. The projection bank has no place in the layout; it lies beside
    it as ``region_projection.weights`` [p, v, c], ``region_projection.bias`` [p, c] and
    ``region_projection.index`` [p, v], each slot's vertex of the left-then-right cortex, -1 in an
    empty slot. docs/checkpoints.md shows the lines that turn responses into
    ``ip_adapter_image_embeds`` with them.

    Args:
        pipeline: whose adapter and regions are written.
        path: file to write; its suffix is ".safetensors".

    Raises:
        ExistingFileError: the file is there already.
        InputError: another suffix, by which diffusers would take the file for a pickle, or an
            adapter whose tokens are learned queries.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: diffusers reads this layout from a name in .safetensors only.")
    refuse_lora(pipeline)
    refuse_queries(pipeline)
    refuse_foreign(path.parent, [path.name])
    ours = to_tensors(pipeline.adapter)
    c = pipeline.adapter.config.width_before_norm
    one, zero = np.eye(c, dtype=np.float32), np.zeros((c, c), np.float32)
    linear = ours["token_norm.proj.weight"]
    mask, index = (np.asarray(x) for x in (pipeline.packing.mask, pipeline.packing.index))
    tensors = {
        "image_proj.proj.0.weight": np.block([[one, zero], [-one, zero]]),
        "image_proj.proj.0.bias": np.zeros(2 * c, np.float32),
        "image_proj.proj.2.weight": np.hstack([linear, -linear]),
        "image_proj.proj.2.bias": ours["token_norm.proj.bias"],
        "image_proj.proj.3.weight": ours["token_norm.norm.weight"],
        "image_proj.proj.3.bias": ours["token_norm.norm.bias"],
        "region_projection.weights": ours["region_projection.weights"],
        "region_projection.bias": ours["region_projection.bias"],
        "region_projection.index": np.where(mask, index, -1).astype(np.int32),
    }
    for layer, place in enumerate(processor_indices(pipeline.backbone.unet).values()):
        for bank in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{place}.{bank}.weight"] = ours[f"attention.{bank}.{layer}.weight"]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, tensors)
