"""Turns a subject on disk into prepared records: what goes in, not how it is written.

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

from neuroadapter_jax.datasets.nsd import NORMALIZATIONS, NSDSubject
from neuroadapter_jax.datasets.records import CORTEX, INDEX, PROVENANCE, SPLITS, read_provenance

EncodeImages = Callable[
    [UInt8[np.ndarray, "b y x 3"]],
    tuple[Float[np.ndarray, "b h w c"], Float[np.ndarray, "b h w c"]],
]
_FORMAT = 1
_SAMPLE_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The records of all splits, made one by one.

    Attributes:
        shapes: per field, its shape with None for the number of repeats.
        image_ids: per split, the 0-based 73k ids, ascending.
        records: gives a split's records in the order of its ids.
    """

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
    """Prepares one subject: a record per image, `cortex.npz`, `index.npz`, `provenance.json`.

    Test images are the shared images the subject saw; `num_validation` others, drawn by `seed`,
    are for validation and the rest for training. The paper's 515 test images are those shared
    images that all eight subjects saw three times; here one subject's files decide.

    Memory holds one session's betas; the trials wait as float16 in a temporary file. The folder
    appears only when complete. If it exists and came from the same input, nothing is done.

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
    prepared = Path(prepared)
    source = NSDSubject(root, subject, space, beta_version, sessions)
    request = {
        "format": _FORMAT,
        "source": _source_fingerprint(source),
        "subject": subject,
        "space": space,
        "beta_version": beta_version,
        "sessions": list(source.sessions),
        "normalize": normalize,
        "image_size": image_size,
        "num_validation": num_validation,
        "seed": seed,
        "encoder": encoder_fingerprint,
    }
    if prepared.is_dir() and any(prepared.iterdir()):
        _require_same(prepared, request)
        return prepared
    image_ids = split_images(source, num_validation, seed)

    encode = _in_batches_of(encode_images, batch_size)
    image = _read_images(source, image_ids["train"][:1], image_size)
    latent = encode(image)[0].shape[1:]
    shapes = {
        "image": image.shape[1:],
        "betas": (None, sum(source.num_vertices)),
        "latent_mean": latent,
        "latent_std": latent,
    }

    partial = prepared.with_name(prepared.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        trials_file = partial / "trials.f16"
        trials, nan_vertices = _store_trials(source, normalize, trials_file, progress)
        bar = tqdm(
            total=sum(map(len, image_ids.values())),
            desc="Writing images",
            unit="image",
            disable=not progress,
        )

        def records(split: str) -> Iterator[dict[str, Any]]:
            for start in range(0, len(image_ids[split]), batch_size):
                ids = image_ids[split][start : start + batch_size]
                images = _read_images(source, ids, image_size)
                yield from _records(source, trials, ids, images, *encode(images))
                bar.update(len(ids))

        with bar:
            folder = write_records(RecordSource(shapes, image_ids, records), partial)
        trials_file.unlink()

        np.savez(partial / CORTEX, ncsnr=source.ncsnr(), num_vertices=np.array(source.num_vertices))
        np.savez(partial / INDEX, **image_ids)
        provenance = {
            "request": request,
            "records": folder.relative_to(partial).as_posix(),
            "shapes": {key: [-1 if k is None else k for k in shapes[key]] for key in shapes},
            "images": {split: len(ids) for split, ids in image_ids.items()},
            "trials": len(source.trial_image_ids()),
            "nan_vertices_set_to_0": nan_vertices,
        }
        (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
        partial.replace(prepared)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return prepared


def split_images(
    source: NSDSubject, num_validation: int, seed: int
) -> dict[str, Int64[np.ndarray, " images"]]:
    """Splits the shown images; see `prepare_subject`."""
    shown = np.unique(source.trial_image_ids())
    test = np.intersect1d(shown, source.shared_ids)
    others = np.setdiff1d(shown, test)
    if not 0 < num_validation < len(others) or not len(test):
        raise ValueError(
            f"Subject {source.subject} saw {len(test)} shared and {len(others)} other images; "
            f"num_validation is {num_validation}, which must be at least 1 and leave images for "
            f"training, and there must be shared images for the test."
        )
    order = np.random.default_rng(seed).permutation(others)
    splits = (order[num_validation:], order[:num_validation], test)
    return {name: np.sort(ids) for name, ids in zip(SPLITS, splits, strict=True)}


def _store_trials(
    source: NSDSubject, normalize: str, path: Path, progress: bool
) -> tuple[Float16[np.ndarray, "trials n"], dict[str, int]]:
    """All trials in a file mapped to memory, and per session the number of NaN vertices."""
    length = source.trials_per_session
    shape = (length * len(source.sessions), sum(source.num_vertices))
    trials = np.memmap(path, np.float16, "w+", shape=shape)
    nan_vertices = {}
    bar = tqdm(source.sessions, desc="Reading sessions", unit="session", disable=not progress)
    for position, session in enumerate(bar):
        read = source.session_betas(session, normalize)
        trials[position * length : (position + 1) * length] = read.betas
        if len(read.nan_vertices):
            nan_vertices[str(session)] = len(read.nan_vertices)
    return trials, nan_vertices


def _records(source, trials, ids, images, means, stds) -> Iterator[dict[str, Any]]:
    shown = source.trial_image_ids()
    for image_id, image, mean, std in zip(ids, images, means, stds, strict=True):
        yield {
            "image": image,
            "image_id": image_id,
            "subject": np.int32(source.subject),
            "betas": np.asarray(trials[np.flatnonzero(shown == image_id)]),
            "latent_mean": mean,
            "latent_std": std,
        }


def _read_images(
    source: NSDSubject, ids: Int64[np.ndarray, " b"], image_size: int
) -> UInt8[np.ndarray, "b y x 3"]:
    images = source.images(ids)
    size = (image_size, image_size)
    if images.shape[1:3] == size:
        return images
    bilinear = PIL.Image.Resampling.BILINEAR
    return np.stack([np.asarray(PIL.Image.fromarray(i).resize(size, bilinear)) for i in images])


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
    made = read_provenance(prepared)["request"]
    differing = [key for key in request if made.get(key) != request[key]]
    if differing:
        had = ", ".join(f"{key} = {made.get(key)}" for key in differing)
        asked = ", ".join(f"{key} = {request[key]}" for key in differing)
        raise ValueError(
            f"{prepared} was prepared with {had}, but {asked} is asked for; name another folder, "
            f"or delete this one to prepare it anew."
        )


def _source_fingerprint(source: NSDSubject) -> str:
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
