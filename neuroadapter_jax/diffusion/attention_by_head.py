"""Attention on CPU, one head after the other: what is held at once stays small.

`attention.attend` turns to it by platform and size.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# What is made of one head's weights: (A_h [b, q, k], shares_h [b, k]) -> [b, q, k].
HeadPart = Callable[[Float[Array, "b q k"], Float[Array, "b k"]], Float[Array, "b q k"]]


@jax.custom_vjp
def attend_by_head(
    q: Float[Array, "b h q d"], k: Float[Array, "b h k d"], v: Float[Array, "b h k d"]
) -> Float[Array, "b h q d"]:
    """softmax(q k' / sqrt(d)) v, one head after the other, with a derivative that keeps no weights.

    What is held at once stays small, and the derivative, which needs the transposed weights for k
    and v, computes them again from k q' instead of transposing: three times as fast on CPU as plain
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


def attend_summing_heads(
    q: Float[Array, "b h q d"],
    k: Float[Array, "b h k d"],
    v: Float[Array, "b h k d"],
    part: HeadPart,
    shares: Float[Array, "#b h k"],
) -> tuple[Float[Array, "b h q d"], Float[Array, "b q k"]]:
    """softmax(q k' / sqrt(d)) v and sum_h part(A_h, shares_h), one head after the other.

    Args:
        q: queries.
        k: keys.
        v: values.
        part: (A_h [b, q, k], shares_h [b, k]) -> [b, q, k], what is made of one head's weights.
        shares: handed to `part`, such as 1 / h for a mean over heads.
    """
    devices = math.gcd(len(q), jax.device_count())

    def head(total, one):
        q, k, v, shares = one
        scores = q.shape[-1] ** -0.5 * _product(q, k.mT)
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        out = _product(weights.astype(v.dtype), v).astype(v.dtype)
        return total + part(weights, shares), out

    def sample(one):
        one = tuple(x.swapaxes(0, 1) for x in one)
        start = jnp.zeros((devices, q.shape[2], k.shape[2]), jnp.float32)
        total, out = jax.lax.scan(head, start, one)
        return out.swapaxes(0, 1), total

    shares = jnp.broadcast_to(shares, (*k.shape[:2], k.shape[2]))
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
