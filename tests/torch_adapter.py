"""NeuroAdapter in PyTorch: diffusers' U-Net with its own IP-Adapter attention processors."""

import numpy as np
import pytest

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.diffusion.weights import to_tensors

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, IPAdapterAttnProcessor


class TorchNeuroAdapter:
    """The same arithmetic as our adapter and U-Net, written with PyTorch's own parts.

    `weights` holds every trained tensor under the package's name, ready for autograd.
    """

    def __init__(self, adapter: NeuroAdapter, unet: UNet2DConditionModel, order: list[str]):
        self.weights = {
            name: torch.from_numpy(value.copy()).requires_grad_()
            for name, value in to_tensors(adapter).items()
        }
        self.unet = unet
        processors = {}
        for name in unet.attn_processors:
            layer = name.removesuffix(".processor")
            if layer not in order:
                processors[name] = AttnProcessor()
                continue
            index, attention = order.index(layer), unet.get_submodule(layer)
            processor = IPAdapterAttnProcessor(
                attention.to_q.out_features, attention.cross_attention_dim, num_tokens=(1,)
            )
            for bank in ("to_k_ip", "to_v_ip"):
                linear = getattr(processor, bank)[0]
                del linear.weight
                linear.weight = self.weights[f"attention.{bank}.{index}.weight"]
            processors[name] = processor
        unet.set_attn_processor(processors)

    def tokens(self, packed: np.ndarray, keep: np.ndarray | None = None) -> torch.Tensor:
        w, packed = self.weights, torch.from_numpy(packed)
        projected = [
            packed[:, p] @ w["region_projection.weights"][p] + w["region_projection.bias"][p]
            for p in range(packed.shape[1])
        ]
        if keep is not None:
            projected = [
                token * torch.from_numpy(keep[:, p : p + 1].astype(np.float32))
                for p, token in enumerate(projected)
            ]
        x = torch.nn.functional.linear(
            torch.stack(projected, dim=1), w["token_norm.proj.weight"], w["token_norm.proj.bias"]
        )
        return torch.nn.functional.layer_norm(
            x, x.shape[-1:], w["token_norm.norm.weight"], w["token_norm.norm.bias"], eps=1e-5
        )

    def __call__(self, latents, timesteps, text, packed, keep=None) -> torch.Tensor:
        """Predictions [b, y, x, c] for latents of the same axes and text states [1, k, c]."""
        states = torch.from_numpy(text).expand(len(latents), -1, -1)
        out = self.unet(
            torch.from_numpy(np.ascontiguousarray(np.moveaxis(latents, -1, 1))),
            torch.from_numpy(timesteps),
            encoder_hidden_states=(states, [self.tokens(packed, keep)]),
        )
        return out.sample.movedim(1, -1)
