"""The released code's procedure in plain PyTorch, with diffusers' own networks.

Written for the benchmark from the paper (arXiv 2509.23566) and the released code's behaviour: the
training step encodes images and the empty prompt every time, attention is kept by moving each
layer's whole matrix to the host at every step and writing one file per step.
"""

import dataclasses
import functools
import inspect
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

# By module: a type checker finds only placeholders of these classes at diffusers' top level.
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Float, Int, UInt8
from torch import nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.diffusion.weights import Backbone, to_tensors

GAMMA = 5.0

TorchModule = TypeVar("TorchModule", bound=nn.Module)


class RegionTokens(nn.Module):
    """A projection per region, then a linear layer and a layer norm."""

    def __init__(self, adapter: NeuroAdapter):
        super().__init__()
        values = {name: torch.from_numpy(v.copy()) for name, v in to_tensors(adapter).items()}
        width = adapter.config.token_width
        self.weights = nn.Parameter(values["region_projection.weights"])
        self.bias = nn.Parameter(values["region_projection.bias"])
        self.proj, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.proj.load_state_dict(_below(values, "token_norm.proj."))
        self.norm.load_state_dict(_below(values, "token_norm.norm."))

    def forward(self, packed: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens [b, p, f] of packed responses [b, p, v]; those with keep 0 are zeroed."""
        tokens = torch.einsum("bpv,pvf->bpf", packed, self.weights) + self.bias
        if keep is not None:
            tokens = tokens * keep[..., None]
        return self.norm(self.proj(tokens))


class DecoupledProcessor(nn.Module):
    """IP-Adapter's attention processor: text and brain tokens, each with its own keys.

    Attributes:
        keeps: whether a call keeps its attention to the brain tokens.
        kept: that attention, of the last such call.
    """

    kept: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, num_tokens: int):
        super().__init__()
        self.num_tokens = num_tokens
        self.to_k_ip = nn.Linear(keys.shape[1], keys.shape[0], bias=False)
        self.to_v_ip = nn.Linear(values.shape[1], values.shape[0], bias=False)
        self.to_k_ip.weight.data.copy_(keys)
        self.to_v_ip.weight.data.copy_(values)
        self.keeps = False

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **_) -> torch.Tensor:
        """Attention output of one cross-attention layer."""

        def heads(x):
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        text = encoder_hidden_states[:, : -self.num_tokens]
        brain = encoder_hidden_states[:, -self.num_tokens :]
        q = heads(attn.to_q(hidden_states))
        out = functional.scaled_dot_product_attention(
            q, heads(attn.to_k(text)), heads(attn.to_v(text))
        )
        k, v = heads(self.to_k_ip(brain)), heads(self.to_v_ip(brain))
        if self.keeps:
            self.kept = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
            out = out + self.kept @ v
        else:
            out = out + functional.scaled_dot_product_attention(q, k, v)
        return attn.to_out[0](out.transpose(1, 2).flatten(2))


class Released:
    """The released procedure on the same weights as ours.

    Args:
        backbone: ours; its weights are copied.
        adapter: ours; its weights are copied too.
        empty_ids: token ids of the empty prompt [1, k].
        tuned: as fast as PyTorch makes it by a switch: the U-Net by torch.compile where there is a
            C++ compiler, convolutions in channels_last.
    """

    def __init__(
        self,
        backbone: Backbone,
        adapter: NeuroAdapter,
        empty_ids: np.ndarray,
        tuned: bool = False,
    ):
        self.unet = _carried(UNet2DConditionModel, backbone.unet)
        levels = len(backbone.vae.config.block_out_channels)
        self.vae = _carried(
            AutoencoderKL,
            backbone.vae,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
        )
        self.text_encoder = _carried_text(backbone.text_encoder)
        self.tokens = RegionTokens(adapter)
        self.ids = torch.from_numpy(np.asarray(empty_ids)).long()
        self.processors = self._set_processors(backbone, adapter)
        self._unet: Any = self.unet
        if tuned:
            for network in (self.unet, self.vae):
                network.to(memory_format=torch.channels_last)
            if has_compiler():
                self._unet = torch.compile(self.unet)
        self.scheduler = DDPMScheduler(
            beta_start=backbone.schedule.beta_start,
            beta_end=backbone.schedule.beta_end,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
        )
        self.trained = [
            *self.tokens.parameters(),
            *(p for processor in self.processors.values() for p in processor.parameters()),
        ]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-4, weight_decay=1e-6)

    def _set_processors(
        self, backbone: Backbone, adapter: NeuroAdapter
    ) -> dict[str, DecoupledProcessor]:
        names = [name for name, _ in backbone.unet.cross_attentions()]
        values = {name: torch.from_numpy(v.copy()) for name, v in to_tensors(adapter).items()}
        processors = {
            name: DecoupledProcessor(
                values[f"attention.to_k_ip.{i}.weight"],
                values[f"attention.to_v_ip.{i}.weight"],
                adapter.config.num_regions,
            )
            for i, name in enumerate(names)
        }
        all_processors = {name: AttnProcessor2_0() for name in self.unet.attn_processors}
        self.unet.set_attn_processor(
            all_processors | {f"{name}.processor": own for name, own in processors.items()}
        )
        return processors

    def empty_prompt(self, size: int) -> torch.Tensor:
        """The empty prompt's states, one per sample."""
        return self.text_encoder(self.ids)[0].expand(size, -1, -1)

    def predict(
        self,
        latents: Float[torch.Tensor, "b c y x"],
        timesteps: Int[torch.Tensor, " b"],
        packed: Float[torch.Tensor, "b p v"],
        text: Float[torch.Tensor, "1 k f"],
    ) -> Float[torch.Tensor, "b c y x"]:
        """The noise prediction."""
        states = torch.cat([text.expand(len(latents), -1, -1), self.tokens(packed)], dim=1)
        return self._unet(latents, timesteps, encoder_hidden_states=states).sample

    def train_step(
        self, images: UInt8[np.ndarray, "b y x 3"], packed: Float[np.ndarray, "b p v"]
    ) -> float:
        """One step as the released code does it, images and empty prompt encoded again."""
        pixels = torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1.0
        with torch.no_grad():
            latents = self.vae.encode(pixels).latent_dist.sample() * self.vae.config.scaling_factor
            text = self.empty_prompt(len(latents))
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, 1000, (len(latents),))
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        keep = (torch.rand(packed.shape[:2]) <= torch.rand(len(packed), 1)).float()
        states = torch.cat([text, self.tokens(torch.from_numpy(packed), keep)], dim=1)
        prediction = self._unet(noisy, timesteps, encoder_hidden_states=states).sample
        abar = self.scheduler.alphas_cumprod[timesteps]
        snr = abar / (1.0 - abar)
        errors = ((prediction - noise) ** 2).mean(dim=(1, 2, 3))
        loss = (snr.clamp(max=GAMMA) / snr * errors).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    @torch.no_grad()
    def reconstruct(
        self,
        packed: Float[np.ndarray, "b p v"],
        num_steps: int,
        guidance_scale: float,
        keep_attention: Path | None = None,
    ) -> UInt8[np.ndarray, "b y x 3"]:
        """Images; with a folder, every layer's conditional attention of every step goes there."""
        size, responses = len(packed), torch.from_numpy(packed)
        zeros = self.tokens.norm(self.tokens.proj(torch.zeros_like(self.tokens(responses))))
        brain = torch.cat([zeros, self.tokens(responses)])
        states = torch.cat([self.empty_prompt(2 * size), brain], dim=1)
        for processor in self.processors.values():
            processor.keeps = keep_attention is not None
        config = self.unet.config
        latents = torch.randn(size, config.in_channels, config.sample_size, config.sample_size)
        self.scheduler.set_timesteps(num_steps)
        for t in self.scheduler.timesteps:
            out = self._unet(torch.cat([latents, latents]), t, encoder_hidden_states=states).sample
            without, conditional = out.chunk(2)
            guided = without + guidance_scale * (conditional - without)
            latents = self.scheduler.step(guided, t, latents).prev_sample
            if keep_attention is not None:
                maps: dict[str, Any] = {
                    name: processor.kept[size:].cpu().numpy()
                    for name, processor in self.processors.items()
                }
                np.savez(keep_attention / f"time_step_{int(t)}.npz", **maps)
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return ((images + 1.0) * 127.5).round().clamp(0, 255).byte().movedim(1, -1).numpy()


