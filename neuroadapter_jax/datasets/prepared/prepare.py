"""Turns a dataset on disk into prepared records: what goes in, not how it is written.

The writer of the records is an argument, because TFDS needs TensorFlow to write and nothing in
this package may import it; `data/nsd` provides it.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Float, Float16, Float32, Int64, UInt8
from tqdm import tqdm

from neuroadapter_jax.datasets.nsd.checks import refuse_differences, table_of
from neuroadapter_jax.datasets.nsd.source import NSDSource
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.prepared.records import (
    CORTEX,
    INDEX,
    PROVENANCE,
    REGIONS,
    STIMULI,
    read_provenance,
)
from neuroadapter_jax.datasets.prepared.shards import shard_bounds
from neuroadapter_jax.datasets.prepared.throughput import Meter, forget_cached, plain_copy_rate
from neuroadapter_jax.datasets.prepared.work import add_fingerprint, locked, only_request, share
from neuroadapter_jax.datasets.repeats import RepeatVariance
from neuroadapter_jax.datasets.source import DirectSource, Source, Trials

EncodeImages = Callable[
    [UInt8[np.ndarray, "b y x 3"]],
    tuple[Float[np.ndarray, "b h w c"], Float[np.ndarray, "b h w c"]],
]
_FORMAT = 1
# What folders of older versions were made with, where they do not say.
_FORMERLY = {"dataset": "nsd", "split": "shared"}
_LARGEST = float(np.finfo(np.float16).max)
_IMAGES_AT_ONCE = 256
_REPEATS = 3


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The records of all splits, made one by one.

    Attributes:
        name: of the dataset.
        shapes: per field, its shape with None for the number of repeats.
        image_ids: per split, the stimulus ids, ascending.
        records: makes a split's records from one position up to another, in the order of its ids.
        bounds: per split, first and last + 1 record of each of its files.
        key: stands for all that the records depend on.
        work: folder for the marks of what is done; see `shared_work.share`.
        done: see `share`; a unit is a file.
    """

    name: str
    shapes: dict[str, tuple[int | None, ...]]
    image_ids: dict[str, Int64[np.ndarray, " images"]]
    records: Callable[[str, int, int], Iterator[dict[str, Any]]]
    bounds: dict[str, list[tuple[int, int]]]
    key: str
    work: Path
    done: Callable[[str, bool], None]


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
    split: str = "shared",
    image_size: int = 512,
    num_validation: int = 485,
    seed: int = 0,
    batch_size: int = 16,
    accept_differences: bool = False,
    compare_disk: bool = False,
    progress: bool = True,
) -> Path:
    """Prepares one subject of NSD; see `prepare_source`.

    Args:
        root: NSD's folder.
        prepared: the folder to make.
        encode_images: see `prepare_source`.
        encoder_fingerprint: identifies the encoder's weights.
        write_records: see `WriteRecords`.
        subject: 1 to 8.
        space: surface of the betas; see `NSDSubject`.
        beta_version: one of NSD's three sets of betas.
        sessions: sessions to use, counted from 1; by default all.
        normalize: see `NSDSubject.session_scaling`.
        split: see `nsd_splits.split_images`.
        image_size: see `prepare_source`.
        num_validation: number of validation images, where the split draws them.
        seed: determines which images those are.
        batch_size: see `prepare_source`.
        accept_differences: see `prepare_source`.
        compare_disk: see `prepare_source`.
        progress: see `prepare_source`.

    Raises:
        FileNotFoundError: as `NSDSubject` and `prepare_source`.
        ValueError: as `NSDSubject`, `NSDSource` and `prepare_source`.
    """
    reader = NSDSubject(root, subject, space, beta_version, sessions)
    return prepare_source(
        NSDSource(reader, normalize, split, num_validation, seed),
        prepared,
        encode_images=encode_images,
        encoder_fingerprint=encoder_fingerprint,
        write_records=write_records,
        image_size=image_size,
        batch_size=batch_size,
        accept_differences=accept_differences,
        compare_disk=compare_disk,
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
    accept_differences: bool = False,
    compare_disk: bool = False,
    progress: bool = True,
) -> Path:
    """Prepares a dataset: a record per split and stimulus, and what is needed to read them.

    Beside the records the folder holds `cortex.npz` (SNR and number of features), `index.npz` (the
    stimuli of each split), `stimuli.npz` (their names, and whether they have an image),
    `provenance.json` and, where the source has its own regions, `regions.npz`.

    Three steps, each in units that are not done again after a kill: the responses block by block;
    the latents of the images; the record files. Any number of processes may be given the same call
    on the same folder; they share the units. A `DirectSource` is read where it lies: memory holds
    its statistics and a few record files (128 MiB each), whatever the number of trials. The
    trials of another source wait as float16 in a temporary file.

    The folder appears only when complete. If it exists and came from the same input, nothing is
    done. Unfinished work waits in `PREPARED.partial`.

    Args:
        source: see `Source`.
        prepared: the folder to make.
        encode_images: uint8 images [b, y, x, 3] to mean and std [b, h, w, c] of the VAE's
            posterior, not multiplied by its scaling factor.
        encoder_fingerprint: identifies the encoder's weights.
        write_records: see `WriteRecords`.
        image_size: images are resized (bilinear, as the released decoder does) to this square.
        batch_size: images encoded at once.
        accept_differences: go on where counts, first images or SNR differ from published ones.
        compare_disk: measure a plain copy of the same bytes as well (of a `DirectSource`).
        progress: whether to show progress bars and tables.

    Raises:
        FileNotFoundError: the folder exists and is no prepared one.
        ValueError: the folder came from other input; the source's splits are empty; something
            differs from what is published; float16 cannot hold a response or a latent; another
            process prepares other input in the folder; or what the source raises.
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
    say = print if progress else lambda _: None
    direct = source if isinstance(source, DirectSource) else None
    checks = [] if direct is None else direct.check()
    if checks:
        say("\n".join(table_of(checks)))
        refuse_differences(checks, source.root, accept_differences)
    if direct is not None and compare_disk:
        forget_cached(direct.response_files)

    partial = prepared.with_name(prepared.name + ".partial")
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(only_request(partial / "work", request))
            job = _Job(source, splits, image_ids, image_size, partial / "work", request, progress)
            stack.callback(job.close)
            job.open_trials()
            job.encode(_in_batches_of(encode_images, batch_size))
            folder = job.write(write_records, partial)
            with locked(partial / "finish.lock"):
                if (prepared / PROVENANCE).exists():  # another process was faster
                    return prepared
                ncsnr = job.ncsnr_from_repeats()
                if direct is not None:
                    found = direct.check_responses(ncsnr, job.trials.nan_vertices)
                    checks += found
                    say("\n".join(table_of(found)))
                    say(job.meter.describe("Responses and records, without the latents"))
                    if compare_disk:
                        plain = plain_copy_rate(
                            direct.response_files, job.meter.bytes_written, partial
                        )
                        say(
                            f"A plain sequential read and write of the same bytes: {plain:.0f} "
                            f"MB/s; preparing reached {job.meter.rate / plain:.2f} of it"
                        )
                cortex = {"ncsnr": source.ncsnr(), "ncsnr_from_repeats": ncsnr}
                np.savez(partial / CORTEX, num_vertices=np.array(source.num_vertices), **cortex)
                np.savez(partial / INDEX, **image_ids)
                np.savez(partial / STIMULI, **job.stimuli())
                if source.regions is not None:
                    source.regions.save(partial / REGIONS)
                shapes = job.shapes
                provenance = {
                    "request": request,
                    "records": folder.relative_to(partial).as_posix(),
                    "shapes": {k: [-1 if i is None else i for i in shapes[k]] for k in shapes},
                    "images": {split: len(ids) for split, ids in image_ids.items()},
                    "trials": len(shown),
                    "nan_vertices_set_to_0": job.trials.nan_vertices,
                    "checks": [dataclasses.asdict(check) for check in checks],
                }
                (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n")
                shutil.rmtree(partial / "work")
                (partial / "finish.lock").unlink()
                partial.replace(prepared)
    except FileNotFoundError:
        if not (prepared / PROVENANCE).exists():  # else another process has just finished it
            raise
    return prepared


class _Job:
    """The three steps of a preparation; each asks `share` for what is left to do.

    Args:
        source: what is prepared.
        splits: trials of each split.
        image_ids: stimuli of each split, ascending.
        image_size: of the square images.
        work: folder for what the steps keep.
        request: all that the records depend on.
        progress: whether to show bars.
    """

    def __init__(
        self,
        source: Source,
        splits: dict[str, Int64[np.ndarray, " _"]],
        image_ids: dict[str, Int64[np.ndarray, " _"]],
        image_size: int,
        work: Path,
        request: dict[str, Any],
        progress: bool,
    ):
        self._source, self._splits, self._image_ids = source, splits, image_ids
        self._image_size, self._work, self._progress = image_size, work, progress
        self._key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        self._ids = np.unique(np.concatenate(list(image_ids.values())))
        self.meter = Meter()
        self.trials: Trials | None = None

    def open_trials(self) -> None:
        """Step 1: makes `trials` ready."""
        with self.meter, self._bar("Reading responses", len(self._source.blocks), "block") as bar:
            if isinstance(self._source, DirectSource):
                files = self._source.response_files
                size = sum(path.stat().st_size for path in files) // len(self._source.blocks)

                def done(_: str, ours: bool) -> None:
                    bar.update()
                    self.meter.add(read=size * ours)

                self.trials = self._source.open_trials(self._work, done)
            else:
                done = lambda *_: bar.update()
                self.trials = _StoredTrials(self._source, self._work, self._key, done)

    def encode(self, encode: EncodeImages) -> None:
        """Step 2: all images as squares, and the moments of their latents, in files.

        From here on `shapes` are known.
        """
        starts = range(0, len(self._ids), _IMAGES_AT_ONCE)
        units = {
            f"moments{i:05d}": self._ids[k : k + _IMAGES_AT_ONCE] for i, k in enumerate(starts)
        }

        def compute(unit: str) -> dict[str, Any]:
            squares, lacking = _read_images(self._source, units[unit], self._image_size)
            _save(self._work / f"{unit}.npy", np.stack(encode(squares), axis=1))
            _save(self._work / f"{unit}-squares.npy", squares)
            return {"no_image": lacking}

        with self._bar("Encoding images", len(self._ids), "image") as bar:
            keys = dict.fromkeys(units, self._key)
            done = share(keys, self._work, compute, done=lambda u, _: bar.update(len(units[u])))
        self._no_image = {i for report in done.values() for i in report["no_image"]}
        self._moments = [np.load(self._work / f"{unit}.npy", mmap_mode="r") for unit in units]
        self._squares = [
            np.load(self._work / f"{unit}-squares.npy", mmap_mode="r") for unit in units
        ]
        latent = self._moments[0].shape[2:]
        self.shapes = {
            "image": (self._image_size, self._image_size, 3),
            "betas": (None, sum(self._source.num_vertices)),
            "latent_mean": latent,
            "latent_std": latent,
        }

    def write(self, write_records: WriteRecords, partial: Path) -> Path:
        """Step 3: the record files; returns their folder."""
        self._bounds = {
            split: shard_bounds(len(ids), self.shapes, _REPEATS)
            for split, ids in self._image_ids.items()
        }
        sizes = {
            f"{split}-{i:05d}": stop - start
            for split, spans in self._bounds.items()
            for i, (start, stop) in enumerate(spans)
        }
        with self.meter, self._bar("Writing images", sum(sizes.values()), "image") as bar:

            def done(unit: str, ours: bool) -> None:
                bar.update(sizes[unit])
                mark = json.loads((self._work / f"{unit}.json").read_text())
                self.meter.add(written=mark["bytes"] * ours)

            records = RecordSource(
                self._source.name,
                self.shapes,
                self._image_ids,
                self._records,
                self._bounds,
                self._key,
                self._work,
                done,
            )
            return write_records(records, partial)

    def ncsnr_from_repeats(self) -> Float32[np.ndarray, " n"]:
        """From the images seen three times; NaN where a block lacks the vertex."""
        variance = RepeatVariance(sum(self._source.num_vertices))
        for split, spans in self._bounds.items():
            for start, _ in spans:
                variance.load(self._work / f"variance-{split}-{start}.npz")
        ncsnr = variance.ncsnr(self.trials.trials_per_session)
        ncsnr[self.trials.empty_vertices] = np.nan
        return ncsnr

    def stimuli(self) -> dict[str, np.ndarray]:
        """The table of stimuli."""
        names = [self._source.stimulus_names.get(int(i), "") for i in self._ids]
        has_image = [int(i) not in self._no_image for i in self._ids]
        return {"ids": self._ids, "names": np.array(names, str), "has_image": np.array(has_image)}

    def close(self) -> None:
        """Ends the reading."""
        if self.trials is not None:
            self.trials.close()

    def _records(self, split: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
        trials = self._splits[split]
        shown = self._source.trial_image_ids()[trials]
        variance = RepeatVariance(sum(self._source.num_vertices))
        for image_id in self._image_ids[split][start:stop]:
            betas, z = self.trials.read(np.sort(trials[shown == image_id]))
            if z is not None:
                variance.add(z)
            file, row = divmod(int(np.searchsorted(self._ids, image_id)), _IMAGES_AT_ONCE)
            mean, std = self._moments[file][row]
            yield {
                "image": self._squares[file][row],
                "image_id": image_id,
                "subject": np.int32(self._source.subject),
                "betas": betas,
                "latent_mean": mean,
                "latent_std": std,
            }
        variance.save(self._work / f"variance-{split}-{start}.npz")

    def _bar(self, label: str, total: int, unit: str) -> tqdm:
        return tqdm(total=total, desc=label, unit=unit, disable=not self._progress)


class _StoredTrials:
    """The `Trials` of a source that is read block by block: float16, in a file.

    Args:
        source: what is read.
        work: folder for the file.
        key: stands for all that the responses depend on.
        done: see `share`; a unit is a block.

    Raises:
        ValueError: blocks and trials disagree, or float16 cannot hold a response.
    """

    trials_per_session = 0

    def __init__(self, source: Source, work: Path, key: str, done: Callable[[str, bool], None]):
        total, n = len(source.trial_image_ids()), sum(source.num_vertices)
        units = {f"block{i:05d}": block for i, block in enumerate(source.blocks)}

        def store(unit: str) -> dict[str, Any]:
            read = source.read_block(units[unit])
            largest = np.abs(read.betas).max(initial=0)
            if not largest <= _LARGEST:  # nor where it is NaN
                raise ValueError(
                    f"{source.name} holds {largest:g} in block {units[unit]}, which float16 "
                    f"cannot hold; choose a normalisation, and give 0 for what was not measured."
                )
            _save(work / f"{unit}.npy", read.betas.astype(np.float16))
            return {"nan_vertices": read.nan_vertices.tolist()}

        reports = share(dict.fromkeys(units, key), work, store, done=done)
        empty = {str(units[unit]): report["nan_vertices"] for unit, report in reports.items()}
        self.nan_vertices = {block: len(vertices) for block, vertices in empty.items() if vertices}
        self.empty_vertices = np.unique([v for block in empty.values() for v in block]).astype(
            np.int64
        )
        self._blocks = [np.load(work / f"{unit}.npy", mmap_mode="r") for unit in units]
        self._starts = np.cumsum([0, *map(len, self._blocks)])
        if self._starts[-1] != total or any(block.shape[1] != n for block in self._blocks):
            raise ValueError(
                f"{source.name} announced {total} trials of {n} features, but its blocks hold "
                f"{[block.shape for block in self._blocks]}; trial_image_ids, num_vertices and "
                f"read_block must agree."
            )

    def read(self, positions: Int64[np.ndarray, " k"]) -> tuple[Float16[np.ndarray, "k n"], None]:
        """See `Trials`."""
        blocks = np.searchsorted(self._starts, positions, side="right") - 1
        rows = [
            self._blocks[b][p - self._starts[b]] for b, p in zip(blocks, positions, strict=True)
        ]
        return np.stack(rows), None

    def close(self) -> None:
        """Nothing is open."""


def _save(path: Path, array: np.ndarray) -> None:
    """Writes an array atomically."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def _read_images(
    source: Source, ids: Int64[np.ndarray, " b"], image_size: int
) -> tuple[UInt8[np.ndarray, "b y x 3"], list[int]]:
    """Images as squares; a stimulus without one is black, and listed."""
    squares, lacking = np.zeros((len(ids), image_size, image_size, 3), np.uint8), []
    for square, image_id, image in zip(squares, ids, source.images(ids), strict=True):
        if image is None:
            lacking.append(int(image_id))
        elif image.shape == square.shape:
            square[...] = image
        else:
            size, bilinear = (image_size, image_size), PIL.Image.Resampling.BILINEAR
            square[...] = PIL.Image.fromarray(image).resize(size, bilinear)
    return squares, lacking


