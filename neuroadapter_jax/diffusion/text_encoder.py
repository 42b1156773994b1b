"""CLIP's text encoder (transformers' `CLIPTextModel`), as Stable Diffusion 1.x uses it."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.attention import attention_weights, merge_heads, split_heads
from neuroadapter_jax.errors import InputError

ACTIVATIONS = {
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


@dataclass(frozen=True)
class CLIPTextConfig:
    """The fields of a CLIP text encoder's config.json that shape the network.

    Attributes:
        vocab_size: ids that the token embedding has.
        hidden_size: width c of the states.
        intermediate_size: width of the feed-forward layers.
        num_hidden_layers: transformer layers.
        num_attention_heads: heads, which divide hidden_size.
        max_position_embeddings: k, length of a padded text.
        hidden_act: "quick_gelu" or "gelu".
        layer_norm_eps: of the layer norms.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        if self.hidden_act not in ACTIVATIONS:
            raise InputError(
                f"Text encoder config: hidden_act is {self.hidden_act!r}; "
                f"expected one of {sorted(ACTIVATIONS)}."
            )


class _Embeddings(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.token_embedding = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embedding = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)

    def __call__(self, ids: Int[Array, "b k"]) -> Float[Array, "b k c"]:
        return self.token_embedding(ids) + self.position_embedding(jnp.arange(ids.shape[1]))


@runtime_checkable
class _Sizes(Protocol):
    """What a layer reads of a configuration, of text or of images."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def hidden_act(self) -> str: ...
    @property
    def layer_norm_eps(self) -> float: ...


class _SelfAttention(nnx.Module):
    def __init__(self, config: _Sizes, causal: bool, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.num_heads, self.causal = config.num_attention_heads, causal
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b k c"]) -> Float[Array, "b k c"]:
        q, k, v = (
            split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        length = x.shape[1]
        causal = jnp.tril(jnp.ones((length, length), bool)) if self.causal else None
        out = jnp.einsum("bhqk,bhkd->bhqd", attention_weights(q, k, causal), v)
        return self.out_proj(merge_heads(out))


class _MLP(nnx.Module):
    def __init__(self, config: _Sizes, *, rngs: nnx.Rngs):
        self.hidden_act = config.hidden_act
        self.fc1 = nnx.Linear(config.hidden_size, config.intermediate_size, rngs=rngs)
        self.fc2 = nnx.Linear(config.intermediate_size, config.hidden_size, rngs=rngs)

    def __call__(self, x: Float[Array, "b k c"]) -> Float[Array, "b k c"]:
        return self.fc2(ACTIVATIONS[self.hidden_act](self.fc1(x)))


class CLIPLayer(nnx.Module):
    """A transformer layer of CLIP; that of text is causal, that of images is not.

    Args:
        config: its sizes.
        causal: whether a token attends to those before it only.
        rngs: of the random start.
    """

    def __init__(self, config: _Sizes, causal: bool, *, rngs: nnx.Rngs):
        width, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.self_attn = _SelfAttention(config, causal, rngs=rngs)
        self.layer_norm2 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.mlp = _MLP(config, rngs=rngs)

    def __call__(self, x: Float[Array, "b k c"]) -> Float[Array, "b k c"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Encoder(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        layers = range(config.num_hidden_layers)
        self.layers = nnx.List([CLIPLayer(config, True, rngs=rngs) for _ in layers])


class _TextTransformer(nnx.Module):
    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        self.embeddings = _Embeddings(config, rngs=rngs)
        self.encoder = _Encoder(config, rngs=rngs)
        self.final_layer_norm = nnx.LayerNorm(
            config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs
        )


class CLIPTextModel(nnx.Module):
    """Token ids [b, k] -> states [b, k, hidden_size] after the final norm (causal).

    Args:
        config: its sizes.
        rngs: of the random start; `load_component` fills in stored weights.
    """

    config_class = CLIPTextConfig

    def __init__(self, config: CLIPTextConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.text_model = _TextTransformer(config, rngs=rngs)

    def __call__(self, ids: Int[Array, "b k"]) -> Float[Array, "b k c"]:
        longest = self.config.max_position_embeddings
        if ids.shape[1] > longest:
            raise InputError(
                f"Texts are {ids.shape[1]} tokens long, as model_max_length of the tokenizer says, "
                f"but max_position_embeddings of the text encoder is {longest}; expected at most "
                "that, so take both of one model."
            )
        x = self.text_model.embeddings(ids)
        for layer in self.text_model.encoder.layers:
            x = layer(x)
        return self.text_model.final_layer_norm(x)
