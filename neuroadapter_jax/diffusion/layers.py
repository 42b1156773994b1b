"""The convolutional blocks shared by the U-Net and the autoencoder."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.errors import InputError


def check_widths(what: str, widths: Sequence[int], **parts: int | Sequence[int]) -> None:
    """Refuses widths that cannot be shared out evenly.

    Args:
        what: whose widths, for the message.
        widths: channels of each level.
        parts: into how many parts they are cut, by name; one number, or one per level.

    Raises:
        InputError: so they can't.
    """
    for name, given in parts.items():
        each = (given,) * len(widths) if isinstance(given, int) else given
        if len(each) != len(widths) or any(
            n < 1 or w < 1 or w % n for w, n in zip(widths, each, strict=True)
        ):
            raise InputError(
                f"{what}: {name} is {given} with block_out_channels {list(widths)}; expected "
                "divisors of them."
            )


def conv3x3(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Conv:
    """3 x 3 convolution, stride 1, that keeps rows and columns."""
    return nnx.Conv(inputs, outputs, (3, 3), padding=1, rngs=rngs)


class GroupNorm(nnx.Module):
    """Normalise each sample over positions and the channels of a group, then scale and shift.

    Computed in float32 whatever the precision of x, as in PyTorch.

    Sums run over positions first and over a group's channels last: on CPU this is two to three
    times faster than one reduction over both (flax's `nnx.GroupNorm`), backward included.

    Args:
        channels: c, a multiple of groups.
        groups: number of groups.
        epsilon: added to the variance.
    """

    def __init__(self, channels: int, groups: int, epsilon: float, *, rngs: nnx.Rngs):
        self.groups, self.epsilon = groups, epsilon
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def _group_mean(self, x: Float[Array, "b y x c"]) -> Float[Array, "b 1 1 c"]:
        b, c = x.shape[0], x.shape[-1]
        means = x.mean(axis=(1, 2)).reshape(b, self.groups, -1).mean(axis=-1)
        return jnp.repeat(means, c // self.groups, axis=1)[:, None, None, :]

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y x c"]:
        wide = x.astype(jnp.float32)
        centred = wide - self._group_mean(wide)
        variance = self._group_mean(jnp.square(centred))
        factor = jax.lax.rsqrt(variance + self.epsilon) * self.scale[...].astype(jnp.float32)
        return (centred * factor + self.bias[...].astype(jnp.float32)).astype(x.dtype)


class ResnetBlock2D(nnx.Module):
    """Two normalised convolutions around a time shift, with a shortcut.

    y = shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + time_emb_proj(silu(temb)))))
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int,
        eps: float,
        temb_channels: int | None = None,
        rngs: nnx.Rngs,
    ):
        self.norm1 = GroupNorm(inputs, groups, eps, rngs=rngs)
        self.conv1 = conv3x3(inputs, outputs, rngs=rngs)
        if temb_channels is not None:
            self.time_emb_proj = nnx.Linear(temb_channels, outputs, rngs=rngs)
        self.norm2 = GroupNorm(outputs, groups, eps, rngs=rngs)
        self.conv2 = conv3x3(outputs, outputs, rngs=rngs)
        self.conv_shortcut = (
            None if inputs == outputs else nnx.Conv(inputs, outputs, (1, 1), rngs=rngs)
        )

    def __call__(
        self, x: Float[Array, "b y x c"], temb: Float[Array, "b e"] | None = None
    ) -> Float[Array, "b y x o"]:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        if temb is not None:
            h = h + self.time_emb_proj(jax.nn.silu(temb))[:, None, None, :]
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + h


class Downsample2D(nnx.Module):
    """Halve rows and columns by a convolution of stride 2.

    Args:
        channels: width.
        padding: ((top, bottom), (left, right)); the U-Net pads by 1 all around, the
            autoencoder only below and to the right.
    """

    def __init__(self, channels: int, padding: tuple, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(channels, channels, (3, 3), strides=(2, 2), padding=padding, rngs=rngs)

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y2 x2 c"]:
        return self.conv(x)


class Upsample2D(nnx.Module):
    """Double rows and columns by repetition, then convolve."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.conv = conv3x3(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "b y x c"]) -> Float[Array, "b y2 x2 c"]:
        b, y, w, c = x.shape
        # Broadcast and reshape: the derivative is a sum, where jax.image.resize's scatters.
        x = jnp.broadcast_to(x[:, :, None, :, None, :], (b, y, 2, w, 2, c))
        return self.conv(x.reshape(b, 2 * y, 2 * w, c))
