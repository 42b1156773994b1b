"""Turns a dataset on disk into prepared records: what goes in, not how it is written.

The writer of the records is an argument, because TFDS needs TensorFlow to write and nothing in
this package may import it; `data/nsd` provides it.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float, Float16, Int64, UInt8
from tqdm import tqdm

from neuroadapter_jax.datasets.nsd import NORMALIZATIONS, NSDSource, NSDSubject
from neuroadapter_jax.datasets.records import (
    CORTEX,
    INDEX,
    PROVENANCE,
    REGIONS,
    STIMULI,
    read_provenance,
)
from neuroadapter_jax.datasets.source import Source

EncodeImages = Callable[
    [UInt8[np.ndarray, "b y x 3"]],
    tuple[Float[np.ndarray, "b h w c"], Float[np.ndarray, "b h w c"]],
]
_FORMAT = 1
_LARGEST = float(np.finfo(np.float16).max)
_SAMPLE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The records of all splits, made one by one.

    Attributes:
        name: of the dataset.
        shapes: per field, its shape with None for the number of repeats.
        image_ids: per split, the stimulus ids, ascending.
        records: gives a split's records in the order of its ids.
    """

    name: str
    shapes: dict[str, tuple[int | None, ...]]
    image_ids: dict[str, Int64[np.ndarray, " images"]]
    records: Callable[[str], Iterator[dict[str, Any]]]


# Writes the records below a folder and returns the folder with the record files.
WriteRecords = Callable[[RecordSource, Path], Path]


def prepare_subject(
    root: str | Path,
    prepared: str | Path,
    *,
    encode_images: EncodeImages,
    encoder_fingerprint: str,
    write_records: WriteRecords,
    subject: int = 1,
    space: str = "fsaverage",
    beta_version: str = "betas_fithrf_GLMdenoise_RR",
    sessions: Sequence[int] | None = None,
    normalize: str = "session",
    image_size: int = 512,
    num_validation: int = 485,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = True,
) -> Path:
    """Prepares one subject of NSD; see `prepare_source`.

    Test images are the shared images the subject saw; `num_validation` others, drawn by `seed`,
    are for validation and the rest for training. The paper's 515 test images are those shared
    images that all eight subjects saw three times; here one subject's files decide.

    Args:
        root: NSD's folder.
        prepared: the folder to make.
        encode_images: uint8 images [b, y, x, 3] to mean and std [b, h, w, c] of the VAE's
            posterior, not multiplied by its scaling factor.
        encoder_fingerprint: identifies the encoder's weights.
        write_records: see `WriteRecords`.
        subject: 1 to 8.
        space: surface of the betas; see `NSDSubject`.
        beta_version: one of NSD's three sets of betas.
        sessions: sessions to use, counted from 1; by default all.
        normalize: `"session"` (z-score per vertex and session) or `"none"`.
        image_size: images are resized (bilinear, as the released decoder does) to this square.
        num_validation: number of validation images.
        seed: determines which images those are.
        batch_size: images encoded at once.
        progress: whether to show progress bars.

    Raises:
        FileNotFoundError: as `NSDSubject`; also if the folder exists and is no prepared one.
        ValueError: as `NSDSubject`; also if the folder came from other input.
    """
    if normalize not in NORMALIZATIONS:
        raise ValueError(f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}.")
    return prepare_source(
        NSDSource(
            NSDSubject(root, subject, space, beta_version, sessions),
            normalize,
            num_validation,
            seed,
        ),
        prepared,
        encode_images=encode_images,
        encoder_fingerprint=encoder_fingerprint,
        write_records=write_records,
        image_size=image_size,
        batch_size=batch_size,
        progress=progress,
    )


