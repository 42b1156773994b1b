"""IP-Adapter "plus": an image embedding as a stream that a frozen U-Net attends to."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.adapter.decoupled_attention import DecoupledAttention, cross_attention_shapes
from neuroadapter_jax.diffusion.attention import Stream, attend, merge_heads, split_heads
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel

_FEED_FORWARD = 4  # width of the feed-forward layers over the resampler's


@dataclass(frozen=True)
class ResamplerConfig:
    """The shape of a `Resampler`; the defaults are those of ip-adapter-plus_sd15.

    Attributes:
        embedding_width: c, channels of the image embedding's tokens.
        width: of the resampler's own tokens.
        depth: number of blocks.
        heads: of each block's attention.
        head_width: of each head.
        queries: tokens that come out.
        token_width: f, their channels, the U-Net's cross_attention_dim.
    """

    embedding_width: int = 1280
    width: int = 768
    depth: int = 4
    heads: int = 12
    head_width: int = 64
    queries: int = 16
    token_width: int = 768


class _ResamplerAttention(nnx.Module):
    """Queries from LN(latents), keys and values from [LN(x); LN(latents)], no bias."""

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        width, inner = config.width, config.heads * config.head_width
        self.heads = config.heads
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.to_q = nnx.Linear(width, inner, use_bias=False, rngs=rngs)
        self.to_kv = nnx.Linear(width, 2 * inner, use_bias=False, rngs=rngs)
        self.to_out = nnx.Linear(inner, width, use_bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b k f"], latents: Float[Array, "b q f"]
    ) -> Float[Array, "b q f"]:
        latents = self.norm2(latents)
        both = jnp.concatenate([self.norm1(x), latents], axis=1)
        keys, values = jnp.split(self.to_kv(both), 2, axis=-1)
        q, k, v = (split_heads(part, self.heads) for part in (self.to_q(latents), keys, values))
        return self.to_out(merge_heads(attend(q, k, v)[0]))


class _FeedForward(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.fc1 = nnx.Linear(width, _FEED_FORWARD * width, use_bias=False, rngs=rngs)
        self.fc2 = nnx.Linear(_FEED_FORWARD * width, width, use_bias=False, rngs=rngs)

    def __call__(self, x: Float[Array, "b q f"]) -> Float[Array, "b q f"]:
        return self.fc2(jax.nn.gelu(self.fc1(self.norm(x)), approximate=False))


class _Block(nnx.Module):
    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        self.attention = _ResamplerAttention(config, rngs=rngs)
        self.feed_forward = _FeedForward(config.width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b k f"], latents: Float[Array, "b q f"]
    ) -> Float[Array, "b q f"]:
        latents = self.attention(x, latents) + latents
        return self.feed_forward(latents) + latents


class Resampler(nnx.Module):
    """Tokens of an image embedding -> a few tokens that a U-Net attends to.

    ::

        x = z W + b
        latents = learned queries; depth times:
            latents = latents + attention(LN(latents); [LN(x), LN(latents)])
            latents = latents + W2 gelu(W1 LN(latents))
        tokens = LN(latents W_out + b_out)

    The image projection of IP-Adapter "plus" (Ye et al. 2023, arXiv 2308.06721), a Perceiver
    resampler (Alayrac et al. 2022, arXiv 2204.14198); diffusers' `IPAdapterPlusImageProjection`.

    Args:
        config: its shape.
        rngs: of the random start.
    """

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        self.config = config
        normal = jax.nn.initializers.normal(config.width**-0.5)
        self.latents = nnx.Param(normal(rngs.params(), (1, config.queries, config.width)))
        self.proj_in = nnx.Linear(config.embedding_width, config.width, rngs=rngs)
        self.layers = nnx.List([_Block(config, rngs=rngs) for _ in range(config.depth)])
        self.proj_out = nnx.Linear(config.width, config.token_width, rngs=rngs)
        self.norm_out = nnx.LayerNorm(config.token_width, epsilon=1e-5, rngs=rngs)

    def __call__(self, embedding: Float[Array, "b k c"]) -> Float[Array, "b q f"]:
        x = self.proj_in(embedding)
        latents = jnp.broadcast_to(self.latents[...], (len(x), *self.latents.shape[1:]))
        for block in self.layers:
            latents = block(x, latents)
        return self.norm_out(self.proj_out(latents))


class ImageAdapter(nnx.Module):
    """An image embedding [b, k, c] -> the stream that a frozen U-Net attends to beside the text's.

    It stands in for the image branch of Versatile Diffusion, which Brain-Diffuser, MindEye1 and
    DynaDiff rest on.

    Args:
        config: of its resampler.
        widths: channels of each cross-attention layer, in order of execution.
        heads: heads of each.
        rngs: of the random start.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
        >>> config = ResamplerConfig(12, width=8, depth=1, heads=2, head_width=4, queries=5,
        ...                          token_width=16)
        >>> adapter = ImageAdapter(config, widths=(32,), heads=(2,), rngs=nnx.Rngs(0))
        >>> stream = adapter(jnp.ones((3, 17, 12)))  # 3 images of 17 tokens
        >>> [keys.shape for keys in stream.keys]  # per layer: sample, head, token, head width
        [(3, 2, 5, 16)]
    """

    def __init__(
        self,
        config: ResamplerConfig,
        widths: tuple[int, ...],
        heads: tuple[int, ...],
        *,
        rngs: nnx.Rngs,
    ):
        self.resampler = Resampler(config, rngs=rngs)
        self.attention = DecoupledAttention(config.token_width, widths, heads, rngs=rngs)

    @classmethod
    def for_unet(
        cls, unet: UNet2DConditionModel, config: ResamplerConfig, *, rngs: nnx.Rngs
    ) -> "ImageAdapter":
        """A new adapter that fits a U-Net, its key and value matrices copied from the text's.

        Args:
            unet: the frozen U-Net.
            config: of the resampler; token_width is the U-Net's cross_attention_dim.
            rngs: of the random start.
        """
        widths, heads = cross_attention_shapes(unet)
        adapter = cls(config, tuple(widths), tuple(heads), rngs=rngs)
        adapter.attention.start_from_text(unet)
        return adapter

    def __call__(
        self, embedding: Float[Array, "b k c"], scale: float | Float[Array, ""] = 1.0
    ) -> Stream:
        """The stream of an image embedding.

        Args:
            embedding: z, of the kind that the adapter was trained with.
            scale: weight of this stream's attention output beside the text's.
        """
        return self.attention(self.resampler(embedding), scale)
