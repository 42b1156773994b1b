"""Scaled dot-product attention over one or several key/value streams."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.diffusion.attention_by_head import (
    HeadPart,
    attend_by_head,
    attend_summing_heads,
)

# Queries times keys from which attention on CPU is computed head by head.
_LARGE = 2**16


@dataclass(frozen=True)
class Tap:
    """A probe that hands the weights on, so that a derivative can be taken at them.

    Attributes:
        function: weights -> (what is attended with in their place, the probe's result).
    """

    function: Callable[[Float[Array, "b h q k"]], tuple[Float[Array, "b h q k"], Any]]


@dataclass(frozen=True)
class HeadSum:
    """A probe that needs the weights A only as a sum over heads of something made of each head.

    reduce(sum_h head(A_h, shares_h)): on CPU heads come one after the other, so the weights of all
    heads are never held at once.

    Attributes:
        head: (A_h, shares_h) -> [b, q, k], one head's part.
        shares: handed to `head`, such as 1 / h for a mean.
        reduce: of the sum.
    """

    head: HeadPart
    shares: Float[Array, "#b h k"]
    reduce: Callable[[Float[Array, "b q k"]], Any]


Probe = Callable[[Float[Array, "b h q k"]], Any] | Tap | HeadSum
# (q, k, v) -> (the output, the probe's result).
_Path = Callable[[Array, Array, Array], tuple[Array, Any]]


class Stream(NamedTuple):
    """Keys and values of one conditioning signal for every cross-attention layer.

    They do not depend on the denoising step, so they are computed once per sample.

    Attributes:
        keys: one array [b or 1, h, k, d] per layer, in the U-Net's order of execution.
        values: one array [b or 1, h, k, d] per layer, in the same order.
        scale: weight of this stream's attention output in the sum over streams.
        unconditional_value: one array [1, h, 1, d] per layer, for samples that come in pairs of
            which only the first attends to the keys. All tokens of the second are the same, so
            attention to them would give their one value, and that is what it gets. None where
            every sample attends.
    """

    keys: tuple[Float[Array, "b h k d"], ...]
    values: tuple[Float[Array, "b h k d"], ...]
    scale: float | Float[Array, ""] = 1.0
    unconditional_value: tuple[Float[Array, "1 h 1 d"], ...] | None = None


class LayerStream(NamedTuple):
    """What one layer takes of a `Stream`: its arrays of that layer.

    Attributes:
        keys: [b or 1, h, k, d].
        values: [b or 1, h, k, d].
        scale: weight of this stream's attention output in the sum over streams.
        unconditional_value: see `Stream`.
    """

    keys: Float[Array, "b h k d"]
    values: Float[Array, "b h k d"]
    scale: float | Float[Array, ""] = 1.0
    unconditional_value: Float[Array, "1 h 1 d"] | None = None


def split_heads(x: Float[Array, "b k c"], num_heads: int) -> Float[Array, "b h k d"]:
    """Cut the last axis into heads, head-major as in diffusers: c = h * d.

    Args:
        x: of c = h d channels.
        num_heads: the number h of heads.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.attention import merge_heads, split_heads
        >>> x = jnp.zeros((3, 5, 16))
        >>> split_heads(x, 2).shape, merge_heads(split_heads(x, 2)).shape
        ((3, 2, 5, 8), (3, 5, 16))
    """
    b, k, c = x.shape
    return x.reshape(b, k, num_heads, c // num_heads).swapaxes(1, 2)


def merge_heads(x: Float[Array, "b h q d"]) -> Float[Array, "b q c"]:
    """Heads side by side in the last axis, c = h * d: the inverse of `split_heads`.

    Args:
        x: by heads.
    """
    b, h, q, d = x.shape
    return x.swapaxes(1, 2).reshape(b, q, h * d)


def attention_weights(
    q: Float[Array, "*b h q d"], k: Float[Array, "*#b h k d"], mask: Array | None = None
) -> Float[Array, "*b h q k"]:
    """softmax over keys of q k' / sqrt(d), in float32; `mask` [q, k] is False where forbidden.

    Args:
        q: queries.
        k: keys.
        mask: [q, k], False where a query may not attend; None for nowhere.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.attention import attention_weights
        >>> q, k = jnp.zeros((1, 1, 1, 4)), jnp.ones((1, 1, 2, 4))
        >>> attention_weights(q, k).tolist()
        [[[[0.5, 0.5]]]]
    """
    scores = jnp.einsum(
        "...qd,...kd->...qk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
    )
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


@jax.custom_vjp
def _scores(q: Float[Array, "*b h q d"], k: Float[Array, "*#b h k d"]) -> Float[Array, "*b h q k"]:
    """q k' in float32, whose derivative multiplies in the operands' own precision.

    Without it the derivative's products would be of float32 numbers also where q and k are half as
    precise: eight times as slow on a tensor core.
    """
    return jnp.einsum("...qd,...kd->...qk", q, k, preferred_element_type=jnp.float32)


def _scores_forward(q: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
    return _scores(q, k), (q, k)


def _scores_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    q, k = saved
    _, back = jax.vjp(lambda q, k: jnp.einsum("...qd,...kd->...qk", q, k), q, k)
    return back(gradient.astype(q.dtype))


_scores.defvjp(_scores_forward, _scores_backward)


def _accelerated_weights(q: Array, k: Array) -> Array:
    """`attention_weights` for GPUs and TPUs."""
    return jax.nn.softmax(_scores(q * q.shape[-1] ** -0.5, k), axis=-1)


def attend(
    q: Float[Array, "b h q d"],
    k: Float[Array, "#b h k d"],
    v: Float[Array, "#b h k d"],
    probe: Probe | None = None,
) -> tuple[Float[Array, "b h q d"], Any]:
    """softmax(q k' / sqrt(d)) v, and what the probe made of the weights (None without one).

    The platform that the program is lowered for decides how: on CPU large attention runs head by
    head, see `attend_by_head`; on NVIDIA and TPU without a probe in one kernel, see
    `attention_fused`. Keys and values of batch 1 serve every sample.

    Args:
        q: queries.
        k: keys.
        v: values.
        probe: called with the weights [b, h, q, k]; or a `HeadSum` or `Tap`.
    """
    on_cpu = _cpu_path(q, k, probe)
    if attention_fused.hardware() == attention_fused.NONE:
        return on_cpu(q, k, v)
    platforms: dict[str, _Path] = {"cpu": on_cpu}
    if probe is None:
        for platform, kernel in attention_fused.fused_kernels(q, k).items():
            platforms[platform] = functools.partial(_without_probe, kernel)
    whole = functools.partial(_attend_whole, weights_of=_accelerated_weights, probe=probe)
    return jax.lax.platform_dependent(q, k, v, default=whole, **platforms)


def _cpu_path(q: Array, k: Array, probe: Probe | None) -> _Path:
    """Head by head, where that is possible and pays; else with the weights of all heads."""
    by_head = k.shape[0] == q.shape[0]
    if by_head and probe is None and q.shape[2] * k.shape[2] >= _LARGE:
        return functools.partial(_without_probe, attend_by_head)
    if by_head and isinstance(probe, HeadSum):
        return functools.partial(_attend_summing_heads, probe=probe)
    return functools.partial(_attend_whole, weights_of=attention_weights, probe=probe)


def _without_probe(kernel: Callable, q: Array, k: Array, v: Array) -> tuple[Array, None]:
    return kernel(q, k, v), None


def _attend_summing_heads(q: Array, k: Array, v: Array, probe: HeadSum) -> tuple[Array, Any]:
    out, total = attend_summing_heads(q, k, v, probe.head, probe.shares)
    return out, probe.reduce(total)


def _attend_whole(
    q: Array,
    k: Array,
    v: Array,
    *,
    weights_of: Callable[[Array, Array], Array],
    probe: Probe | None,
) -> tuple[Array, Any]:
    """With the weights of all heads at once."""
    weights, probed = weights_of(q, k), None
    if isinstance(probe, Tap):
        weights, probed = probe.function(weights)
    elif isinstance(probe, HeadSum):
        shares = jnp.broadcast_to(probe.shares, (*weights.shape[:2], weights.shape[3]))
        probed = probe.reduce(jax.vmap(probe.head, 1, 1)(weights, shares).sum(axis=1))
    elif probe is not None:
        probed = probe(weights)
    return jnp.einsum("...qk,...kd->...qd", weights.astype(v.dtype), v), probed


def attend_in_pairs(
    q: Float[Array, "b2 h q d"],
    k: Float[Array, "#b h k d"],
    v: Float[Array, "#b h k d"],
    unconditional_value: Float[Array, "1 h 1 d"],
    probe: Probe | None = None,
) -> tuple[Float[Array, "b2 h q d"], Any]:
    """`attend` for the first of each pair, `unconditional_value` for the second; see `Stream`."""
    # Pairs stand side by side, so that cutting the batch over devices cuts between pairs.
    pairs = q.reshape(-1, 2, *q.shape[1:])
    out, probed = attend(pairs[:, 0], k, v, probe)
    second = jnp.broadcast_to(unconditional_value, out.shape)
    return jnp.stack([out, second], axis=1).reshape(q.shape), probed


class Attention(nnx.Module):
    """Multi-head attention whose keys and values may come from several streams.

    out = to_out(sum over streams s of scale_s softmax(q k_s' / sqrt(d)) v_s)

    With one stream this is diffusers' `Attention`; with two it is IP-Adapter's decoupled
    cross-attention (Ye et al. 2023, arXiv 2308.06721, eq. 5).

    Args:
        channels: width of the queries' input and of the output.
        num_heads: h; the width of a head is channels / h.
        context_channels: width of the keys' and values' input.
        qkv_bias: whether the three input projections have a bias (the VAE's have).
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        context_channels: int | None = None,
        qkv_bias: bool = False,
        *,
        rngs: nnx.Rngs,
    ):
        context_channels = context_channels or channels
        self.num_heads = num_heads
        self.to_q = nnx.Linear(channels, channels, use_bias=qkv_bias, rngs=rngs)
        self.to_k = nnx.Linear(context_channels, channels, use_bias=qkv_bias, rngs=rngs)
        self.to_v = nnx.Linear(context_channels, channels, use_bias=qkv_bias, rngs=rngs)
        self.to_out = nnx.List([nnx.Linear(channels, channels, rngs=rngs)])

    def keys_values(
        self, context: Float[Array, "b k c"]
    ) -> tuple[Float[Array, "b h k d"], Float[Array, "b h k d"]]:
        """Keys and values of a context, by this layer's own matrices."""
        return (
            split_heads(self.to_k(context), self.num_heads),
            split_heads(self.to_v(context), self.num_heads),
        )

    def __call__(
        self,
        x: Float[Array, "b q c"],
        streams: Sequence[LayerStream] | None = None,
        probe: Probe | None = None,
    ) -> tuple[Float[Array, "b q c"], Any]:
        """Attend from x to the streams, or to x itself when there are none.

        Args:
            x: [b, q, c].
            streams: None means self-attention.
            probe: called with the last stream's weights [b, h, q, k].

        Returns:
            The output [b, q, c] and what the probe returned (None without one).
        """
        q = split_heads(self.to_q(x), self.num_heads)
        if streams is None:
            streams = [LayerStream(*self.keys_values(x))]
        out: Any = 0.0
        probed = None
        for i, (k, v, scale, unconditional_value) in enumerate(streams):
            last = i == len(streams) - 1
            used = probe if last else None
            if unconditional_value is None:
                attended, new = attend(q, k, v, used)
            else:
                attended, new = attend_in_pairs(q, k, v, unconditional_value, used)
            out = out + scale * attended
            probed = new if last else None
        return self.to_out[0](merge_heads(out).astype(x.dtype)), probed
