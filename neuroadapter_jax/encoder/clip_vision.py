"""CLIP's image encoder (transformers' `CLIPVisionModelWithProjection`), all its tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.config_files import VISION_ENCODER, read_config
from neuroadapter_jax.diffusion.text_encoder import ACTIVATIONS, CLIPLayer
from neuroadapter_jax.diffusion.weights import from_tensors, load_safetensors, weights_in
from neuroadapter_jax.errors import InputError, MissingFileError, reading

_SECTION = "vision_config"  # of the config.json of a whole CLIP
# Of a whole CLIP, and of transformers before 4.31.
_IGNORED = (
    "text_model.",
    "text_projection.",
    "logit_scale",
    "vision_model.embeddings.position_ids",
)


@dataclass(frozen=True)
class CLIPVisionConfig:
    """The fields of a CLIP image encoder's config.json that shape the network.

    Attributes:
        hidden_size: width of the states.
        intermediate_size: width of the feed-forward layers.
        projection_dim: width after the visual projection.
        num_hidden_layers: transformer layers.
        num_attention_heads: heads, which divide hidden_size.
        image_size: rows and columns of an image.
        patch_size: of a patch, a divisor of image_size.
        hidden_act: "quick_gelu" or "gelu".
        layer_norm_eps: of the layer norms.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        if self.hidden_act not in ACTIVATIONS:
            raise InputError(
                f"Image encoder config: hidden_act is {self.hidden_act!r}; "
                f"expected one of {sorted(ACTIVATIONS)}."
            )


class _Embeddings(nnx.Module):
    def __init__(self, config: CLIPVisionConfig, *, rngs: nnx.Rngs):
        width, side = config.hidden_size, config.patch_size
        self.class_embedding = nnx.Param(jnp.zeros((width,)))
        self.patch_embedding = nnx.Conv(
            3, width, (side, side), strides=(side, side), padding="VALID", use_bias=False, rngs=rngs
        )
        tokens = (config.image_size // side) ** 2 + 1
        self.position_embedding = nnx.Embed(tokens, width, rngs=rngs)

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k f"]:
        patches = self.patch_embedding(images)
        b, width = len(images), patches.shape[-1]
        first = jnp.broadcast_to(self.class_embedding[...], (b, 1, width))
        tokens = jnp.concatenate([first, patches.reshape(b, -1, width)], axis=1)
        return tokens + self.position_embedding(jnp.arange(tokens.shape[1]))


class _Encoder(nnx.Module):
    def __init__(self, config: CLIPVisionConfig, *, rngs: nnx.Rngs):
        layers = range(config.num_hidden_layers)
        self.layers = nnx.List([CLIPLayer(config, False, rngs=rngs) for _ in layers])


class _VisionTransformer(nnx.Module):
    def __init__(self, config: CLIPVisionConfig, *, rngs: nnx.Rngs):
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = _Embeddings(config, rngs=rngs)
        self.pre_layrnorm = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)  # transformers' own name
        self.encoder = _Encoder(config, rngs=rngs)
        self.post_layernorm = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)


class CLIPVisionModel(nnx.Module):
    """Normalised images [b, y, x, c] -> the states of the class token and of all patches.

    Radford et al. 2021 (arXiv 2103.00020).

    Args:
        config: its sizes.
        rngs: of the random start; `load_clip_vision` fills in stored weights.
    """

    config_class = CLIPVisionConfig

    def __init__(self, config: CLIPVisionConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.vision_model = _VisionTransformer(config, rngs=rngs)
        self.visual_projection = nnx.Linear(
            config.hidden_size, config.projection_dim, use_bias=False, rngs=rngs
        )

    def penultimate(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k f"]:
        """The states before the last layer, which IP-Adapter-plus reads; not normalised.

        Args:
            images: normalised by CLIP's colours, image_size x image_size.
        """
        return self._states(images, self.config.num_hidden_layers - 1)

    def projected(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k c2"]:
        """The last states, each through the last norm and the visual projection.

        Args:
            images: normalised by CLIP's colours, image_size x image_size.
        """
        states = self._states(images, self.config.num_hidden_layers)
        return self.visual_projection(self.vision_model.post_layernorm(states))

    def _states(self, images: Float[Array, "b y x c"], layers: int) -> Float[Array, "b k f"]:
        x = self.vision_model.pre_layrnorm(self.vision_model.embeddings(images))
        for layer in self.vision_model.encoder.layers[:layers]:
            x = layer(x)
        return x


def load_clip_vision(folder: str | Path, dtype: Any = np.float32) -> CLIPVisionModel:
    """The image encoder of a folder in transformers' layout, of an image encoder or a whole CLIP.

    Args:
        folder: with config.json and model.safetensors (or an index of shards).
        dtype: of the parameters.

    Raises:
        MissingFileError: a file is not there.
        InputError: the weights do not fit config.json, or it is of another network.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise MissingFileError(f"{path}: not found; expected a folder in transformers' layout.")
    config = read_config(path, CLIPVisionConfig, VISION_ENCODER, _SECTION)
    with reading(path, "sizes of which a network can be made"):
        abstract = abstract_network(lambda rngs: CLIPVisionModel(config, rngs=rngs))
    weights = weights_in(folder, "model")
    if weights is None:
        raise MissingFileError(
            f"{folder / 'model'}.safetensors: not found, nor an index of shards; expected the "
            "weights as safetensors."
        )
    tensors = load_safetensors(weights)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_IGNORED)}
    return from_tensors(abstract, own, str(weights), dtype)
