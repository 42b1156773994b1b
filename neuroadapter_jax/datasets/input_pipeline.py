"""Batches for training and evaluation, by Grain.

Batch k is a pure function of (seed, k): the order of images in each epoch and the choice of
repeats come from Grain's index-based generators, so a run resumes at any step.
"""

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from grain.sources import RandomAccessDataSource
from jaxtyping import Float16, Float32, PyTree

from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.errors import InputError

REPEATS = ("average", "random", "single")
_CARRIED = ("features", "image", "image_id", "subject_index")
# Threads that make a batch each, and batches that wait.
_READERS = max(2, min(8, available_cores()))
_READ = grain.ReadOptions(num_threads=_READERS, prefetch_buffer_size=2 * _READERS)
Batch = dict[str, Any]


def batch_dataset(
    dataset: RandomAccessDataSource,
    batch_size: int,
    seed: int,
    *,
    shuffle: bool = True,
    repeats: str = "average",
    process: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """Endless random-access batches: element k is this process's rows of batch k.

    A batch holds betas float16 [b, n], latent_mean and latent_std float32 [b, y, x, c], image
    uint8 [b, y, x, 3] and image_id int64 [b]; of the latents, image, `features` and subject_index
    int32 [b] (of several subjects' records) those that the records have. Each epoch has its own
    order; a batch may span the end of one epoch and the start of the next, so no image is left out.

    Args:
        dataset: a `PreparedDataset`, or what gives the same records.
        batch_size: images per batch.
        seed: determines every order and every choice of repeats.
        shuffle: if false, images come in ascending order of image_id.
        repeats: `"average"` takes the mean over an image's k repeats; `"random"` the mean over a
            subset drawn uniformly from the 2^k - 1 that are not empty; `"single"` one at random.
        process: (i, m): process i of m takes the i-th of m equal runs of rows, and reads no
            other record; the batch as a whole is the same for every m.

    Raises:
        InputError: another `repeats`, a batch size below 1, or one that m does not divide.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.datasets.input_pipeline import batch_dataset
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> batches = batch_dataset(dataset, batch_size=3, seed=0, shuffle=False)
        >>> batch = batches[0]
        >>> batch["betas"].shape, bool((batch["image_id"] == dataset.image_ids[:3]).all())
        ((3, 20484), True)
    """
    if repeats not in REPEATS:
        raise InputError(f"repeats is {repeats!r}; choose one of {', '.join(REPEATS)}.")
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    index, count = process
    if batch_size % count:
        raise InputError(
            f"batch_size is {batch_size}, which {count} processes cannot share evenly; choose a "
            "multiple."
        )
    records = grain.MapDataset.source(dataset).seed(seed)
    if shuffle:
        records = records.shuffle()
    records = records.repeat()
    if repeats == "random":
        records = records.random_map(_with_random_repeats)
    elif repeats == "single":
        records = records.random_map(_with_one_repeat)
    else:
        records = records.map(_with_all_repeats)
    if count == 1:
        return records.batch(batch_size)
    rows = batch_size // count

    def own_rows(k: int) -> Batch:
        first = k * batch_size + index * rows
        taken = [records[first + j] for j in range(rows)]
        return {key: np.stack([record[key] for record in taken]) for key in taken[0]}

    return grain.MapDataset.range(sys.maxsize // batch_size).map(own_rows)


def make_batches(
    dataset: RandomAccessDataSource,
    batch_size: int,
    seed: int,
    *,
    shuffle: bool = True,
    repeats: str = "average",
    process: tuple[int, int] = (0, 1),
) -> grain.DatasetIterator:
    """Iterates over the batches of `batch_dataset`, read ahead by threads.

    The iterator has get_state and set_state, by which a run resumes at any batch.

    Args:
        dataset: a `PreparedDataset`, or what gives the same records.
        batch_size: images per batch.
        seed: determines every order and every choice of repeats.
        shuffle: if false, images come in ascending order of image_id.
        repeats: `"average"` over an image's repeats, the mean over a `"random"` subset of them, or
            a `"single"` one at random.
        process: (i, m): process i of m takes the i-th of m equal runs of rows.

    Raises:
        InputError: another `repeats`, a batch size below 1, or one that m does not divide.
    """
    _keep_freed_memory()
    batches = batch_dataset(
        dataset, batch_size, seed, shuffle=shuffle, repeats=repeats, process=process
    )
    return iter(batches.to_iter_dataset(_READ))


def eval_batches(dataset: RandomAccessDataSource, batch_size: int) -> Iterator[Batch]:
    """One pass in ascending order of image_id, repeats averaged, all batches of one size.

    For compiled functions, which want one shape; `map_split` cuts what they return. The last batch
    is filled up by its last image; `num_valid` (int) counts the true ones.

    Args:
        dataset: a `PreparedDataset`, or what gives the same records.
        batch_size: images per batch, at least 1.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.datasets.input_pipeline import eval_batches
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> [(len(batch["betas"]), batch["num_valid"]) for batch in eval_batches(dataset, 5)]
        [(5, 5), (5, 3)]
    """
    for batch in split_batches(dataset, batch_size) if len(dataset) else ():
        count = len(batch["betas"])
        yield _fill(batch, batch_size) | {"num_valid": count}


def split_batches(
    dataset: RandomAccessDataSource, batch_size: int = 50, num_images: int | None = None
) -> Iterator[Batch]:
    """One pass in ascending order of image_id, repeats averaged; the last batch is shorter.

    Args:
        dataset: a `PreparedDataset`, or what gives the same records.
        batch_size: images per batch.
        num_images: the first so many images only; all when None.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.datasets.input_pipeline import split_batches
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> [len(batch["betas"]) for batch in split_batches(dataset, batch_size=5)]
        [5, 3]
    """
    stop = _count(dataset, num_images)
    for start in range(0, stop, batch_size):
        yield _stack(dataset, range(start, min(start + batch_size, stop)))


def map_split(
    function: Callable[[Batch], PyTree],
    dataset: RandomAccessDataSource,
    batch_size: int = 50,
    num_images: int | None = None,
) -> PyTree:
    """Applies a function to batches of one size and concatenates the results, without the filling.

    out[i] = function(batch)[j] for image i, which is row j of its batch.

    Args:
        function: from a batch (as `eval_batches` gives it, `num_valid` included) to an array or a
            tree of arrays, all [b, ...].
        dataset: a `PreparedDataset`, or what gives the same records.
        batch_size: images per batch.
        num_images: the first so many images only; all when None.

    Returns:
        NumPy arrays [images, ...].

    Raises:
        InputError: the split, or num_images, holds no image.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.datasets.input_pipeline import map_split
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> brightness = map_split(lambda batch: batch["image"].mean(axis=(1, 2, 3)), dataset)
        >>> brightness.shape
        (8,)
    """
    parts = []
    for batch in split_batches(dataset, batch_size, num_images):
        count = len(batch["betas"])
        parts.append(_first_rows(function(_fill(batch, batch_size) | {"num_valid": count}), count))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def read_split(
    dataset: RandomAccessDataSource,
    *names: str,
    num_images: int | None = None,
    of_betas: Callable[[Float32[np.ndarray, "b n"]], Any] | None = None,
) -> dict[str, np.ndarray]:
    """Whole arrays of a split, in ascending order of image_id, repeats averaged.

    `read_split(dataset, "betas", "image")` gives betas float16 [images, n] and image uint8
    [images, y, x, 3]; the names are those of `batch_dataset`.

    Args:
        dataset: a `PreparedDataset`, or what gives the same records.
        names: which arrays.
        num_images: the first so many images only; all when None.
        of_betas: what to keep of a batch of responses, such as a few of the vertices: the whole
            cortex of all images can fill the memory. All of it when None.

    Raises:
        InputError: the split, or num_images, holds no image; or the records lack a name.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.datasets.input_pipeline import read_split
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> arrays = read_split(dataset, "betas", "image", num_images=2)
        >>> arrays["betas"].shape, arrays["image"].shape
        ((2, 20484), (2, 64, 64, 3))
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in split_batches(dataset, num_images=num_images):
        if unknown := [name for name in names if name not in batch]:
            raise InputError(
                f"The records hold no {unknown[0]!r}; they hold {', '.join(batch)}, so name some "
                f"of these."
            )
        for name, found in parts.items():
            values = batch[name]
            if name == "betas" and of_betas is not None:
                values = np.asarray(of_betas(values.astype(np.float32)))
            found.append(values)
    return {name: np.concatenate(found) for name, found in parts.items()}


@functools.cache
def _keep_freed_memory() -> None:
    """Have glibc reuse the memory of records, where it is the C library.

    It maps and unmaps each record of megabytes otherwise, and the pages that the system has to
    clear for it take more of the processor than all the rest of the reading.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        for parameter, size in ((-3, 2**25), (-1, 2**29)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(parameter, size)
    except (OSError, AttributeError):  # another C library: nothing is lost but time
        return


def _count(dataset: RandomAccessDataSource, num_images: int | None) -> int:
    count = len(dataset) if num_images is None else min(num_images, len(dataset))
    if count < 1:
        raise InputError(
            f"There is no image to read: the split holds {len(dataset)} and num_images is "
            f"{num_images}; give at least one, or None for all."
        )
    return count


def _stack(dataset: RandomAccessDataSource, rows: range) -> Batch:
    records = [_with_all_repeats(dataset[i]) for i in rows]
    return {key: np.stack([record[key] for record in records]) for key in records[0]}


def _fill(batch: Batch, batch_size: int) -> Batch:
    """Repeats the last row up to the batch size."""
    count = len(batch["betas"])
    rows = np.minimum(np.arange(batch_size), count - 1)
    return {key: values[rows] for key, values in batch.items()}


def _first_rows(tree: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda values: np.asarray(values)[:count], tree)


def _with_all_repeats(record: Batch) -> Batch:
    return _example(record, record["betas"])


def _with_random_repeats(record: Batch, rng: np.random.Generator) -> Batch:
    count = len(record["betas"])
    subset = int(rng.integers(1, 2**count))  # bit j says whether repeat j is taken
    return _example(record, record["betas"][(subset >> np.arange(count)) % 2 == 1])


def _with_one_repeat(record: Batch, rng: np.random.Generator) -> Batch:
    chosen = int(rng.integers(len(record["betas"])))
    return _example(record, record["betas"][chosen : chosen + 1])


def _example(record: Batch, betas: Float16[np.ndarray, "k n"]) -> Batch:
    latents: Batch = {
        k: record[k].astype(np.float32) for k in ("latent_mean", "latent_std") if k in record
    }
    return {
        "betas": _mean(betas).astype(np.float16),
        **latents,
        **{key: record[key] for key in _CARRIED if key in record},
    }


def _mean(betas: Float16[np.ndarray, "k n"]) -> Float32[np.ndarray, " n"]:
    """The mean over repeats in float32: `betas.mean(0, np.float32)` to the bit, but faster."""
    total = betas[0].astype(np.float32)
    for repeat in betas[1:]:
        total += repeat.astype(np.float32)
    total /= np.float32(len(betas))
    return total