def _in_batches_of(encode_images: EncodeImages, batch_size: int) -> EncodeImages:
    """Calls the encoder with one batch size only, so that it compiles once."""

    def encode(images):
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            padding = [(0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            moments = encode_images(np.pad(batch, padding, mode="edge"))
            with np.errstate(over="ignore"):  # told below
                parts.append([np.asarray(m, np.float16)[: len(batch)] for m in moments])
        mean, std = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not (np.isfinite(mean).all() and np.isfinite(std).all()):
            raise ValueError(
                "The image encoder gave values that float16 cannot hold; check its weights."
            )
        return mean, std

    return encode


def _require_same(prepared: Path, request: dict[str, Any]) -> None:
    made = _FORMERLY | read_provenance(prepared)["request"]
    differing = [key for key in request if made.get(key) != request[key]]
    if differing:
        had = ", ".join(f"{key} = {made.get(key)}" for key in differing)
        asked = ", ".join(f"{key} = {request[key]}" for key in differing)
        raise ValueError(
            f"{prepared} was prepared with {had}, but {asked} is asked for; name another folder, "
            f"or delete this one to prepare it anew."
        )


def _source_fingerprint(source: Source) -> str:
    digest = hashlib.sha256()
    for path in source.files:
        inside = path.is_relative_to(source.root)
        place = path.relative_to(source.root).as_posix() if inside else path.name
        add_fingerprint(digest, path, place)
    return digest.hexdigest()
