"""Features of the training images, computed once: what the brain encoder trains on."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, SupportsIndex

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.identity import FINGERPRINT
from neuroadapter_jax.encoder.features import Features, prepare_images, read_features
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder
from neuroadapter_jax.encoder.weights import dinov2_identity, load_dinov2
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import INPUTS, require_same_settings, write_file, write_json
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json, read_npy


class FeatureDataset:
    """Records with the image's features in place of the image; see `read_features`.

    Args:
        dataset: prepared records.
        features: [images, k, f], in the dataset's order.
    """

    def __init__(self, dataset: PreparedDataset, features: Float[np.ndarray, "i k f"]):
        self.dataset, self.features = dataset, features

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        record = self.dataset.read(index, ("betas",))
        return {
            "betas": record["betas"],
            "image_id": record["image_id"],
            "features": np.asarray(self.features[index]),
        }


def compute_features(
    dataset: PreparedDataset,
    features: Features,
    block: int,
    path: Path,
    batch_size: int = 16,
    progress: bool = True,
) -> Float[np.ndarray, "i k f"]:
    """Every image's features, computed once and stored on disk (float16, [images, k, f]).

    The backbone is frozen, so an epoch costs no pass through it. For 9,000 images of NSD and the
    base model a file takes 13.3 GB.

    Args:
        dataset: the split.
        features: what is read.
        block: of which block.
        path: .npy file; it is read if it is there. The file of the same name that ends in .json
            says what it was made from; beside one of version 0.1.0 there is none.
        batch_size: images at once.
        progress: show a bar.

    Raises:
        InputError: the file was made from other records, another backbone or other settings.
    """
    made_from: dict[str, Any] = {
        "block": block,
        "image_size": features.image_size,
        "padded_size": features.padded_size,
        INPUTS: {
            "prepared": dataset.fingerprint,
            "backbone": dinov2_identity(features.backbone)[FINGERPRINT],
        },
    }
    return _stored(dataset, made_from, lambda: _reader(features, block), path, batch_size, progress)


def compute_embedding(
    dataset: PreparedDataset,
    embedder: ImageEmbedder,
    path: Path,
    batch_size: int = 16,
    progress: bool = True,
) -> Float[np.ndarray, "i k c"]:
    """Every image's embedding, computed once and stored on disk (float16, [images, k, c]).

    It lies beside the records, not in them: another embedder needs no other records. For 9,000
    images and CLIP's 257 tokens of 768 channels a file takes 3.6 GB.

    Args:
        dataset: the split.
        embedder: gives the embedding.
        path: .npy file; it is read if it is there, and the .json beside it says of what it is.
        batch_size: images at once.
        progress: show a bar.

    Raises:
        InputError: the file was made from other records or by another embedder.
    """
    inputs = {"prepared": dataset.fingerprint, "embedder": embedder.fingerprint}
    made_from = {"kind": embedder.kind, INPUTS: inputs}
    read = functools.partial(embedder, batch_size=batch_size)
    return _stored(dataset, made_from, lambda: read, path, batch_size, progress)


def _stored(
    dataset: PreparedDataset,
    made_from: dict[str, Any],
    make_reader: Callable[[], Callable[[np.ndarray], Any]],
    path: Path,
    batch_size: int,
    progress: bool,
) -> Float[np.ndarray, "i k f"]:
    note = path.with_suffix(".json")
    if path.is_file() and note.is_file():
        found = read_json(note, "what the features beside it were made from")
        remedy = "delete both files, or choose another work folder"
        require_same_settings(path, found, made_from, "image features", remedy)
    if not path.is_file():
        read = make_reader()  # first, since weights that are damaged leave no note
        write_json(note, made_from)
        write_file(path, lambda partial: _fill(partial, dataset, read, batch_size, progress))
    found = read_npy(path, "features of images", mapped=True, remedy=f"delete {path}")
    if len(found) != len(dataset):
        raise InputError(
            f"{path}: holds the features of {len(found)} images; expected {len(dataset)}, those of "
            f"{dataset.path}; delete it."
        )
    return found


def _reader(features: Features, block: int) -> Callable[[np.ndarray], Array]:
    """Images [b, y, x, c] -> their features [b, k, f], compiled."""
    graph, params = nnx.split(load_dinov2(features.backbone))

    @jax.jit
    def read(params, images):
        return read_features(nnx.merge(graph, params), prepare_images(images, features), block)

    return lambda images: read(params, images)


def _fill(
    path: Path,
    dataset: PreparedDataset,
    read: Callable[[np.ndarray], Array],
    batch_size: int,
    progress: bool,
) -> None:
    """Write the features of all images as one .npy file, batch by batch."""
    file = None
    with Bar(total=len(dataset), unit="image", desc="image features", disable=not progress) as bar:
        for first in range(0, len(dataset), batch_size):
            rows = range(first, min(first + batch_size, len(dataset)))
            images = np.stack([dataset[i]["image"] for i in rows])
            filled = np.concatenate([images, images[-1:].repeat(batch_size - len(rows), axis=0)])
            found = np.asarray(read(filled)[: len(rows)], np.float16)
            if file is None:
                shape = (len(dataset), *found.shape[1:])
                file = np.lib.format.open_memmap(path, "w+", np.float16, shape)
            file[rows.start : rows.stop] = found
            bar.update(len(rows))
    if file is not None:
        file.flush()
