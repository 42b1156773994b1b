"""Stable Diffusion 1.x's U-Net (diffusers' `UNet2DConditionModel`), conditioned by streams."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.attention import Attention, LayerStream, Probe, Stream
from neuroadapter_jax.diffusion.layers import (
    Downsample2D,
    GroupNorm,
    ResnetBlock2D,
    Upsample2D,
    check_widths,
    conv3x3,
)
from neuroadapter_jax.errors import InputError


@dataclass(frozen=True)
class UNetConfig:
    """The fields of a diffusers U-Net config.json that shape a Stable Diffusion 1.x network.

    Attributes:
        sample_size: rows and columns of the latents.
        attention_head_dim: as SD 1.x uses the name: the number of heads, one for all levels
            or one per level.
        cross_attention_dim: width of the text states.
        in_channels: channels of the latents.
        out_channels: channels of the prediction.
        down_block_types: one per level, "CrossAttnDownBlock2D" or "DownBlock2D".
        up_block_types: one per level, "CrossAttnUpBlock2D" or "UpBlock2D".
        block_out_channels: width per level; each level but the last halves rows and columns.
        layers_per_block: residual blocks per level; one more on the way up.
        norm_num_groups: of the group norms.
        norm_eps: of the group norms.

    Raises:
        InputError: widths that heads or norm groups do not divide, or unknown block types.

    Examples:
        >>> from neuroadapter_jax.diffusion.unet import UNetConfig
        >>> UNetConfig().num_heads, UNetConfig().cross_attention_dim  # Stable Diffusion 1.5
        ((8, 8, 8, 8), 768)
    """

    sample_size: int = 64
    in_channels: int = 4
    out_channels: int = 4
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_head_dim: int | tuple[int, ...] = 8
    norm_num_groups: int = 32
    norm_eps: float = 1e-5

    def __post_init__(self):
        check_widths(
            "U-Net config",
            self.block_out_channels,
            norm_num_groups=self.norm_num_groups,
            attention_head_dim=self.attention_head_dim,
        )
        levels = len(self.block_out_channels)
        allowed = {
            "down_block_types": {"CrossAttnDownBlock2D", "DownBlock2D"},
            "up_block_types": {"CrossAttnUpBlock2D", "UpBlock2D"},
        }
        for name, types in allowed.items():
            found = getattr(self, name)
            if len(found) != levels or not set(found) <= types:
                raise InputError(
                    f"U-Net config: {name} is {list(found)}; expected {levels} of "
                    f"{sorted(types)}, one per entry of block_out_channels."
                )

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Heads per level."""
        heads = self.attention_head_dim
        return (heads,) * len(self.block_out_channels) if isinstance(heads, int) else heads


def timestep_embedding(timesteps: Int[Array, " b"], width: int) -> Float[Array, "b e"]:
    """[cos(t w_i), sin(t w_i)], w_i = 10000^(-i / (width / 2)) (diffusers' flip_sin_to_cos).

    Args:
        timesteps: t, one per sample.
        width: of the code, an even number.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.unet import timestep_embedding
        >>> timestep_embedding(jnp.array([0]), width=4).tolist()
        [[1.0, 1.0, 0.0, 0.0]]
    """
    half = width // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class _TimestepEmbedding(nnx.Module):
    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.linear_1 = nnx.Linear(inputs, outputs, rngs=rngs)
        self.linear_2 = nnx.Linear(outputs, outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "b i"]) -> Float[Array, "b o"]:
        return self.linear_2(jax.nn.silu(self.linear_1(x)))


class _GEGLU(nnx.Module):
    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.proj = nnx.Linear(inputs, 2 * outputs, rngs=rngs)

    def __call__(self, x: Float[Array, "b q c"]) -> Float[Array, "b q o"]:
        x, gate = jnp.split(self.proj(x), 2, axis=-1)
        return x * jax.nn.gelu(gate, approximate=False)


