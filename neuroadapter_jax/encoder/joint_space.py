"""A small joint space of scenes and captions, over tiny-vit and tiny-sd's text encoder."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    backbone_folder,
    from_tensors,
    load_component,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.features import Features, prepare_images
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import write_json
from neuroadapter_jax.ranges import Count
from neuroadapter_jax.readers import as_type, read_json

ASSET = ASSETS / "joint-space"
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_EXPECTED = "a joint space of `neuroadapter pretrain-joint-space`"


class JointSpaceConfig(NamedTuple):
    """Sizes of `JointSpace`.

    Attributes:
        image_width: of the class token.
        text_width: of the text encoder's states.
        width: of the space.
    """

    image_width: Count = 192
    text_width: Count = 64
    width: Count = 64


class JointSpace(nnx.Module):
    """Two linear maps without bias into one space, and the logarithm of 1 / temperature.

    Radford et al. 2021 (arXiv 2103.00020), section 2.3; the temperature starts at 0.07.

    Args:
        config: its sizes.
        rngs: of the random start.
    """

    def __init__(self, config: JointSpaceConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.visual_projection = nnx.Linear(
            config.image_width, config.width, use_bias=False, rngs=rngs
        )
        self.text_projection = nnx.Linear(
            config.text_width, config.width, use_bias=False, rngs=rngs
        )
        self.logit_scale = nnx.Param(jnp.full((1,), np.log(1 / 0.07), jnp.float32))

    def images(self, class_tokens: Float[Array, "b c"]) -> Float[Array, "b k"]:
        """Unit vectors of images.

        Args:
            class_tokens: tiny-vit's class token after its last norm.
        """
        return _unit(self.visual_projection(class_tokens))

    def texts(self, states: Float[Array, "b c"]) -> Float[Array, "b k"]:
        """Unit vectors of texts.

        Args:
            states: the text encoder's last state of each text; see `last_states`.
        """
        return _unit(self.text_projection(states))


def _unit(x: Float[Array, "b k"]) -> Float[Array, "b k"]:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def contrastive_loss(
    images: Float[Array, "b k"], texts: Float[Array, "b k"], logit_scale: Float[Array, ""]
) -> Float[Array, ""]:
    """InfoNCE from both sides: (CE(s v t') + CE(s t v')) / 2 with the pairs on the diagonal.

    Args:
        images: v, unit vectors.
        texts: t, unit vectors of the same pairs.
        logit_scale: log s; s is at most 100, as in CLIP.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.encoder.joint_space import contrastive_loss
        >>> round(float(contrastive_loss(jnp.eye(2), jnp.eye(2), jnp.log(10.0))), 5)
        5e-05
    """
    scores = jnp.minimum(jnp.exp(logit_scale), 100.0) * images @ texts.T
    both = [-jnp.diagonal(jax.nn.log_softmax(x, axis=-1)).mean() for x in (scores, scores.T)]
    return (both[0] + both[1]) / 2


def last_states(
    states: Float[Array, "b k c"], ids: Int[Array, "b k"], end: int
) -> Float[Array, "b c"]:
    """The state of each text's end token: in a causal encoder the one that has seen all words.

    Args:
        states: of the text encoder.
        ids: token ids; padding after the first end token does not count.
        end: id of the end token.
    """
    place = jnp.argmax(ids == end, axis=1)
    return states[jnp.arange(len(states)), place]


class JointEmbedder:
    """Images and captions as unit vectors [b, width] of a joint space.

    Args:
        space: the two maps.
        vit: the image model.
        text_encoder: the text model.
        tokenizer: its tokenizer.
    """

    def __init__(
        self,
        space: JointSpace,
        vit: Dinov2Model,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
    ):
        self.space, self.tokenizer = space, tokenizer
        self._features = Features("", vit.config.image_size, vit.config.image_size)
        parts = {"space": space, "vit": vit, "text": text_encoder}
        split = {name: nnx.split(module) for name, module in parts.items()}
        graphs = {name: graph for name, (graph, _) in split.items()}
        self._params = {name: params for name, (_, params) in split.items()}

        def images(params: Any, x: Array) -> Array:
            states = nnx.merge(graphs["vit"], params["vit"])(prepare_images(x, self._features))
            merged: Any = nnx.merge(graphs["space"], params["space"])
            return merged.images(states[:, 0])

        def texts(params: Any, ids: Array) -> Array:
            states = nnx.merge(graphs["text"], params["text"])(ids)
            own = last_states(states, ids, tokenizer.end)
            merged: Any = nnx.merge(graphs["space"], params["space"])
            return merged.texts(own)

        self._images, self._texts = jax.jit(images), jax.jit(texts)

    def images(
        self, images: UInt8[np.ndarray, "b y x c"], batch_size: int = 50
    ) -> Float[np.ndarray, "b k"]:
        """Unit vectors of images, 0..255."""
        return self._run(self._images, images, batch_size)

    def texts(self, captions: list[str], batch_size: int = 50) -> Float[np.ndarray, "b k"]:
        """Unit vectors of captions."""
        return self._run(self._texts, self.tokenizer(captions), batch_size)

    def _run(self, function: Any, values: np.ndarray, batch_size: int) -> np.ndarray:
        found = []
        for rows, valid in filled_batches(len(values), batch_size):
            found.append(np.asarray(function(self._params, values[rows]))[:valid])
        return np.concatenate(found)


def save_joint_space(folder: str | Path, space: JointSpace, vit: str, backbone: str) -> None:
    """Write a joint space: config.json and model.safetensors (float16).

    Args:
        folder: to write.
        space: the two maps.
        vit: name or folder of the image model.
        backbone: name or folder of the backbone whose text encoder was used.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / _WEIGHTS, to_tensors(space, np.float16))
    write_json(folder / _CONFIG, {**space.config._asdict(), "vit": vit, "backbone": backbone})