def prepare_source(
    source: Source,
    prepared: str | Path,
    *,
    encode_images: EncodeImages,
    encoder_fingerprint: str,
    write_records: WriteRecords,
    image_size: int = 512,
    batch_size: int = 16,
    progress: bool = True,
) -> Path:
    """Prepares a dataset: a record per split and stimulus, and what is needed to read them.

    Beside the records the folder holds `cortex.npz` (SNR and number of features), `index.npz` (the
    stimuli of each split), `stimuli.npz` (their names, and whether they have an image),
    `provenance.json` and, where the source has its own regions, `regions.npz`.

    Memory holds one block's responses; the trials wait as float16 in a temporary file. The folder
    appears only when complete. If it exists and came from the same input, nothing is done.

    Args:
        source: see `Source`.
        prepared: the folder to make.
        encode_images: uint8 images [b, y, x, 3] to mean and std [b, h, w, c] of the VAE's
            posterior, not multiplied by its scaling factor.
        encoder_fingerprint: identifies the encoder's weights.
        write_records: see `WriteRecords`.
        image_size: images are resized (bilinear, as the released decoder does) to this square.
        batch_size: images encoded at once.
        progress: whether to show progress bars.

    Raises:
        FileNotFoundError: the folder exists and is no prepared one.
        ValueError: the folder came from other input; the source's splits are empty; or what the
            source raises while it is read.
    """
    prepared = Path(prepared)
    request = {
        "format": _FORMAT,
        "dataset": source.name,
        "source": _source_fingerprint(source),
        "subject": source.subject,
        **source.settings,
        "image_size": image_size,
        "encoder": encoder_fingerprint,
    }
    if prepared.is_dir() and any(prepared.iterdir()):
        _require_same(prepared, request)
        return prepared
    shown, splits = source.trial_image_ids(), source.splits()
    image_ids = {split: np.unique(shown[trials]) for split, trials in splits.items()}
    if empty := [split for split, ids in image_ids.items() if not len(ids)] or not splits:
        raise ValueError(
            f"{source.name} of subject {source.subject} has no trials in the splits {empty}; every "
            f"split needs at least one."
        )

    encode = _in_batches_of(encode_images, batch_size)
    image = (image_size, image_size, 3)
    latent = encode(np.zeros((1, *image), np.uint8))[0].shape[1:]
    shapes = {
        "image": image,
        "betas": (None, sum(source.num_vertices)),
        "latent_mean": latent,
        "latent_std": latent,
    }

    partial = prepared.with_name(prepared.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        trials_file = partial / "trials.f16"
        trials, nan_vertices = _store_trials(source, trials_file, progress)
        no_image: set[int] = set()
        bar = tqdm(
            total=sum(map(len, image_ids.values())),
            desc="Writing images",
            unit="image",
            disable=not progress,
        )

        def records(split: str) -> Iterator[dict[str, Any]]:
            for start in range(0, len(image_ids[split]), batch_size):
                ids = image_ids[split][start : start + batch_size]
                images = _read_images(source, ids, image_size, no_image)
                yield from _records(source, trials, splits[split], ids, images, *encode(images))
                bar.update(len(ids))

        with bar:
            folder = write_records(RecordSource(source.name, shapes, image_ids, records), partial)
        trials_file.unlink()

        np.savez(partial / CORTEX, ncsnr=source.ncsnr(), num_vertices=np.array(source.num_vertices))
        np.savez(partial / INDEX, **image_ids)
        np.savez(partial / STIMULI, **_stimuli(source, image_ids, no_image))
        if source.regions is not None:
            source.regions.save(partial / REGIONS)
        provenance = {
            "request": request,
            "records": folder.relative_to(partial).as_posix(),
            "shapes": {key: [-1 if k is None else k for k in shapes[key]] for key in shapes},
            "images": {split: len(ids) for split, ids in image_ids.items()},
            "trials": len(shown),
            "nan_vertices_set_to_0": nan_vertices,
        }
        (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
        partial.replace(prepared)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return prepared


def _store_trials(
    source: Source, path: Path, progress: bool
) -> tuple[Float16[np.ndarray, "trials n"], dict[str, int]]:
    """All trials in a file mapped to memory, and per block the number of NaN features."""
    shape = (len(source.trial_image_ids()), sum(source.num_vertices))
    trials = np.memmap(path, np.float16, "w+", shape=shape)
    nan_vertices, filled = {}, 0
    for block in tqdm(source.blocks, desc="Reading responses", unit="block", disable=not progress):
        read = source.read_block(block)
        if read.betas.size and np.abs(read.betas).max() > _LARGEST:
            raise ValueError(
                f"{source.name} holds {np.abs(read.betas).max():g} in block {block}, which float16 "
                f"cannot hold; choose a normalisation."
            )
        trials[filled : filled + len(read.betas)] = read.betas
        filled += len(read.betas)
        if len(read.nan_vertices):
            nan_vertices[str(block)] = len(read.nan_vertices)
    if filled != len(trials):
        raise ValueError(
            f"{source.name} announced {len(trials)} trials, but its blocks hold {filled}; "
            f"trial_image_ids and read_block must agree."
        )
    return trials, nan_vertices


def _records(source, trials, split, ids, images, means, stds) -> Iterator[dict[str, Any]]:
    shown = source.trial_image_ids()[split]
    for image_id, image, mean, std in zip(ids, images, means, stds, strict=True):
        yield {
            "image": image,
            "image_id": image_id,
            "subject": np.int32(source.subject),
            "betas": np.asarray(trials[np.sort(split[shown == image_id])]),
            "latent_mean": mean,
            "latent_std": std,
        }


def _read_images(
    source: Source, ids: Int64[np.ndarray, " b"], image_size: int, no_image: set[int]
) -> UInt8[np.ndarray, "b y x 3"]:
    """Images as squares; a stimulus without one is black, and its id joins `no_image`."""
    squares = np.zeros((len(ids), image_size, image_size, 3), np.uint8)
    for square, image_id, image in zip(squares, ids, source.images(ids), strict=True):
        if image is None:
            no_image.add(int(image_id))
        elif image.shape == square.shape:
            square[...] = image
        else:
            size, bilinear = (image_size, image_size), PIL.Image.Resampling.BILINEAR
            square[...] = PIL.Image.fromarray(image).resize(size, bilinear)
    return squares


def _stimuli(source: Source, image_ids, no_image: set[int]) -> dict[str, np.ndarray]:
    ids = np.unique(np.concatenate(list(image_ids.values())))
    names = [source.stimulus_names.get(int(i), "") for i in ids]
    has_image = [int(i) not in no_image for i in ids]
    return {"ids": ids, "names": np.array(names, str), "has_image": np.array(has_image)}


def _in_batches_of(encode_images: EncodeImages, batch_size: int) -> EncodeImages:
    """Calls the encoder with one batch size only, so that it compiles once."""

    def encode(images):
        padding = [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)]
        moments = encode_images(np.pad(images, padding, mode="edge"))
        mean, std = (np.asarray(m, np.float16)[: len(images)] for m in moments)
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise ValueError(
                "The image encoder gave values that float16 cannot hold; check its weights."
            )
        return mean, std

    return encode


def _require_same(prepared: Path, request: dict[str, Any]) -> None:
    made = {"dataset": "nsd"} | read_provenance(prepared)["request"]
    differing = [key for key in request if made.get(key) != request[key]]
    if differing:
        had = ", ".join(f"{key} = {made.get(key)}" for key in differing)
        asked = ", ".join(f"{key} = {request[key]}" for key in differing)
        raise ValueError(
            f"{prepared} was prepared with {had}, but {asked} is asked for; name another folder, "
            f"or delete this one to prepare it anew."
        )


def _source_fingerprint(source: Source) -> str:
    """Hash over each file's place, size, and the bytes at its start, middle and end."""
    digest = hashlib.sha256()
    for path in source.files:
        size = path.stat().st_size
        digest.update(f"{path.relative_to(source.root).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
