"""Stable Diffusion's autoencoder (diffusers' `AutoencoderKL`)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Attention
from neuroadapter_jax.diffusion.layers import (
    Downsample2D,
    GroupNorm,
    ResnetBlock2D,
    Upsample2D,
    check_widths,
    conv3x3,
)

_EPS = 1e-6


@dataclass(frozen=True)
class AutoencoderConfig:
    """The fields of a diffusers `AutoencoderKL` config.json that shape the network.

    Attributes:
        block_out_channels: width per level; each level but the last halves rows and columns.
        scaling_factor: latents times this have about unit variance; the U-Net sees those.
        in_channels: channels of the images.
        out_channels: channels of the decoded images.
        latent_channels: channels of the latents.
        layers_per_block: residual blocks per level; one more in the decoder.
        norm_num_groups: of the group norms.
        sample_size: rows and columns of the images it was trained on; nothing depends on it.

    Raises:
        InputError: widths that the norm groups do not divide.

    Examples:
        >>> from neuroadapter_jax.diffusion.vae import AutoencoderConfig
        >>> AutoencoderConfig().downscale  # 512 pixels become 64 latents
        8
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.18215
    sample_size: int = 512

    def __post_init__(self):
        check_widths(
            "Autoencoder config", self.block_out_channels, norm_num_groups=self.norm_num_groups
        )

    @property
    def downscale(self) -> int:
        """Image rows per latent row."""
        return 2 ** (len(self.block_out_channels) - 1)


class _MidAttention(Attention):
    """Single-head self-attention over all positions, with its group norm and shortcut.

    diffusers names its parameters as those of an `Attention`, so it is one, but is called on maps.
    """

    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        super().__init__(channels, 1, qkv_bias=True, rngs=rngs)
        self.group_norm = GroupNorm(channels, groups, _EPS, rngs=rngs)

    def __call__(  # type: ignore[override] # a map in, a map out
        self, x: Float[Array, "b y x c"]
    ) -> Float[Array, "b y x c"]:
        flat = self.group_norm(x).reshape(x.shape[0], -1, x.shape[-1])
        out, _ = super().__call__(flat)
        return x + out.reshape(x.shape)


class _MidBlock(nnx.Module):
    def __init__(self, channels: int, groups: int, *, rngs: nnx.Rngs):
        self.resnets = nnx.List(
            [
                ResnetBlock2D(channels, channels, groups=groups, eps=_EPS, rngs=rngs)
                for _ in range(2)
            ]
        )
        self.attentions = nnx.List([_MidAttention(channels, groups, rngs=rngs)])

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class _Level(nnx.Module):
    """A row of residual blocks, then a change of size when `resample` names one."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        layers: int,
        groups: int,
        resample: str | None,
        *,
        rngs: nnx.Rngs,
    ):
        widths = [inputs] + [outputs] * layers
        self.resnets = nnx.List(
            [
                ResnetBlock2D(i, o, groups=groups, eps=_EPS, rngs=rngs)
                for i, o in zip(widths[:-1], widths[1:], strict=True)
            ]
        )
        down, up = resample == "down", resample == "up"
        padding = ((0, 1), (0, 1))
        self.downsamplers = nnx.List([Downsample2D(outputs, padding, rngs=rngs)] if down else [])
        self.upsamplers = nnx.List([Upsample2D(outputs, rngs=rngs)] if up else [])

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y2 x2 o"]:
        for resnet in self.resnets:
            x = resnet(x)
        for resampler in (*self.downsamplers, *self.upsamplers):
            x = resampler(x)
        return x


class _Encoder(nnx.Module):
    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels, config.norm_num_groups
        self.conv_in = conv3x3(config.in_channels, widths[0], rngs=rngs)
        self.down_blocks = nnx.List(
            [
                _Level(
                    widths[max(i - 1, 0)],
                    width,
                    config.layers_per_block,
                    groups,
                    "down" if i < len(widths) - 1 else None,
                    rngs=rngs,
                )
                for i, width in enumerate(widths)
            ]
        )
        self.mid_block = _MidBlock(widths[-1], groups, rngs=rngs)
        self.conv_norm_out = GroupNorm(widths[-1], groups, _EPS, rngs=rngs)
        self.conv_out = conv3x3(widths[-1], 2 * config.latent_channels, rngs=rngs)

    def __call__(self, x: Float[Array, "b Y X 3"]) -> Float[Array, "b y x c2"]:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class _Decoder(nnx.Module):
    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        widths, groups = config.block_out_channels[::-1], config.norm_num_groups
        self.conv_in = conv3x3(config.latent_channels, widths[0], rngs=rngs)
        self.mid_block = _MidBlock(widths[0], groups, rngs=rngs)
        self.up_blocks = nnx.List(
            [
                _Level(
                    widths[max(i - 1, 0)],
                    width,
                    config.layers_per_block + 1,
                    groups,
                    "up" if i < len(widths) - 1 else None,
                    rngs=rngs,
                )
                for i, width in enumerate(widths)
            ]
        )
        self.conv_norm_out = GroupNorm(widths[-1], groups, _EPS, rngs=rngs)
        self.conv_out = conv3x3(widths[-1], config.out_channels, rngs=rngs)

    def __call__(self, z: Float[Array, "b y x c"]) -> Float[Array, "b Y X 3"]:
        z = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            z = block(z)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(z)))


class AutoencoderKL(nnx.Module):
    """Images [b, Y, X, 3] in [-1, 1] <-> latents [b, y, x, c], unscaled.

    `encode` gives mean and standard deviation of q(z|x); a latent for the U-Net is
    ``config.scaling_factor * (mean + std * noise)``, and `decode` takes it unscaled again. Names
    and numbers are those of diffusers' class of this name (Rombach et al. 2022, arXiv 2112.10752).

    Args:
        config: its sizes.
        rngs: of the random start; `load_component` and `load_pretrained` fill in stored weights.
    """

    config_class = AutoencoderConfig

    def __init__(self, config: AutoencoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        c = config.latent_channels
        self.encoder = _Encoder(config, rngs=rngs)
        self.decoder = _Decoder(config, rngs=rngs)
        self.quant_conv = nnx.Conv(2 * c, 2 * c, (1, 1), rngs=rngs)
        self.post_quant_conv = nnx.Conv(c, c, (1, 1), rngs=rngs)

    def encode(
        self, images: Float[Array, "b Y X 3"]
    ) -> tuple[Float[Array, "b y x c"], Float[Array, "b y x c"]]:
        """Mean and standard deviation of the latents; log variance clipped to [-30, 20].

        Args:
            images: RGB, -1 to 1.
        """
        mean, logvar = jnp.split(self.quant_conv(self.encoder(images)), 2, axis=-1)
        return mean, jnp.exp(0.5 * jnp.clip(logvar, -30.0, 20.0))

    def decode(self, latents: Float[Array, "b y x c"]) -> Float[Array, "b Y X 3"]:
        """Images, about [-1, 1], from unscaled latents.

        Args:
            latents: divided by the scaling factor.
        """
        return self.decoder(self.post_quant_conv(latents))
