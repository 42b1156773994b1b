"""The image embedding z [b, k, c] that decoders predict and image adapters read."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.encoder.clip_vision import CLIPVisionModel, load_clip_vision
from neuroadapter_jax.encoder.features import Features, prepare_images
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.encoder.weights import load_dinov2
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree, of_values
from neuroadapter_jax.readers import read_json

Kind = Literal["pooled", "projected", "penultimate"]
KINDS: tuple[str, ...] = get_args(Kind)
POOLED_SIDE = 4  # rows and columns that DINOv2's patches are averaged to

# Of CLIP's preprocessing (transformers' OPENAI_CLIP_MEAN and OPENAI_CLIP_STD).
_CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
_CLIP_SD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)


@dataclass(frozen=True)
class ImageEmbedder:
    """Images -> their embedding, by a frozen network.

    ::

        pooled        z = [CLS | mean of the patches in each of 4 x 4 cells] / |CLS|   (DINOv2)
        projected     z = W LN(states) / |token 0|, all tokens                         (CLIP)
        penultimate   z = the states before the last layer, as they are                (CLIP)

    "projected" is MindEye's (`Clipper` with `norm_embs`), "penultimate" IP-Adapter-plus's. With
    tiny-vit "pooled" gives 17 tokens of 192 channels, a twelfth of CLIP's.

    Attributes:
        name: the folder, or the shipped name, of the network.
        kind: which embedding.
        network: the network.
    """

    name: str
    kind: Kind
    network: Dinov2Model | CLIPVisionModel

    @classmethod
    def load(cls, name: str | Path, kind: Kind | None = None) -> "ImageEmbedder":
        """An embedder by its network's name.

        Args:
            name: a folder in transformers' layout, of a CLIP or a DINOv2, or the name of a DINOv2
                that ships ("tiny-vit") or is on the Hub.
            kind: which embedding; None takes "pooled" for DINOv2 and "projected" for CLIP.

        Raises:
            MissingFileError: the network is not there.
            InputError: an unknown kind, or one that the network does not have.
        """
        config = Path(name) / "config.json"
        is_clip = False
        if config.is_file():
            raw = read_json(config, "the settings of an image encoder")
            is_clip = str(raw.get("model_type", "")).startswith("clip")
        fitting = KINDS[1:] if is_clip else KINDS[:1]
        chosen = fitting[0] if kind is None else kind
        if chosen not in fitting:
            network = "CLIP" if is_clip else "DINOv2"
            raise InputError(
                f"{name} is a {network}, which gives no embedding {chosen!r}; expected "
                f"{' or '.join(map(repr, fitting))}."
            )
        loaded = load_clip_vision(name) if is_clip else load_dinov2(name)
        return cls(str(name), as_kind(chosen), loaded)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the kind and of every byte of the weights."""
        return of_values([self.kind, of_tree(nnx.state(self.network, nnx.Param))])

    @functools.cached_property
    def shape(self) -> tuple[int, int]:
        """(k, c): tokens, and channels of each."""
        found = jax.eval_shape(lambda: self.of_prepared(self._prepared_zeros()))
        return found.shape[1], found.shape[2]

    def prepare(self, images: UInt8[Array | np.ndarray, "b y x c"]) -> Float[Array, "b y2 x2 c"]:
        """Images as the network takes them.

        Args:
            images: 0 to 255, square.
        """
        size = self.network.config.image_size
        if isinstance(self.network, Dinov2Model):
            return prepare_images(images, Features("", size, size))
        x = jnp.asarray(images, jnp.float32)
        if x.shape[1:3] != (size, size):
            shape = (len(x), size, size, x.shape[-1])
            # Rounded to bytes, as PIL's picture is.
            x = jnp.clip(jnp.round(jax.image.resize(x, shape, "cubic", antialias=True)), 0, 255)
        return (x / 255.0 - _CLIP_MEAN) / _CLIP_SD

    def of_prepared(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k c2"]:
        """The embedding of prepared images; traceable.

        Args:
            images: from `prepare`.
        """
        if isinstance(self.network, CLIPVisionModel):
            if self.kind == "penultimate":
                return self.network.penultimate(images)
            return over_first_norm(self.network.projected(images))
        return over_first_norm(pooled_tokens(self.network(images), self.network.config))

    def __call__(
        self, images: UInt8[np.ndarray, "b y x c"], batch_size: int = 32
    ) -> Float[np.ndarray, "b k c2"]:
        """The embedding of images.

        Args:
            images: 0 to 255, square.
            batch_size: images at once.
        """
        read = self._compiled
        return map_batches(
            lambda rows: read(images[rows]), len(images), min(batch_size, len(images))
        )

    def of_no_image(self) -> Float[np.ndarray, "1 k c"]:
        """The embedding of an image whose prepared pixels are all 0: guidance's other half."""
        return np.asarray(self.of_prepared(self._prepared_zeros()))

    def _prepared_zeros(self) -> Float[Array, "1 y x c"]:
        size = self.network.config.image_size
        return jnp.zeros((1, size, size, 3))

    @functools.cached_property
    def _compiled(self) -> Callable[[Any], np.ndarray]:
        graph, params = nnx.split(self.network)

        @jax.jit
        def read(params, images):
            own = ImageEmbedder(self.name, self.kind, nnx.merge(graph, params))
            return own.of_prepared(own.prepare(images))

        return lambda images: np.asarray(read(params, images))


def as_kind(name: str) -> Kind:
    """A kind of embedding by its name.

    Args:
        name: such as a file holds it.

    Raises:
        InputError: there is no such kind.
    """
    if name not in KINDS:
        raise InputError(f"kind is {name!r}; expected one of {', '.join(KINDS)}.")
    return cast(Kind, name)


def pooled_tokens(states: Float[Array, "b k f"], config: Any) -> Float[Array, "b k2 f"]:
    """The class token, and the patch tokens averaged in 4 x 4 cells of equal size.

    Args:
        states: of class, register and patch tokens, the patches row by row.
        config: of the `Dinov2Model` that gave them.

    Raises:
        InputError: rows of patches that 4 does not divide.
    """
    side = config.image_size // config.patch_size
    if side % POOLED_SIDE:
        raise InputError(
            f"The image encoder has {side} x {side} patches, which cannot be averaged in "
            f"{POOLED_SIDE} x {POOLED_SIDE} equal cells; take one whose image_size is a multiple "
            f"of {POOLED_SIDE * config.patch_size}."
        )
    b, _, f = states.shape
    step = side // POOLED_SIDE
    patches = states[:, 1 + config.num_register_tokens :]
    cells = patches.reshape(b, POOLED_SIDE, step, POOLED_SIDE, step, f).mean(axis=(2, 4))
    return jnp.concatenate([states[:, :1], cells.reshape(b, -1, f)], axis=1)


def over_first_norm(tokens: Float[Array, "b k c"]) -> Float[Array, "b k c"]:
    """All tokens of an image over the norm of its first one.

    Args:
        tokens: of which the first is the class token.
    """
    return tokens / jnp.linalg.norm(tokens[:, :1], axis=-1, keepdims=True)
