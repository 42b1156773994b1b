"""NeuroAdapter: packed cortical responses -> the stream a frozen U-Net attends to."""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from neuroadapter_jax.adapter.decoupled_attention import (
    DecoupledAttention,
    cross_attention_shapes,
)
from neuroadapter_jax.adapter.region_projection import Initial, RegionProjection
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel


@dataclass(frozen=True)
class NeuroAdapterConfig:
    """The shape of a NeuroAdapter.

    Attributes:
        num_regions: p, one token each.
        max_vertices: v, slots per region.
        token_width: f, the U-Net's cross_attention_dim.
        widths: channels per cross-attention layer.
        heads: heads per cross-attention layer.
        initial: scale of the projection bank's random start, see `RegionProjection`.
    """

    num_regions: int
    max_vertices: int
    token_width: int
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    initial: Initial = "per_region"


class _TokenNorm(nnx.Module):
    """LayerNorm(E W + bias), the released code's `ImageProjModel`."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.proj = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b p f"]) -> Float[Array, "b p f"]:
        return self.norm(self.proj(tokens))


class NeuroAdapter(nnx.Module):
    """Everything that trains: projection bank, token norm, key and value matrices.

    tokens = TokenNorm(keep * RegionProjection(B)), then one (key, value) pair per layer. A dropped
    token is zeroed before the norm, so it becomes the norm's image of zero, the same for every
    region; the unconditional half of guidance sees all tokens dropped.

    NeuroAdapter (arXiv 2509.23566); dropout before the norm as in the released code.
    """

    def __init__(self, config: NeuroAdapterConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.region_projection = RegionProjection(
            config.num_regions,
            config.max_vertices,
            config.token_width,
            config.initial,
            rngs=rngs,
        )
        self.token_norm = _TokenNorm(config.token_width, rngs=rngs)
        self.attention = DecoupledAttention(
            config.token_width, config.widths, config.heads, rngs=rngs
        )

    @classmethod
    def for_unet(
        cls,
        unet: UNet2DConditionModel,
        num_regions: int,
        max_vertices: int,
        initial: Initial = "per_region",
        *,
        rngs: nnx.Rngs,
    ) -> "NeuroAdapter":
        """A new adapter that fits a U-Net, its key and value matrices copied from the text's."""
        widths, heads = cross_attention_shapes(unet)
        config = NeuroAdapterConfig(
            num_regions,
            max_vertices,
            unet.config.cross_attention_dim,
            tuple(widths),
            tuple(heads),
            initial,
        )
        adapter = cls(config, rngs=rngs)
        adapter.attention.start_from_text(unet)
        return adapter

    def tokens(
        self, packed: Float[Array, "b p v"], keep: Bool[Array, "b p"] | None = None
    ) -> Float[Array, "b p f"]:
        """One token per region; those with keep False are zeroed before the norm."""
        tokens = self.region_projection(packed)
        if keep is not None:
            tokens = jnp.where(keep[..., None], tokens, 0.0)
        return self.token_norm(tokens)

    def unconditional(self) -> Stream:
        """The stream of a sample with every token dropped, batch 1."""
        config = self.config
        zeros = jnp.zeros((1, config.num_regions, config.token_width))
        return self.attention(self.token_norm(zeros))

    def __call__(
        self, packed: Float[Array, "b p v"], keep: Bool[Array, "b p"] | None = None
    ) -> Stream:
        """The stream of packed responses [b, p, v].

        Args:
            packed: z-scored responses, zero in empty vertex slots.
            keep: which tokens stay; all when None.
        """
        return self.attention(self.tokens(packed, keep))
