"""Scaled dot-product attention over one or several key/value streams."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

# Queries times keys from which attention on CPU is computed head by head.
_LARGE = 2**16


@dataclass(frozen=True)
class Tap:
    """A probe that hands the weights on, so that a derivative can be taken at them.

    Attributes:
        function: weights -> (what is attended with in their place, what was seen).
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

    head: Callable[[Float[Array, "b q k"], Float[Array, "b k"]], Float[Array, "b q k"]]
    shares: Float[Array, "#b h k"]
    reduce: Callable[[Float[Array, "b q k"]], Any]


Probe = Callable[[Float[Array, "b h q k"]], Any] | Tap | HeadSum


class Stream(NamedTuple):
    """Keys and values of one conditioning signal for every cross-attention layer.

    They do not depend on the denoising step, so they are computed once per sample.

    Attributes:
        keys: one array [b or 1, h, k, d] per layer, in the U-Net's order of execution.
        values: likewise.
        scale: weight of this stream's attention output in the sum over streams.
        alike: for samples that come in pairs, of which only the first attends to the keys: the
            second, whose tokens are all alike, gets their one value, which is what attention to
            them would give. None where every sample attends.
    """

    keys: tuple[Float[Array, "b h k d"], ...]
    values: tuple[Float[Array, "b h k d"], ...]
    scale: float | Float[Array, ""] = 1.0
    unconditional_value: tuple[Float[Array, "1 h 1 d"], ...] | None = None


class LayerStream(NamedTuple):
    """What one layer takes of a `Stream`; attributes as there."""

    keys: Float[Array, "b h k d"]
    values: Float[Array, "b h k d"]
    scale: float | Float[Array, ""] = 1.0
    unconditional_value: Float[Array, "1 h 1 d"] | None = None


