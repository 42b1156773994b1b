"""NeuroAdapter: packed cortical responses -> the stream a frozen U-Net attends to."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.adapter.decoupled_attention import (
    DecoupledAttention,
    cross_attention_shapes,
)
from neuroadapter_jax.adapter.region_projection import Initial, RegionMLP, RegionProjection
from neuroadapter_jax.adapter.token_mapper import TokenMapper
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel


@dataclass(frozen=True)
class NeuroAdapterConfig:
    """The shape of a NeuroAdapter.

    Attributes:
        num_regions: the number p of regions, one token each unless queries read them.
        max_vertices: slots v per region.
        token_width: width f of a token, the U-Net's cross_attention_dim.
        widths: channels per cross-attention layer.
        heads: heads per cross-attention layer.
        initial: the projection bank's random start, "per_region" or "released"; see
            `RegionProjection`.
        token_queries: number of learned queries that read the regions (`TokenMapper`) and are
            the tokens in their place; None for one token per region, the paper's model.
        num_subjects: u, subjects with a projection bank each over what they share.
        condition_width: width of the tokens before the norm, the released code's condition_dim;
            None for f.
        region_hidden: hidden width of a two-layer network per region in place of the paper's
            linear projection, see `RegionMLP`; None for the projection.

    Examples:
        >>> from neuroadapter_jax.adapter.neuroadapter import NeuroAdapterConfig
        >>> config = NeuroAdapterConfig(
        ...     num_regions=200, max_vertices=812, token_width=768, widths=(320,), heads=(8,)
        ... )
        >>> config.num_tokens, config.width_before_norm
        (200, 768)
    """

    num_regions: int
    max_vertices: int
    token_width: int
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    initial: Initial = "per_region"
    token_queries: int | None = None
    num_subjects: int = 1
    condition_width: int | None = None
    region_hidden: int | None = None

    @property
    def width_before_norm(self) -> int:
        """c, width of the tokens that the norm takes."""
        return self.condition_width or self.token_width

    @property
    def num_tokens(self) -> int:
        """Tokens that the U-Net attends to."""
        return self.token_queries or self.num_regions


class _TokenNorm(nnx.Module):
    """LayerNorm(E W + bias), W [c, f], the released code's `ImageProjModel`."""

    def __init__(self, inputs: int, width: int, *, rngs: nnx.Rngs):
        self.proj = nnx.Linear(inputs, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)

    def __call__(self, tokens: Float[Array, "b p c"]) -> Float[Array, "b p f"]:
        return self.norm(self.proj(tokens))


def _region_map(config: NeuroAdapterConfig, rngs: nnx.Rngs) -> RegionProjection | RegionMLP:
    """What makes a region's responses a token."""
    p, v, width = config.num_regions, config.max_vertices, config.width_before_norm
    shape = (width, config.initial, config.num_subjects)
    if config.region_hidden is None:
        return RegionProjection(p, v, *shape, rngs=rngs)
    return RegionMLP(p, v, config.region_hidden, *shape, rngs=rngs)


