"""A small convolutional net that reads which category stands in which slot of a scene."""

import dataclasses
import functools
import json
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
from safetensors.numpy import load_file, save
from tqdm import tqdm

from neuroadapter_jax.evaluation.semantics import semantic_precision, semantic_recall

ASSET = Path(__file__).parents[1] / "assets" / "scene_reader"
_LUMA = jnp.array([0.2125, 0.7154, 0.0721])


@dataclasses.dataclass(frozen=True)
class SceneReaderConfig:
    """Sizes of a scene reader.

    Args:
        categories: names of the categories, in the order of their indices.
        num_slots: positions at which a thing can stand.
        image_size: height and width of the images in pixels, a multiple of 8.
        widths: channels of the four convolutions, each a multiple of 8.
        hidden: channels per cell of the 8-times coarser grid that the last layer sees.
    """

    categories: tuple[str, ...]
    num_slots: int = 6
    image_size: int = 64
    widths: tuple[int, int, int, int] = (24, 48, 64, 96)
    hidden: int = 32


class SceneReader(nnx.Module):
    """Logits of empty and of each category, for each slot.

    Convolutions at 1/2, 1/4, 1/4 and 1/8 of the resolution, each with group norm and SiLU, then
    one linear layer over the whole coarse grid.
    """

    def __init__(self, config: SceneReaderConfig, rngs: nnx.Rngs):
        self.config = config
        w1, w2, w3, w4 = config.widths
        self.conv1 = nnx.Conv(3, w1, (5, 5), strides=2, rngs=rngs)
        self.norm1 = nnx.GroupNorm(w1, num_groups=8, rngs=rngs)
        self.conv2 = nnx.Conv(w1, w2, (3, 3), strides=2, rngs=rngs)
        self.norm2 = nnx.GroupNorm(w2, num_groups=8, rngs=rngs)
        self.conv3 = nnx.Conv(w2, w3, (3, 3), rngs=rngs)
        self.norm3 = nnx.GroupNorm(w3, num_groups=8, rngs=rngs)
        self.conv4 = nnx.Conv(w3, w4, (3, 3), strides=2, rngs=rngs)
        self.norm4 = nnx.GroupNorm(w4, num_groups=8, rngs=rngs)
        self.squeeze = nnx.Conv(w4, config.hidden, (1, 1), rngs=rngs)
        grid = config.image_size // 8
        self.classify = nnx.Linear(
            grid * grid * config.hidden,
            config.num_slots * (len(config.categories) + 1),
            rngs=rngs,
        )

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b slot k"]:
        """Reads images with values in [-1, 1].

        Args:
            images: RGB images, -1..1.

        Returns:
            Logits; k = 0 is empty, k = 1 + category otherwise.
        """
        hidden = nnx.silu(self.norm1(self.conv1(images)))
        hidden = nnx.silu(self.norm2(self.conv2(hidden)))
        hidden = nnx.silu(self.norm3(self.conv3(hidden)))
        hidden = nnx.silu(self.norm4(self.conv4(hidden)))
        hidden = nnx.silu(self.squeeze(hidden)).reshape(len(images), -1)
        return self.classify(hidden).reshape(len(images), self.config.num_slots, -1)


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
        batch_size: images per device call; the last call is padded to it.

    Returns:
        int8 categories, -1 for empty.

    Raises:
        ValueError: if the images are not uint8 of the reader's size.
    """
    size = reader.config.image_size
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"The scene reader reads uint8 images [b, {size}, {size}, 3], found {images.dtype} "
            f"{list(images.shape)}: resize or convert them first."
        )
    graph, params = nnx.split(reader)
    readings = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0))
        readings.append(_read(graph, params, np.pad(batch, padding))[: len(batch)])
    return np.concatenate(readings).astype(np.int8)


def _named_leaves(reader: SceneReader) -> dict[str, Array]:
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
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.asarray(leaf, np.float16) for name, leaf in _named_leaves(reader).items()}
    config = json.dumps(dataclasses.asdict(reader.config), indent=2) + "\n"
    for name, content in {
        "config.json": config.encode(),
        "model.safetensors": save(tensors),
        "README.md": card.encode(),
    }.items():
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, folder / name)


def load_scene_reader(folder: str | os.PathLike = ASSET) -> SceneReader:
    """Reads a scene reader, strictly: every tensor used, every parameter filled, shapes equal.

    Args:
        folder: folder with ``config.json`` and ``model.safetensors``; the shipped one if left out.

    Returns:
        The net, in float32.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if tensors are missing, unknown or of another shape.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: a scene reader is a folder with config.json and "
                "model.safetensors, made by launch/train_scene_reader.py."
            )
    fields = json.loads((folder / "config.json").read_text())
    config = SceneReaderConfig(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    )
    reader = nnx.eval_shape(lambda: SceneReader(config, nnx.Rngs(0)))
    expected = {name: leaf.shape for name, leaf in _named_leaves(reader).items()}
    tensors = load_file(folder / "model.safetensors")
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        names = sorted(n for n in found.keys() | expected.keys() if found.get(n) != expected.get(n))
        raise ValueError(
            f"{folder / 'model.safetensors'} does not fit its config.json at {names[0]} "
            f"({len(names)} such tensors): found {found.get(names[0], 'no such tensor')}, expected "
            f"{expected.get(names[0], 'no such tensor')}; export the reader again."
        )
    state = nnx.state(reader, nnx.Param)
    filled = [
        (path, leaf.replace(jnp.asarray(tensors[".".join(map(str, path))], jnp.float32)))
        for path, leaf in nnx.to_flat_state(state)
    ]
    nnx.update(reader, nnx.from_flat_state(filled))
    return reader


