"""A small convolutional net that reads which category stands in which slot of a scene."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from safetensors.numpy import save

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.diffusion.weights import load_safetensors
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import write_file, write_json, write_text
from neuroadapter_jax.finite import require_finite_tensors
from neuroadapter_jax.metrics.recall import semantic_precision, semantic_recall
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import as_type, read_json
from neuroadapter_jax.tables import markdown_table

ASSET = Path(__file__).parents[1] / "assets" / "scene_reader"
_LUMA = np.array([0.2125, 0.7154, 0.0721])


@dataclasses.dataclass(frozen=True)
class SceneReaderConfig:
    """Sizes of a scene reader.

    Args:
        categories: names of the categories, in the order of their indices.
        slot_centres: (y, x) in pixels of the positions at which an object can stand.
        image_size: height and width of the images in pixels, a multiple of 4.
        window: side in pixels of the part of the image around each slot that is read, even.
        widths: channels of the three convolutions.
        hidden: width of the layer before the logits.
    """

    categories: tuple[str, ...]
    slot_centres: tuple[tuple[int, int], ...]
    image_size: int = 64
    window: int = 28
    widths: tuple[int, int, int] = (16, 32, 64)
    hidden: int = 128


class SceneReader(nnx.Module):
    """Logits of empty and of each category, for each slot.

    One net for all slots looks at a window around each: three convolutions of stride 2 and two
    linear layers, with SiLU between them.

    Args:
        config: its sizes.
        rngs: of the random start.
    """

    def __init__(self, config: SceneReaderConfig, rngs: nnx.Rngs):
        self.config = config
        w1, w2, w3 = config.widths
        self.conv1 = nnx.Conv(3, w1, (4, 4), strides=2, rngs=rngs)
        self.conv2 = nnx.Conv(w1, w2, (3, 3), strides=2, rngs=rngs)
        self.conv3 = nnx.Conv(w2, w3, (3, 3), strides=2, rngs=rngs)
        cells = -(-config.window // 8)
        self.linear1 = nnx.Linear(cells * cells * w3, config.hidden, rngs=rngs)
        self.linear2 = nnx.Linear(config.hidden, len(config.categories) + 1, rngs=rngs)

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b slot k"]:
        """Reads images with values in [-1, 1].

        Args:
            images: RGB images, -1..1.

        Returns:
            Logits; k = 0 is empty, k = 1 + category otherwise.
        """
        side, centres = self.config.window, self.config.slot_centres
        margin = side // 2
        padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), "edge")
        hidden = jnp.concatenate([padded[:, y : y + side, x : x + side] for y, x in centres])
        for conv in (self.conv1, self.conv2, self.conv3):
            hidden = nnx.silu(conv(hidden))
        hidden = nnx.silu(self.linear1(hidden.reshape(len(hidden), -1)))
        return self.linear2(hidden).reshape(len(centres), len(images), -1).swapaxes(0, 1)


@jax.jit
def _read(graph, params, images):
    return nnx.merge(graph, params)(images / 127.5 - 1).argmax(axis=-1) - 1


def read_scenes(
    reader: SceneReader, images: UInt8[np.ndarray, "b y x c"], batch_size: int = 128
) -> Int[np.ndarray, "b slot"]:
    """Reads the most probable category, or -1 for empty, in each slot.

    Args:
        reader: the net.
        images: RGB images, 0..255.
        batch_size: images per device call.

    Returns:
        int8 categories, -1 for empty.

    Raises:
        InputError: if the images are not uint8 of the reader's size.
    """
    size = reader.config.image_size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise InputError(
            f"The scene reader reads uint8 images [b, {size}, {size}, 3], found {images.dtype} "
            f"{list(images.shape)}: resize or convert them first."
        )
    graph, params = nnx.split(reader)

    def read(rows: Int[np.ndarray, " b"]) -> Int[np.ndarray, "b slot"]:
        return np.asarray(_read(graph, params, images[rows]))

    return map_batches(read, len(images), batch_size).astype(np.int8)


def _named_leaves(reader: SceneReader) -> dict[str, Any]:
    state = nnx.to_flat_state(nnx.state(reader, nnx.Param))
    return {".".join(map(str, path)): leaf.get_value() for path, leaf in state}


def save_scene_reader(folder: str | os.PathLike, reader: SceneReader, card: str) -> None:
    """Writes ``config.json``, ``model.safetensors`` (float16) and ``README.md``.

    Args:
        folder: made if missing; each file is replaced atomically.
        reader: the net.
        card: text of the README.
    """
    folder = Path(folder)
    tensors = {name: np.asarray(leaf, np.float16) for name, leaf in _named_leaves(reader).items()}
    write_json(folder / "config.json", dataclasses.asdict(reader.config))
    weights = save(tensors)
    write_file(folder / "model.safetensors", lambda partial: partial.write_bytes(weights))
    write_text(folder / "README.md", card)


def load_scene_reader(folder: str | os.PathLike = ASSET) -> SceneReader:
    """Reads a scene reader, strictly: every tensor used, every parameter filled, shapes equal.

    Args:
        folder: folder with ``config.json`` and ``model.safetensors``; the shipped one if left out.

    Returns:
        The net, in float32.

    Raises:
        MissingFileError: if a file is missing.
        InputError: if tensors are missing, unknown or of another shape.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise MissingFileError(
                f"{folder / name} is missing: a scene reader is a folder with config.json and "
                "model.safetensors, made by `neuroadapter train-scene-reader`."
            )
    fields = read_json(folder / "config.json", "a scene reader's sizes")
    config = as_type(SceneReaderConfig, fields, folder / "config.json")
    with reading(folder / "config.json", "sizes that a scene reader can have"):
        reader = abstract_network(lambda rngs: SceneReader(config, rngs))
    expected = {name: leaf.shape for name, leaf in _named_leaves(reader).items()}
    tensors = load_safetensors(folder / "model.safetensors")
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        raise InputError(
            f"{folder / 'model.safetensors'} does not fit its config.json at {names[0]} "
            f"({len(names)} such tensors): found {found.get(names[0], 'no such tensor')}, expected "
            f"{expected.get(names[0], 'no such tensor')}; export the reader again."
        )
    require_finite_tensors(tensors, str(folder / "model.safetensors"), "export the reader again")
    state = nnx.state(reader, nnx.Param)
    filled = [
        (path, leaf.replace(jnp.asarray(tensors[".".join(map(str, path))], jnp.float32)))
        for path, leaf in nnx.to_flat_state(state)
    ]
    nnx.update(reader, nnx.from_flat_state(filled))
    return reader


