"""One projection per region: its vertices' responses become one token."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.errors import InputError

Initial = Literal["per_region", "released"]


class RegionProjection(nnx.Module):
    """E[p] = B[p] W[p] + bias[p]: every region has its own matrix.

    B[p] are the responses of region p's vertices [v], E[p] its token [f]. With several subjects
    there is a bank for each: E[b, p] = B[b, p] W[p, u] + bias[p, u] with u the subject of sample b;
    weights are [p, u, v, f], the bias [p, u, f].

    Args:
        num_regions: the number p of regions.
        max_vertices: slots v per region; smaller regions are zero-padded, so their further rows do
            not act.
        token_width: width f of a token.
        initial: "per_region" draws W from U(-a, a) with a = sqrt(6 / (v + f)) (Glorot and Bengio
            2010 for each region's own matrix) and the bias from N(0, 1); "released" draws W with
            a = sqrt(6 / ((v + p) f)), which is what PyTorch's ``xavier_uniform_`` gives on the
            released code's 3-D tensor, and starts the bias at zero.
        num_subjects: how many subjects; each one's bank starts at its own random numbers.
        rngs: of the random start.

    NeuroAdapter (arXiv 2509.23566), section on brain tokens. The random bias is ours: responses are
    z-scored, so without it no token says at first which region it comes from, and the queries
    cannot tell regions apart until the bias has grown.

    Raises:
        InputError: an unknown `initial`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.adapter.region_projection import RegionProjection
        >>> bank = RegionProjection(num_regions=5, max_vertices=7, token_width=16, rngs=nnx.Rngs(0))
        >>> bank.weights.shape, bank.bias.shape
        ((5, 7, 16), (5, 16))
        >>> bank(jnp.zeros((3, 5, 7))).shape  # 3 samples, a token for each of 5 regions
        (3, 5, 16)
    """

    def __init__(
        self,
        num_regions: int,
        max_vertices: int,
        token_width: int,
        initial: Initial = "per_region",
        num_subjects: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        p, v, f = num_regions, max_vertices, token_width
        banks = (p,) if num_subjects == 1 else (p, num_subjects)
        if initial not in ("per_region", "released"):
            raise InputError(
                f"initial is {initial!r}; expected 'per_region' or 'released' (the "
                "projection bank's random start)."
            )
        bound = (6.0 / (v + f)) ** 0.5 if initial == "per_region" else (6.0 / ((v + p) * f)) ** 0.5
        self.weights = nnx.Param(
            jax.random.uniform(rngs.params(), (*banks, v, f), jnp.float32, -bound, bound)
        )
        if initial == "per_region":
            self.bias = nnx.Param(jax.random.normal(rngs.params(), (*banks, f), jnp.float32))
        else:
            self.bias = nnx.Param(jnp.zeros((*banks, f)))

    def __call__(
        self, packed: Float[Array, "b p v"], subject: Int[Array, " b"] | None = None
    ) -> Float[Array, "b p f"]:
        """The tokens.

        Args:
            packed: responses by region, zero in empty slots.
            subject: whose bank each sample takes, 0 to u - 1; None with one bank.
        """
        weights, bias = self.weights[...], self.bias[...]
        packed = packed.astype(weights.dtype)
        if subject is None:
            return jnp.einsum("bpv,pvf->bpf", packed, weights) + bias
        # Each sample's responses in its own subject's slots and zeros in the others', so that one
        # contraction serves the batch. To gather banks instead would copy one per sample, 6 GB at
        # the paper's size and batch, and scatter as much in the derivative.
        own = subject[:, None] == jnp.arange(weights.shape[1])
        spread = jnp.where(own[:, None, :, None], packed[:, :, None], 0.0)
        tokens = jnp.einsum("bpuv,puvf->bpf", spread, weights)
        return tokens + jnp.moveaxis(bias[:, subject], 1, 0)

    def of_subject(self, index: int) -> "RegionProjection":
        """One subject's bank alone, of weights [p, v, f]; `index` is from 0 to u - 1."""
        single = nnx.clone(self)
        single.weights = nnx.Param(self.weights[...][:, index])
        single.bias = nnx.Param(self.bias[...][:, index])
        return single


class RegionMLP(nnx.Module):
    """E[p] = GELU(B[p] W1[p] + b1[p]) W2[p] + b2[p]: a small network in place of the projection.

    Every region has its own two layers, so a token is a curved function of its vertices'
    responses. Neither the paper nor the released code has it; `NeuroAdapterConfig.region_hidden`
    asks for it.

    Args:
        num_regions: the number p of regions.
        max_vertices: slots v per region; smaller regions are zero-padded.
        hidden_width: width h between the layers.
        token_width: width f of a token.
        initial: random start of both layers, see `RegionProjection`.
        num_subjects: how many subjects, with two layers each.
        rngs: of the random start.

    Raises:
        InputError: an unknown `initial`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.adapter.region_projection import RegionMLP
        >>> mlp = RegionMLP(5, max_vertices=7, hidden_width=8, token_width=16, rngs=nnx.Rngs(0))
        >>> mlp(jnp.zeros((3, 5, 7))).shape  # 3 samples, a token for each of 5 regions
        (3, 5, 16)
    """

    def __init__(
        self,
        num_regions: int,
        max_vertices: int,
        hidden_width: int,
        token_width: int,
        initial: Initial = "per_region",
        num_subjects: int = 1,
        *,
        rngs: nnx.Rngs,
    ):
        shape = (initial, num_subjects)
        self.first = RegionProjection(num_regions, max_vertices, hidden_width, *shape, rngs=rngs)
        self.second = RegionProjection(num_regions, hidden_width, token_width, *shape, rngs=rngs)

    def __call__(
        self, packed: Float[Array, "b p v"], subject: Int[Array, " b"] | None = None
    ) -> Float[Array, "b p f"]:
        """The tokens.

        Args:
            packed: responses by region, zero in empty slots.
            subject: whose layers each sample takes, 0 to u - 1; None with one subject.
        """
        return self.second(nnx.gelu(self.first(packed, subject)), subject)

    def of_subject(self, index: int) -> "RegionMLP":
        """One subject's layers alone; `index` is from 0 to u - 1."""
        single = nnx.clone(self)
        single.first = self.first.of_subject(index)
        single.second = self.second.of_subject(index)
        return single