@functools.cache
def has_compiler() -> bool:
    """Whether torch.compile works here, for which a CPU needs a C++ compiler."""
    try:
        torch.compile(lambda x: torch.relu(x) + 1.0)(torch.zeros(8))
    except Exception:  # whatever a compiler that is not there, or does not fit, is answered with
        return False
    return True


def tuning() -> str:
    """What a tuned side has on this machine."""
    return "torch.compile and channels_last" if has_compiler() else "channels_last"


def _below(values: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}


def _carried(cls: type[TorchModule], ours: Any, **extra: Any) -> TorchModule:
    """diffusers' module of a class, with our module's settings and weights."""
    known = inspect.signature(cls).parameters
    fields = {k: v for k, v in dataclasses.asdict(ours.config).items() if k in known}
    module = cls(**fields | extra)
    return _filled(module, ours)


def _carried_text(ours: Any) -> CLIPTextModel:
    last = ours.config.vocab_size - 1
    fields = dataclasses.asdict(ours.config) | {"bos_token_id": last - 1, "eos_token_id": last}
    return _filled(CLIPTextModel(CLIPTextConfig(**fields)), ours)


def _filled(module: TorchModule, ours: Any) -> TorchModule:
    # transformers' text encoder no longer has the level that checkpoints of SD 1.5 name.
    tensors = {
        name.removeprefix("text_model."): torch.from_numpy(v)
        for name, v in to_tensors(ours).items()
    }
    module.load_state_dict(tensors)
    return module.eval().requires_grad_(False)