def split_heads(x: Float[Array, "b k c"], num_heads: int) -> Float[Array, "b h k d"]:
    """Cut the last axis into heads, head-major as in diffusers: c = h * d."""
    b, k, c = x.shape
    return x.reshape(b, k, num_heads, c // num_heads).swapaxes(1, 2)


def merge_heads(x: Float[Array, "b h q d"]) -> Float[Array, "b q c"]:
    """The inverse of `split_heads`."""
    b, h, q, d = x.shape
    return x.swapaxes(1, 2).reshape(b, q, h * d)


def attention_weights(
    q: Float[Array, "*b h q d"], k: Float[Array, "*#b h k d"], mask: Array | None = None
) -> Float[Array, "*b h q k"]:
    """softmax over keys of q k' / sqrt(d), in float32; `mask` [q, k] is False where forbidden."""
    scores = jnp.einsum(
        "...qd,...kd->...qk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
    )
    if mask is not None:
        scores = jnp.where(mask, scores, -jnp.inf)
    return jax.nn.softmax(scores, axis=-1)


def attend(
    q: Float[Array, "b h q d"],
    k: Float[Array, "#b h k d"],
    v: Float[Array, "#b h k d"],
    probe: Probe | None = None,
) -> tuple[Float[Array, "b h q d"], Any]:
    """softmax(q k' / sqrt(d)) v, and what the probe made of the weights (None without one).

    On CPU large attention runs head by head, see `attend_by_head`. Keys and values of batch 1 serve
    every sample.
    """
    large = q.shape[2] * k.shape[2] >= _LARGE
    by_head = k.shape[0] == q.shape[0] and jax.default_backend() == "cpu"
    if by_head and probe is None and large:
        return attend_by_head(q, k, v), None
    if by_head and isinstance(probe, HeadSum):
        out, total = _attend_summing_heads(q, k, v, probe)
        return out, probe.reduce(total)
    weights, probed = attention_weights(q, k), None
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
    """`attend` for the first sample of each pair, `unconditional_value` for the second; see `Stream`."""
    # Pairs stand side by side, so that cutting the batch over devices cuts between pairs.
    pairs = q.reshape(-1, 2, *q.shape[1:])
    out, probed = attend(pairs[:, 0], k, v, probe)
    return jnp.stack([out, jnp.broadcast_to(unconditional_value, out.shape)], axis=1).reshape(
        q.shape
    ), probed


@jax.custom_vjp
def attend_by_head(
    q: Float[Array, "b h q d"], k: Float[Array, "b h k d"], v: Float[Array, "b h k d"]
) -> Float[Array, "b h q d"]:
    """softmax(q k' / sqrt(d)) v, one head after the other, with a derivative that keeps no weights.

    What is held at once stays small, and the derivative, which needs the transposed weights for k
    and v, computes them anew from k q' instead of transposing: three times as fast on CPU as plain
    reverse mode (docs/scaling.md). A loop over an axis that is cut over devices would gather it,
    and every device would do all the work; so as many samples as there are devices go together.
    """
    return _attend_by_head(q, k, v)[0]


def _attend_by_head(q, k, v):
    def head(q, k, v):
        scores = q.shape[-1] ** -0.5 * _product(q, k.mT)
        highest = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        total = weights.sum(axis=-1, keepdims=True)
        out = _product(weights.astype(v.dtype), v) / total
        return out.astype(v.dtype), (highest + jnp.log(total))[..., 0]

    out, log_total = _over_heads(head, q, k, v)
    return out, (q, k, v, out, log_total)


def _attend_by_head_derivative(saved, gradient):
    def head(q, k, v, out, log_total, gradient):
        scale = q.shape[-1] ** -0.5
        # What the softmax takes off each row: sum_k weight dweight = gradient . out.
        common = (gradient.astype(jnp.float32) * out.astype(jnp.float32)).sum(axis=-1)
        weights = jnp.exp(scale * _product(q, k.mT) - log_total[..., None])
        dscores = weights * (_product(gradient, v.mT) - common[..., None])
        dq = scale * _product(dscores.astype(k.dtype), k)
        weights = jnp.exp(scale * _product(k, q.mT) - log_total[..., None, :])
        dscores = weights * (_product(v, gradient.mT) - common[..., None, :])
        dk = scale * _product(dscores.astype(q.dtype), q)
        dv = _product(weights.astype(v.dtype), gradient)
        return dq.astype(q.dtype), dk.astype(k.dtype), dv.astype(v.dtype)

    return _over_heads(head, *saved, gradient)


def _attend_summing_heads(q: Array, k: Array, v: Array, probe: HeadSum) -> tuple[Array, Array]:
    """`attend` and the probe's sum over heads [b, q, k], one head after the other."""
    devices = math.gcd(len(q), jax.device_count())

    def head(total, one):
        q, k, v, shares = one
        scores = q.shape[-1] ** -0.5 * _product(q, k.mT)
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        out = _product(weights.astype(v.dtype), v).astype(v.dtype)
        return total + probe.head(weights, shares), out

    def sample(one):
        one = tuple(x.swapaxes(0, 1) for x in one)
        start = jnp.zeros((devices, q.shape[2], k.shape[2]), jnp.float32)
        total, out = jax.lax.scan(head, start, one)
        return out.swapaxes(0, 1), total

    shares = jnp.broadcast_to(probe.shares, (*k.shape[:2], k.shape[2]))
    # As in `_over_heads`: an axis cut over devices stays outermost, and is never looped over.
    looped = tuple(x.reshape(devices, -1, *x.shape[1:]).swapaxes(0, 1) for x in (q, k, v, shares))
    found = jax.lax.map(sample, looped)
    return tuple(x.swapaxes(0, 1).reshape(len(q), *x.shape[2:]) for x in found)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _over_heads(head: Callable, *arrays: Array) -> Any:
    """`head` on one sample per device and one head at a time."""
    b, h = arrays[0].shape[:2]
    # An axis cut over devices stays outermost, and is never looped over.
    devices = math.gcd(b, jax.device_count())

    def looped(x):
        x = x.reshape(devices, b // devices * h, *x.shape[2:])
        return x.swapaxes(0, 1)

    found = jax.lax.map(lambda one: head(*one), tuple(map(looped, arrays)))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(b, h, *x.shape[2:]), found)


attend_by_head.defvjp(_attend_by_head, _attend_by_head_derivative)


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
        out, probed = 0.0, None
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