def augment(images: Float[Array, "b y x c"], key: PRNGKeyArray) -> Float[Array, "b y x c"]:
    """Random colour, shift, blur and noise, as an imperfect decoder might add.

    Per image: saturation in [0.6, 1.3], gain per channel in [0.8, 1.2], offset per channel in
    [-0.15, 0.15], shift up to 1 pixel each way, Gaussian blur of sigma in [0.2, 1.6] pixels,
    noise of standard deviation in [0, 0.1] per pixel and as much again in 4 x 4 pixel blobs.

    Args:
        images: RGB images, -1..1.
        key: random key.

    Returns:
        Changed images, clipped to -1..1.
    """
    b, size, _, channels = images.shape
    keys = iter(jax.random.split(key, 8))

    def uniform(low: float, high: float, *shape: int) -> Array:
        return jax.random.uniform(next(keys), (b, *shape), minval=low, maxval=high)

    grey = (images @ jnp.asarray(_LUMA, images.dtype))[..., None]
    images = grey + uniform(0.6, 1.3, 1, 1, 1) * (images - grey)
    images = images * uniform(0.8, 1.2, 1, 1, channels) + uniform(-0.15, 0.15, 1, 1, channels)

    pixels = jnp.arange(size, dtype=images.dtype)
    sources = pixels[:, None] + uniform(-1.0, 1.0, 2, 1, 1)
    blur = jax.nn.softmax(-0.5 * ((sources - pixels) / uniform(0.2, 1.6, 1, 1, 1)) ** 2, axis=-1)
    images = jnp.einsum("byi,bijc->byjc", blur[:, 0], images)
    images = jnp.einsum("bxj,byjc->byxc", blur[:, 1], images)

    fine = jax.random.normal(next(keys), images.shape)
    blobs = jax.random.normal(next(keys), (b, size // 4, size // 4, channels))
    noise = fine + blobs.repeat(4, axis=1).repeat(4, axis=2)
    return jnp.clip(images + uniform(0.0, 0.1, 1, 1, 1) * noise, -1, 1)


def train_scene_reader(
    sample: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    config: SceneReaderConfig,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float = 1e-4,
    seed: int = 0,
    progress: bool = True,
) -> tuple[SceneReader, list[float]]:
    """Trains a scene reader on fresh scenes: mean cross-entropy over slots, AdamW, cosine decay.

    Args:
        sample: ``sample(num, start)`` gives images uint8 [num, y, x, 3] and categories
            [num, slot] (-1 empty) of the scenes start..start+num-1.
        config: sizes of the net.
        num_steps: optimizer steps.
        batch_size: scenes per step, none used twice.
        learning_rate: peak, after a warm-up over the first twentieth.
        weight_decay: AdamW's.
        seed: seed of initialisation and augmentation.
        progress: whether to show a progress bar.

    Returns:
        The net and the loss of every step.
    """
    graph, params = nnx.split(SceneReader(config, nnx.Rngs(seed)))
    schedule = optax.warmup_cosine_decay_schedule(0, learning_rate, num_steps // 20, num_steps)
    optimizer = optax.adamw(schedule, weight_decay=weight_decay)
    key = jax.random.key(seed + 1)

    def loss_fn(params, images, labels, key):
        logits = nnx.merge(graph, params)(augment(images / 127.5 - 1, key))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train_step(params, opt_state, images, labels, step):
        loss, grads = jax.value_and_grad(loss_fn)(
            params, images, labels, jax.random.fold_in(key, step)
        )
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    opt_state = optimizer.init(params)
    losses = []
    with Bar(range(num_steps), desc="scene reader", disable=not progress) as bar:
        for step in bar:
            images, categories = sample(batch_size, step * batch_size)
            labels = categories.astype(np.int32) + 1
            params, opt_state, loss = train_step(params, opt_state, images, labels, step)
            losses.append(loss)
            if step % 20 == 0:
                bar.set_postfix(loss=f"{float(loss):.3f}")
    return nnx.merge(graph, params), [float(loss) for loss in losses]


def reader_accuracy(
    reader: SceneReader,
    images: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
) -> dict[str, Any]:
    """Recall and precision of objects, and share of slots read rightly, on given images.

    Args:
        reader: the net.
        images: RGB images, 0..255.
        categories: true category per slot, -1 for empty.

    Returns:
        ``recall``, ``precision``, ``slots`` in [0, 1], and ``num_images``.
    """
    read = read_scenes(reader, images)
    return {
        "recall": semantic_recall(read, categories),
        "precision": semantic_precision(read, categories),
        "slots": float((read == categories).mean()),
        "num_images": len(images),
    }


def model_card(
    command: str,
    minutes: float,
    losses: list[float],
    clean: dict[str, Any],
    changed: dict[str, Any],
) -> str:
    """The README of a trained scene reader.

    Args:
        command: what trained it.
        minutes: CPU time of the training.
        losses: loss of every step.
        clean: :func:`reader_accuracy` on held-out scenes.
        changed: the same after :func:`augment`.
    """
    table = markdown_table(
        ["scenes", "recall of objects", "precision of objects", "slots right"],
        [
            [name, *(f"{scores[key]:.2%}" for key in ("recall", "precision", "slots"))]
            for name, scores in {"as rendered": clean, "augmented": changed}.items()
        ],
    )
    last = losses[-50:]
    return f"""# Scene reader

Reads, from a 64 x 64 scene of the simulated data, which category (or nothing) stands in each of six
slots. It gives the semantic score of reconstructions. Trained on rendered scenes alone: no
response of a brain, no reconstruction and no output of a diffusion model was among its data.

    {command}

{len(losses)} steps, {minutes:.1f} minutes of CPU time, sampling of scenes included; mean loss
of the last {len(last)} steps {sum(last) / len(last):.4f} nats per slot, on augmented scenes.

On {clean["num_images"]} held-out scenes of another seed, with the float32 weights:

{table}
*Augmented* scenes are changed as in training: colour, shift, blur, noise.

Weights are float16 (`model.safetensors`), tensor names are the paths of the Flax NNX module.
The scenes are composed from OpenMoji artwork (https://openmoji.org), licence CC BY-SA 4.0.
"""
