"""T2I-Adapter: feature maps of a picture, such as depth or colours, that steer the U-Net."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.layers import conv3x3
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, check_fields

Kind = Literal["full", "light"]


@dataclass(frozen=True)
class SpatialAdapterConfig:
    """Sizes of `SpatialAdapter`.

    Attributes:
        kind: "full", for structure such as depth; "light", for coarse colours.
        in_channels: of the condition.
        channels: width of each level's map, those of the U-Net's levels; for "light" multiples
            of 4.
        num_res_blocks: residual blocks per level; 2 of "full", 4 of "light" in the published files.
        downscale: pixels to a latent, each way: 8 of Stable Diffusion, 4 of tiny-sd.

    Examples:
        >>> from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapterConfig
        >>> SpatialAdapterConfig().channels  # for Stable Diffusion 1.x
        (320, 640, 1280, 1280)
    """

    kind: Kind = "full"
    in_channels: Count = 3
    channels: tuple[Count, ...] = (320, 640, 1280, 1280)
    num_res_blocks: Count = 2
    downscale: Count = 8

    def __post_init__(self):
        check_fields(self)
        if not self.channels or (self.kind == "light" and any(w % 4 for w in self.channels)):
            raise InputError(
                f"Spatial adapter: channels is {list(self.channels)}; expected a width per level, "
                "for the light kind multiples of 4."
            )


def _conv1x1(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(inputs, outputs, (1, 1), rngs=rngs)


class _ResBlock(nnx.Module):
    def __init__(self, width: int, kind: Kind, *, rngs: nnx.Rngs):
        self.block1 = conv3x3(width, width, rngs=rngs)
        self.block2 = (
            conv3x3(width, width, rngs=rngs) if kind == "light" else _conv1x1(width, width, rngs)
        )

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        return x + self.block2(jax.nn.relu(self.block1(x)))


def _halve(x: Float[Array, "b y x c"]) -> Float[Array, "b _y _x c"]:
    """Means of 2 x 2 pixels; an odd last row or column is averaged over what there is."""
    b, y, w, c = x.shape
    if y % 2 == 0 and w % 2 == 0:
        return x.reshape(b, y // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    sums = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    ones = jnp.ones((1, y, w, 1), x.dtype)
    counts = jax.lax.reduce_window(ones, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "SAME")
    return sums / counts


class _Level(nnx.Module):
    """One level of either kind."""

    def __init__(
        self, inputs: int, outputs: int, config: SpatialAdapterConfig, down: bool, *, rngs: nnx.Rngs
    ):
        self.down = down
        light = config.kind == "light"
        width = outputs // 4 if light else outputs
        self.in_conv = _conv1x1(inputs, width, rngs) if light or inputs != outputs else None
        blocks = range(config.num_res_blocks)
        self.resnets = nnx.List([_ResBlock(width, config.kind, rngs=rngs) for _ in blocks])
        self.out_conv = _conv1x1(width, outputs, rngs) if light else None

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b _y _x _c"]:
        if self.down:
            x = _halve(x)
        if self.in_conv is not None:
            x = self.in_conv(x)
        for block in self.resnets:
            x = block(x)
        return x if self.out_conv is None else self.out_conv(x)


class _Body(nnx.Module):
    def __init__(self, config: SpatialAdapterConfig, *, rngs: nnx.Rngs):
        inputs = config.in_channels * config.downscale**2
        first, full = config.channels[0], config.kind == "full"
        self.conv_in = conv3x3(inputs, first, rngs=rngs) if full else None
        widths = (first if full else inputs, *config.channels)
        self.body = nnx.List(
            [
                _Level(widths[i], widths[i + 1], config, i > 0, rngs=rngs)
                for i in range(len(config.channels))
            ]
        )


class SpatialAdapter(nnx.Module):
    """A condition [b, Y, X, c] in 0..1 -> one map per level of the U-Net's way down.

    The picture's blocks of downscale x downscale pixels become channels. "full": a convolution,
    then per level residual blocks x + W_2 relu(W_1 x), the first of a lower level after an average
    pool by 2; "light": per level a pool, a 1 x 1 convolution to a quarter of the width, residual
    blocks, and a 1 x 1 convolution back. The U-Net adds the maps after the last layer of each
    level, before it halves; see `UNet2DConditionModel`'s `residuals`.

    Mou et al. 2023 (arXiv 2302.08453), section 3.3. Numbers and names are those of diffusers'
    `T2IAdapter`.

    Args:
        config: its sizes.
        rngs: of the random start.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.diffusion.spatial_adapter import (
        ...     SpatialAdapter,
        ...     SpatialAdapterConfig,
        ... )
        >>> config = SpatialAdapterConfig("light", channels=(8, 16), num_res_blocks=1, downscale=4)
        >>> maps = SpatialAdapter(config, rngs=nnx.Rngs(0))(jnp.zeros((1, 64, 64, 3)))
        >>> [x.shape for x in maps]
        [(1, 16, 16, 8), (1, 8, 8, 16)]
    """

    config_class = SpatialAdapterConfig

    def __init__(self, config: SpatialAdapterConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.adapter = _Body(config, rngs=rngs)

    def __call__(self, condition: Float[Array, "b _y _x c"]) -> list[Float[Array, "b _y _x _c"]]:
        """The maps, the first level's first.

        Args:
            condition: rows and columns are multiples of `downscale`.

        Raises:
            InputError: they are not, or the channels are others.
        """
        b, y, x, c = condition.shape
        r, wanted = self.config.downscale, self.config.in_channels
        if y % r or x % r or c != wanted:
            raise InputError(
                f"A condition is {y} x {x} pixels of {c} channels; expected {wanted} channels and "
                f"multiples of {r} pixels, the adapter's own."
            )
        h = condition.reshape(b, y // r, r, x // r, r, c).transpose(0, 1, 3, 5, 2, 4)
        h = h.reshape(b, y // r, x // r, c * r * r)
        if self.adapter.conv_in is not None:
            h = self.adapter.conv_in(h)
        maps = []
        for level in self.adapter.body:
            h = level(h)
            maps.append(h)
        return maps


def add_maps(
    maps: Sequence[Sequence[Float[Array, "b _y _x _c"]]],
    weights: Sequence[float | Float[Array, ""]] | None = None,
) -> list[Float[Array, "b _y _x _c"]]:
    """The weighted sum of several adapters' maps, level by level.

    Args:
        maps: of each adapter, from `SpatialAdapter`.
        weights: of each adapter, in T2I-Adapter 0.5 to 1.5; None: 1 for all.

    Raises:
        InputError: another number of weights than adapters, or adapters of other levels.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.spatial_adapter import add_maps
        >>> one, other = ([jnp.full((1, 1, 1, 1), x)] for x in (1.0, 10.0))
        >>> add_maps([one, other], [1.0, 0.5])[0].reshape(-1).tolist()
        [6.0]
    """
    weights = [1.0] * len(maps) if weights is None else list(weights)
    levels = {len(own) for own in maps}
    if len(weights) != len(maps) or len(levels) != 1:
        raise InputError(
            f"Found {len(maps)} spatial adapters of {sorted(levels)} levels and {len(weights)} "
            "weights; expected one weight for each, and as many levels in all."
        )
    return [
        sum((w * x for w, x in zip(weights[1:], level[1:], strict=True)), weights[0] * level[0])
        for level in zip(*maps, strict=True)
    ]