class _FeedForward(nnx.Module):
    """GEGLU and a linear layer; the keys are diffusers' (entry 1 is its dropout)."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.net = nnx.Dict(
            {
                "0": _GEGLU(channels, 4 * channels, rngs=rngs),
                "2": nnx.Linear(4 * channels, channels, rngs=rngs),
            }
        )

    def __call__(self, x: Float[Array, "b q c"]) -> Float[Array, "b q c"]:
        return self.net["2"](self.net["0"](x))


class _BasicTransformerBlock(nnx.Module):
    def __init__(self, channels: int, heads: int, context: int, *, rngs: nnx.Rngs):
        def norm():
            return nnx.LayerNorm(channels, epsilon=1e-5, rngs=rngs)

        self.norm1, self.norm2, self.norm3 = norm(), norm(), norm()
        self.attn1 = Attention(channels, heads, rngs=rngs)
        self.attn2 = Attention(channels, heads, context, rngs=rngs)
        self.ff = _FeedForward(channels, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b q c"], streams: Sequence[LayerStream], probe: Probe | None
    ) -> tuple[Float[Array, "b q c"], Any]:
        x = x + self.attn1(self.norm1(x))[0]
        out, probed = self.attn2(self.norm2(x), streams, probe)
        x = x + out
        return x + self.ff(self.norm3(x)), probed


class _Transformer2D(nnx.Module):
    def __init__(self, channels: int, heads: int, config: UNetConfig, *, rngs: nnx.Rngs):
        self.norm = GroupNorm(channels, config.norm_num_groups, 1e-6, rngs=rngs)
        self.proj_in = nnx.Conv(channels, channels, (1, 1), rngs=rngs)
        self.transformer_blocks = nnx.List(
            [_BasicTransformerBlock(channels, heads, config.cross_attention_dim, rngs=rngs)]
        )
        self.proj_out = nnx.Conv(channels, channels, (1, 1), rngs=rngs)

    def __call__(
        self, x: Float[Array, "b y x c"], streams: Sequence[LayerStream], probe: Probe | None
    ) -> tuple[Float[Array, "b y x c"], Any]:
        h = self.proj_in(self.norm(x))
        flat, probed = self.transformer_blocks[0](
            h.reshape(h.shape[0], -1, h.shape[-1]), streams, probe
        )
        return x + self.proj_out(flat.reshape(h.shape)), probed


class _LayerInput(NamedTuple):
    """What one cross-attention layer gets beside its feature map: its streams and its probe."""

    streams: tuple[LayerStream, ...]
    probe: Probe | None


def _layer_inputs(
    streams: Sequence[Stream], probe: Probe | Sequence[Probe] | None, num_layers: int, dtype: Any
) -> tuple[_LayerInput, ...]:
    """Each layer's part of the streams, in the order of execution."""

    def one(layer: int) -> _LayerInput:
        parts = []
        for s in streams:
            value = s.unconditional_value
            parts.append(
                LayerStream(
                    s.keys[layer].astype(dtype),
                    s.values[layer].astype(dtype),
                    s.scale,
                    None if value is None else value[layer].astype(dtype),
                )
            )
        return _LayerInput(tuple(parts), probe[layer] if isinstance(probe, Sequence) else probe)

    return tuple(one(layer) for layer in range(num_layers))


def _resnet(inputs: int, outputs: int, config: UNetConfig, rngs: nnx.Rngs) -> ResnetBlock2D:
    return ResnetBlock2D(
        inputs,
        outputs,
        groups=config.norm_num_groups,
        eps=config.norm_eps,
        temb_channels=4 * config.block_out_channels[0],
        rngs=rngs,
    )


class _DownBlock(nnx.Module):
    def __init__(self, level: int, config: UNetConfig, *, rngs: nnx.Rngs):
        widths, layers = config.block_out_channels, config.layers_per_block
        inputs, outputs = widths[max(level - 1, 0)], widths[level]
        self.resnets = nnx.List(
            [_resnet(inputs if i == 0 else outputs, outputs, config, rngs) for i in range(layers)]
        )
        attends = config.down_block_types[level] == "CrossAttnDownBlock2D"
        self.attentions = nnx.List(
            [
                _Transformer2D(outputs, config.num_heads[level], config, rngs=rngs)
                for _ in range(layers if attends else 0)
            ]
        )
        self.downsamplers = nnx.List(
            [
                Downsample2D(outputs, ((1, 1), (1, 1)), rngs=rngs)
                for _ in range(1 if level < len(widths) - 1 else 0)
            ]
        )

    def __call__(
        self, x: Array, temb: Array, layers: Sequence[_LayerInput]
    ) -> tuple[Array, list[Array], list]:
        skips, probed = [], []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, temb)
            if layers:
                x, found = self.attentions[i](x, *layers[i])
                probed.append(found)
            skips.append(x)
        for downsampler in self.downsamplers:
            x = downsampler(x)
            skips.append(x)
        return x, skips, probed


