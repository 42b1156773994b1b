"""One projection per region: its vertices' responses become one token."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Initial = Literal["per_region", "released"]


class RegionProjection(nnx.Module):
    """E[p] = B[p] W[p] + bias[p]: a matrix of its own for every region.

    Args:
        num_regions: p.
        max_vertices: v; smaller regions are zero-padded, so their further rows do not act.
        token_width: f.
        initial: "per_region" draws W from U(-a, a) with a = sqrt(6 / (v + f)) (Glorot and Bengio
            2010 for each region's own matrix) and the bias from N(0, 1); "released" draws W with
            a = sqrt(6 / ((v + p) f)), which is what PyTorch's xavier_uniform_ gives on the
            released code's 3-D tensor, and starts the bias at zero.

    NeuroAdapter (arXiv 2509.23566), section on brain tokens. The random bias is ours: responses are
    z-scored, so without it no token says at first which region it comes from, and the queries
    cannot tell regions apart until the bias has grown.
    """

    def __init__(
        self,
        num_regions: int,
        max_vertices: int,
        token_width: int,
        initial: Initial = "per_region",
        *,
        rngs: nnx.Rngs,
    ):
        p, v, f = num_regions, max_vertices, token_width
        if initial not in ("per_region", "released"):
            raise ValueError(
                f"initial is {initial!r}; expected 'per_region' or 'released' (the "
                "projection bank's random start)."
            )
        bound = (6.0 / (v + f)) ** 0.5 if initial == "per_region" else (6.0 / ((v + p) * f)) ** 0.5
        self.weights = nnx.Param(
            jax.random.uniform(rngs.params(), (p, v, f), jnp.float32, -bound, bound)
        )
        if initial == "per_region":
            self.bias = nnx.Param(jax.random.normal(rngs.params(), (p, f), jnp.float32))
        else:
            self.bias = nnx.Param(jnp.zeros((p, f)))

    def __call__(self, packed: Float[Array, "b p v"]) -> Float[Array, "b p f"]:
        weights, bias = self.weights[...], self.bias[...]
        return jnp.einsum("bpv,pvf->bpf", packed.astype(weights.dtype), weights) + bias