def load_joint_space(folder: str | Path = ASSET) -> JointEmbedder:
    """A joint space with its two networks.

    Args:
        folder: of `neuroadapter pretrain-joint-space`.

    Raises:
        MissingFileError: a file, or a network that config.json names, is not there.
        InputError: config.json or the weights are damaged or do not fit the networks.
    """
    path = Path(folder) / _CONFIG
    space = read_joint_space(folder)
    content = read_json(path, _EXPECTED)
    names = {key: as_type(str, content.get(key), path, _EXPECTED) for key in _NETWORKS}
    config = space.config
    vit, text, tokenizer = load_networks(**names)
    widths = (vit.config.hidden_size, text.config.hidden_size)
    if widths != (config.image_width, config.text_width):
        raise InputError(
            f"{path}: image_width and text_width are {config.image_width} and "
            f"{config.text_width}, the networks' {widths[0]} and {widths[1]}; expected the same, "
            "so take the networks that it was trained with."
        )
    return JointEmbedder(space, vit, text, tokenizer)


def read_joint_space(folder: str | Path = ASSET) -> JointSpace:
    """The two maps of a joint space alone.

    Args:
        folder: of `neuroadapter pretrain-joint-space`.

    Raises:
        MissingFileError: a file is not there.
        InputError: config.json or the weights are damaged or do not fit one another.
    """
    folder = Path(folder)
    path = folder / _CONFIG
    if not path.is_file():
        raise MissingFileError(f"{path}: not found; expected {_EXPECTED}, so name its folder.")
    content = read_json(path, _EXPECTED)
    content = {key: value for key, value in content.items() if key not in _NETWORKS}
    sizes = as_type(dict[str, int], content, path, _EXPECTED)
    if sorted(sizes) != sorted(JointSpaceConfig._fields) or min(sizes.values()) < 1:
        raise InputError(
            f"{path} says {sizes}; expected {', '.join(JointSpaceConfig._fields)}, each at least "
            "1; copy it again."
        )
    config = JointSpaceConfig(**sizes)
    abstract = abstract_network(lambda rngs: JointSpace(config, rngs=rngs))
    weights = folder / _WEIGHTS
    return from_tensors(abstract, load_safetensors(weights), str(weights), jnp.float32)


_NETWORKS = ("vit", "backbone")


def load_networks(vit: str, backbone: str) -> tuple[Dinov2Model, CLIPTextModel, CLIPTokenizer]:
    """The networks below a joint space.

    Args:
        vit: name or folder of the image model.
        backbone: name or folder of the backbone whose text encoder is used.

    Raises:
        MissingFileError: one is not there.
    """
    text: Any = load_component(backbone, "text_encoder")
    return load_dinov2(vit), text, CLIPTokenizer(backbone_folder(backbone) / "tokenizer")