class NeuroAdapter(nnx.Module):
    """Everything that trains: projection bank, token norm, key and value matrices.

    ::

        tokens = LayerNorm(keep * RegionProjection(B) W + bias)
        keys_l, values_l = tokens W_k,l, tokens W_v,l          for each cross-attention layer l

    B are the responses by region [b, p, v]. With token_queries the `TokenMapper` acts before keep,
    as in the released code. A dropped token is zeroed before the norm, so it becomes the norm's
    image of zero, the same for every region; the unconditional half of guidance sees all tokens
    dropped.

    NeuroAdapter (arXiv 2509.23566); dropout before the norm as in the released code.

    Args:
        config: its shape; `for_unet` makes one that fits a U-Net.
        rngs: of the random start.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax import NeuroAdapter
        >>> from neuroadapter_jax.adapter.neuroadapter import NeuroAdapterConfig
        >>> config = NeuroAdapterConfig(
        ...     num_regions=5, max_vertices=7, token_width=16, widths=(32, 64), heads=(2, 4)
        ... )
        >>> adapter = NeuroAdapter(config, rngs=nnx.Rngs(0))
        >>> responses = jnp.ones((3, 5, 7))  # 3 samples, 5 regions of up to 7 vertices
        >>> adapter.tokens(responses).shape
        (3, 5, 16)
        >>> stream = adapter(responses)
        >>> [values.shape for values in stream.values]  # per layer: sample, head, token, width
        [(3, 2, 5, 16), (3, 4, 5, 16)]
    """

    def __init__(self, config: NeuroAdapterConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.region_projection = _region_map(config, rngs)
        if config.token_queries is not None:
            self.token_mapper = TokenMapper(
                config.token_queries, config.num_regions, config.width_before_norm, rngs=rngs
            )
        self.token_norm = _TokenNorm(config.width_before_norm, config.token_width, rngs=rngs)
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
        token_queries: int | None = None,
        num_subjects: int = 1,
        region_hidden: int | None = None,
        *,
        rngs: nnx.Rngs,
    ) -> "NeuroAdapter":
        """A new adapter that fits a U-Net, its key and value matrices copied from the text's.

        Args:
            unet: the frozen U-Net.
            num_regions: the number p of regions.
            max_vertices: slots v per region.
            initial: the projection bank's random start, "per_region" or "released".
            token_queries: learned queries that are the tokens; None for one token per region.
            num_subjects: subjects with a projection bank each.
            region_hidden: hidden width of a network per region; None for a linear projection.
            rngs: of the random start.

        Raises:
            InputError: an unknown `initial`, or with queries a token width that is no multiple of
                the 8 heads of `TokenMapper`.
        """
        widths, heads = cross_attention_shapes(unet)
        config = NeuroAdapterConfig(
            num_regions,
            max_vertices,
            unet.config.cross_attention_dim,
            tuple(widths),
            tuple(heads),
            initial,
            token_queries,
            num_subjects,
            region_hidden=region_hidden,
        )
        adapter = cls(config, rngs=rngs)
        adapter.attention.start_from_text(unet)
        return adapter

    def of_subject(self, index: int) -> "NeuroAdapter":
        """One subject's adapter: its projection bank, and what all share.

        Args:
            index: which subject, 0 to u - 1, in the order of training.
        """
        single = nnx.clone(self)
        single.config = replace(self.config, num_subjects=1)
        single.region_projection = self.region_projection.of_subject(index)
        return single

    def tokens(
        self,
        packed: Float[Array, "b p v"],
        keep: Bool[Array, "b k"] | None = None,
        subject: Int[Array, " b"] | None = None,
    ) -> Float[Array, "b k f"]:
        """The k tokens after the norm, one per region or query.

        Args:
            packed: z-scored responses, zero in empty vertex slots.
            keep: which tokens stay, the others being zeroed before the norm; all when None.
            subject: whose projection bank each sample takes, 0 to u - 1; None with one bank.
        """
        tokens = self.region_projection(packed, subject)
        if self.config.token_queries is not None:
            tokens = self.token_mapper(tokens)
        if keep is not None:
            tokens = jnp.where(keep[..., None], tokens, 0.0)
        return self.token_norm(tokens)

    def unconditional(self) -> Stream:
        """The stream of a sample with every token dropped, batch 1."""
        config = self.config
        zeros = jnp.zeros((1, config.num_tokens, config.width_before_norm))
        return self.attention(self.token_norm(zeros))

    def __call__(
        self,
        packed: Float[Array, "b p v"],
        keep: Bool[Array, "b k"] | None = None,
        subject: Int[Array, " b"] | None = None,
    ) -> Stream:
        """The stream of packed responses [b, p, v].

        Args:
            packed: z-scored responses, zero in empty vertex slots.
            keep: which tokens stay; all when None.
            subject: whose projection bank each sample takes, 0 to u - 1; None with one bank.
        """
        return self.attention(self.tokens(packed, keep, subject))