class _MidBlock(nnx.Module):
    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        width = config.block_out_channels[-1]
        self.resnets = nnx.List([_resnet(width, width, config, rngs) for _ in range(2)])
        self.attentions = nnx.List([_Transformer2D(width, config.num_heads[-1], config, rngs=rngs)])

    def __call__(self, x: Array, temb: Array, layers: Sequence[_LayerInput]) -> tuple[Array, list]:
        x, probed = self.attentions[0](self.resnets[0](x, temb), *layers[0])
        return self.resnets[1](x, temb), [probed]


class _UpBlock(nnx.Module):
    def __init__(self, level: int, config: UNetConfig, *, rngs: nnx.Rngs):
        widths, layers = config.block_out_channels[::-1], config.layers_per_block + 1
        outputs, before = widths[level], widths[max(level - 1, 0)]
        after = widths[min(level + 1, len(widths) - 1)]
        resnets = []
        for i in range(layers):
            skip = after if i == layers - 1 else outputs
            resnets.append(_resnet((before if i == 0 else outputs) + skip, outputs, config, rngs))
        self.resnets = nnx.List(resnets)
        attends = config.up_block_types[level] == "CrossAttnUpBlock2D"
        self.attentions = nnx.List(
            [
                _Transformer2D(outputs, config.num_heads[::-1][level], config, rngs=rngs)
                for _ in range(layers if attends else 0)
            ]
        )
        self.upsamplers = nnx.List(
            [Upsample2D(outputs, rngs=rngs) for _ in range(1 if level < len(widths) - 1 else 0)]
        )

    def __call__(
        self, x: Array, skips: Sequence[Array], temb: Array, layers: Sequence[_LayerInput]
    ) -> tuple[Array, list]:
        """`skips` in the order in which they were made: the last comes first."""
        probed = []
        for i, (resnet, skip) in enumerate(zip(self.resnets, reversed(skips), strict=True)):
            x = resnet(jnp.concatenate([x, skip], axis=-1), temb)
            if layers:
                x, found = self.attentions[i](x, *layers[i])
                probed.append(found)
        for upsampler in self.upsamplers:
            x = upsampler(x)
        return x, probed


