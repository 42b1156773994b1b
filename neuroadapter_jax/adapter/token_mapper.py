"""Learned queries that read the region tokens: a variant without one token per region."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Attention, LayerStream
from neuroadapter_jax.errors import InputError

_HEADS, _HIDDEN = 8, 1024


class TokenMapper(nnx.Module):
    """One transformer decoder layer, norms first: q learned queries X attend to p region tokens E.

    With a learned embedding R per region::

        X = X + self_attention(norm1(X))
        X = X + cross_attention(norm2(X), E + R)
        X = X + W2 relu(W1 norm3(X))
        tokens = norm(X)

    The released code's "transformer_decoder" (8 heads, feed-forward width 1024). Its layer is not
    public and has dropout of 0.1; this is PyTorch's `TransformerDecoderLayer` without dropout.

    Args:
        num_queries: the number q of queries, and so of tokens that come out.
        num_regions: the number p of regions.
        width: width f of a token, a multiple of the 8 heads.
        rngs: of the random start.

    Raises:
        InputError: the width is no multiple of the heads.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.adapter.token_mapper import TokenMapper
        >>> mapper = TokenMapper(num_queries=3, num_regions=5, width=16, rngs=nnx.Rngs(0))
        >>> mapper(jnp.zeros((2, 5, 16))).shape  # five region tokens become three
        (2, 3, 16)
    """

    def __init__(self, num_queries: int, num_regions: int, width: int, *, rngs: nnx.Rngs):
        if width % _HEADS:
            raise InputError(
                f"The token mapper has {_HEADS} heads, which tokens of width {width} cannot "
                "share; use a U-Net whose cross_attention_dim is a multiple of it."
            )

        def table(rows):
            return nnx.Param(jax.random.normal(rngs.params(), (rows, width)))

        def norm():
            return nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)

        self.queries, self.region_embeddings = table(num_queries), table(num_regions)
        self.self_attention = Attention(width, _HEADS, qkv_bias=True, rngs=rngs)
        self.cross_attention = Attention(width, _HEADS, qkv_bias=True, rngs=rngs)
        self.linear1 = nnx.Linear(width, _HIDDEN, rngs=rngs)
        self.linear2 = nnx.Linear(_HIDDEN, width, rngs=rngs)
        self.norm1, self.norm2, self.norm3, self.norm = norm(), norm(), norm(), norm()

    def __call__(self, tokens: Float[Array, "b p f"]) -> Float[Array, "b q f"]:
        queries = self.queries[...]
        x = jnp.broadcast_to(queries, (len(tokens), *queries.shape))
        x = x + self.self_attention(self.norm1(x))[0]
        keys, values = self.cross_attention.keys_values(tokens + self.region_embeddings[...])
        x = x + self.cross_attention(self.norm2(x), [LayerStream(keys, values)])[0]
        x = x + self.linear2(jax.nn.relu(self.linear1(self.norm3(x))))
        return self.norm(x)