def augment(
    images: Float[Array, "b y x c"], key: PRNGKeyArray, max_shift: int = 2
) -> Float[Array, "b y x c"]:
    """Random colour, shift, blur, halved resolution, and noise, as an imperfect decoder might add.

    Per image: saturation in [0.6, 1.3], gain per channel in [0.8, 1.2], offset per channel in
    [-0.15, 0.15], shift up to ``max_shift`` pixels with edge padding, Gaussian blur of sigma in
    [0, 1.5] pixels, for three in ten images a down- and upsampling by two, noise of standard
    deviation in [0, 0.1] per pixel and as much again in 4 x 4 pixel blobs.

    Args:
        images: RGB images, -1..1.
        key: random key.
        max_shift: largest shift in pixels, each way.

    Returns:
        Changed images, clipped to -1..1.
    """
    b, size, _, _ = images.shape
    keys = iter(jax.random.split(key, 10))

    def uniform(low, high, *shape):
        return jax.random.uniform(next(keys), (b, *shape), minval=low, maxval=high)

    grey = (images @ _LUMA)[..., None]
    images = grey + uniform(0.6, 1.3, 1, 1, 1) * (images - grey)
    images = images * uniform(0.8, 1.2, 1, 1, 3) + uniform(-0.15, 0.15, 1, 1, 3)

    m = max_shift
    padded = jnp.pad(images, ((0, 0), (m, m), (m, m), (0, 0)), mode="edge")
    shift = jax.random.randint(next(keys), (b, 2), 0, 2 * m + 1)
    images = jax.vmap(
        lambda image, by: jax.lax.dynamic_slice(image, (by[0], by[1], 0), (size, size, 3))
    )(padded, shift)

    offsets = jnp.arange(-3, 4)
    window = jnp.exp(-0.5 * (offsets / uniform(0.05, 1.5, 1)) ** 2)
    window = window / window.sum(axis=1, keepdims=True)
    for axis in (1, 2):
        images = sum(
            window[:, i, None, None, None] * jnp.roll(images, int(by), axis)
            for i, by in enumerate(range(-3, 4))
        )
    coarse = jax.image.resize(images, (b, size // 2, size // 2, 3), "linear")
    coarse = jax.image.resize(coarse, images.shape, "linear")
    images = jnp.where(uniform(0, 1, 1, 1, 1) < 0.3, coarse, images)

    fine = jax.random.normal(next(keys), images.shape)
    blobs = jax.random.normal(next(keys), (b, size // 4, size // 4, 3))
    noise = fine + jax.image.resize(blobs, images.shape, "linear")
    return jnp.clip(images + uniform(0, 0.1, 1, 1, 1) * noise, -1, 1)


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
        batch_size: scenes per step, none seen twice.
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
    with tqdm(range(num_steps), desc="scene reader", disable=not progress) as bar:
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
    """Recall and precision of things, and share of slots read rightly, on given images.

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