class UNet2DConditionModel(nnx.Module):
    """Predicts the noise (or v) in latents, attending to one or several streams.

    It holds no adapter parameter: the text stream comes from `text_context`, the brain's
    from `NeuroAdapter`, and each cross-attention layer adds their attention outputs. Names and
    numbers are those of diffusers' class of this name (Rombach et al. 2022, arXiv 2112.10752).

    Args:
        config: its sizes.
        rngs: of the random start; `load_component` and `load_pretrained` fill in stored weights.

    Examples:
        >>> from neuroadapter_jax.diffusion.weights import load_component
        >>> unet = load_component("tiny-sd", "unet")
        >>> len(list(unet.cross_attentions())), unet.config.cross_attention_dim
        (7, 64)
    """

    config_class = UNetConfig

    def __init__(self, config: UNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        widths = config.block_out_channels
        self.conv_in = conv3x3(config.in_channels, widths[0], rngs=rngs)
        self.time_embedding = _TimestepEmbedding(widths[0], 4 * widths[0], rngs=rngs)
        levels = range(len(widths))
        self.down_blocks = nnx.List([_DownBlock(i, config, rngs=rngs) for i in levels])
        self.mid_block = _MidBlock(config, rngs=rngs)
        self.up_blocks = nnx.List([_UpBlock(i, config, rngs=rngs) for i in levels])
        self.conv_norm_out = GroupNorm(
            widths[0], config.norm_num_groups, config.norm_eps, rngs=rngs
        )
        self.conv_out = conv3x3(widths[0], config.out_channels, rngs=rngs)

    def cross_attentions(self) -> Iterator[tuple[str, Attention]]:
        """(diffusers' name, module) of every cross-attention layer, in order of execution."""
        blocks: list[tuple[str, Any]] = [
            (f"down_blocks.{i}", b) for i, b in enumerate(self.down_blocks)
        ]
        blocks += [("mid_block", self.mid_block)]
        blocks += [(f"up_blocks.{i}", b) for i, b in enumerate(self.up_blocks)]
        for name, block in blocks:
            for j, attention in enumerate(block.attentions):
                yield (
                    f"{name}.attentions.{j}.transformer_blocks.0.attn2",
                    attention.transformer_blocks[0].attn2,
                )

    def text_context(self, states: Float[Array, "b k c"]) -> Stream:
        """The stream of the text encoder's states [b or 1, k, cross_attention_dim].

        Args:
            states: of the text encoder, batch b or 1.
        """
        pairs = [attention.keys_values(states) for _, attention in self.cross_attentions()]
        return Stream(tuple(k for k, _ in pairs), tuple(v for _, v in pairs))

    @overload
    def __call__(
        self,
        latents: Float[Array, "b y x c"],
        timesteps: Int[Array, " b"],
        streams: Sequence[Stream],
        probe: None = None,
        *,
        remat: bool = False,
    ) -> Float[Array, "b y x o"]: ...

    @overload
    def __call__(
        self,
        latents: Float[Array, "b y x c"],
        timesteps: Int[Array, " b"],
        streams: Sequence[Stream],
        probe: Probe | Sequence[Probe],
        *,
        remat: bool = False,
    ) -> tuple[Float[Array, "b y x o"], list]: ...

    def __call__(
        self,
        latents: Float[Array, "b y x c"],
        timesteps: Int[Array, " b"],
        streams: Sequence[Stream],
        probe: Probe | Sequence[Probe] | None = None,
        *,
        remat: bool = False,
    ) -> Float[Array, "b y x o"] | tuple[Float[Array, "b y x o"], list]:
        """One denoising prediction, computed in the precision of the U-Net's parameters.

        With bfloat16 parameters norms and softmax are still computed in float32, and the
        prediction comes back in the latents' precision.

        Args:
            latents: scaled, noisy latents [b, y, x, c].
            timesteps: [b], 0 to 999.
            streams: the conditioning; its order matters only to the probe.
            probe: if given, called with the last stream's attention weights [b, h, q, k] of
                every cross-attention layer; or one such function per layer.
            remat: for the derivative, keep what enters each block and compute the rest again;
                not with a probe.

        Returns:
            The prediction [b, y, x, c]; with a probe, also its results, one per layer in the
            order of `cross_attentions`.
        """
        dtype = self.conv_in.kernel[...].dtype
        temb = self.time_embedding(
            timestep_embedding(timesteps, self.config.block_out_channels[0]).astype(dtype)
        )
        blocks: list[Any] = [*self.down_blocks, self.mid_block, *self.up_blocks]
        counts = [len(block.attentions) for block in blocks]
        layers = _layer_inputs(streams, probe, sum(counts), dtype)
        ends = np.cumsum(counts)
        of_block = [layers[end - n : end] for end, n in zip(ends, counts, strict=True)]

        def run(index: int, *inputs: Any) -> tuple:
            block, own = blocks[index], of_block[index]
            if remat and probe is None:
                return jax.checkpoint(lambda *a: block(*a, own))(*inputs)
            return block(*inputs, own)

        x = self.conv_in(latents.astype(dtype))
        skips, probed = [x], []
        num_down = len(self.down_blocks)
        for i in range(num_down):
            x, new, found = run(i, x, temb)
            skips += new
            probed += found
        x, found = run(num_down, x, temb)
        probed += found
        for i, up_block in enumerate(self.up_blocks):
            taken = len(up_block.resnets)
            skips, own = skips[:-taken], skips[-taken:]
            x, found = run(num_down + 1 + i, x, own, temb)
            probed += found
        x = self.conv_out(jax.nn.silu(self.conv_norm_out(x))).astype(latents.dtype)
        return x if probe is None else (x, probed)


def with_sample_size(
    unet: UNet2DConditionModel, sample_size: int, dtype: Any
) -> UNet2DConditionModel:
    """The same U-Net for latents of another size, its parameters in a dtype.

    Args:
        unet: any; it is left as it is.
        sample_size: rows and columns of the latents.
        dtype: of the parameters, and so of the arithmetic.
    """
    graph, params = nnx.split(unet)
    unet = nnx.merge(graph, jax.tree.map(lambda x: x.astype(dtype), params))
    unet.config = dataclasses.replace(unet.config, sample_size=sample_size)
    return unet
