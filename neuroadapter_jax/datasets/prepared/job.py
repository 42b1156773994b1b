"""The three steps of a preparation: responses, latents, record files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64
from typing_extensions import TypedDict

from neuroadapter_jax.datasets.prepared.images import EncodeImages, read_squares
from neuroadapter_jax.datasets.prepared.shards import RecordSource, WriteRecords, shard_bounds
from neuroadapter_jax.datasets.prepared.throughput import Meter
from neuroadapter_jax.datasets.prepared.work import do_units
from neuroadapter_jax.datasets.repeats import RepeatVariance
from neuroadapter_jax.datasets.session_agreement import SessionAgreement
from neuroadapter_jax.datasets.source import DirectSource, Source, Trials
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_file
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json, read_npy

_LARGEST = float(np.finfo(np.float16).max)
_IMAGES_AT_ONCE = 256
_REPEATS = 3


class Job:
    """The three steps of a preparation; each asks `do_units` for what is left to do.

    Args:
        source: what is prepared.
        splits: trials of each split.
        image_ids: stimuli of each split, ascending.
        work: folder for what the steps store.
        request: all that the records depend on.
        image_size: of the square images.
        progress: whether to show bars.
    """

    def __init__(
        self,
        source: Source,
        splits: dict[str, Int64[np.ndarray, " _"]],
        image_ids: dict[str, Int64[np.ndarray, " _"]],
        work: Path,
        request: dict[str, Any],
        *,
        image_size: int,
        progress: bool,
    ):
        self._source, self._splits, self._image_ids = source, splits, image_ids
        self._image_size, self._work, self._progress = image_size, work, progress
        self._key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        self._ids = np.unique(np.concatenate(list(image_ids.values())))
        self.meter = Meter()
        self._trials: Trials | None = None

    @property
    def trials(self) -> Trials:
        """The responses, from `open_trials` on."""
        if self._trials is None:
            raise RuntimeError("The trials are not open yet; call open_trials first.")
        return self._trials

    def open_trials(self) -> None:
        """Step 1: makes the responses readable, trial by trial."""
        with self.meter, self._bar("Reading responses", len(self._source.blocks), "block") as bar:
            if isinstance(self._source, DirectSource):
                self._trials = self._source.open_trials(self._work, self._advance(bar))
            else:
                self._trials = StoredTrials(self._source, self._work, self._key, self._advance(bar))

    def store_share(self, encode: EncodeImages, first: int, every: int) -> None:
        """Every so many-th unit of steps 1 and 2, which is what needs no other unit.

        Args:
            encode: see `encode`.
            first: the first of them, from 0.
            every: so many jobs share the units.
        """
        blocks = self._source.blocks[first::every]
        with self.meter, self._bar("Reading responses", len(blocks), "block") as bar:
            if isinstance(self._source, DirectSource):
                self._source.store_blocks(self._work, blocks, self._advance(bar))
            else:
                store_blocks(self._source, self._work, self._key, blocks, self._advance(bar))
        self._encode(encode, list(self._image_units().items())[first::every])

    def _advance(self, bar: Bar) -> Callable[[str, bool], None]:
        size = 0
        if isinstance(self._source, DirectSource):
            files = self._source.response_files
            size = sum(path.stat().st_size for path in files) // len(self._source.blocks)

        def done(_: str, ours: bool) -> None:
            bar.update()
            self.meter.add(read=size * ours)

        return done

    def encode(self, encode: EncodeImages) -> None:
        """Step 2: all images as squares, and the moments of their latents, in files.

        From here on `shapes` are known.
        """
        units = self._image_units()
        reports = self._encode(encode, list(units.items()))
        self._no_image = {i for report in reports.values() for i in report["no_image"]}
        self._moments = [_stored(self._work / f"{unit}.npy") for unit in units]
        self._squares = [_stored(self._work / f"{unit}-squares.npy") for unit in units]
        latent = self._moments[0].shape[2:]
        self.shapes: dict[str, tuple[int | None, ...]] = {
            "image": (self._image_size, self._image_size, 3),
            "betas": (None, sum(self._source.num_vertices)),
            "latent_mean": latent,
            "latent_std": latent,
        }

    def _image_units(self) -> dict[str, Int64[np.ndarray, " _"]]:
        starts = range(0, len(self._ids), _IMAGES_AT_ONCE)
        return {f"moments{i:05d}": self._ids[k : k + _IMAGES_AT_ONCE] for i, k in enumerate(starts)}

    def _encode(
        self, encode: EncodeImages, chosen: Sequence[tuple[str, Int64[np.ndarray, " _"]]]
    ) -> dict[str, dict[str, Any]]:
        units = dict(chosen)

        def compute(unit: str) -> dict[str, Any]:
            squares, lacking = read_squares(self._source, units[unit], self._image_size)
            _save(self._work / f"{unit}.npy", np.stack(encode(squares), axis=1))
            _save(self._work / f"{unit}-squares.npy", squares)
            return {"no_image": lacking}

        with self._bar("Encoding images", sum(map(len, units.values())), "image") as bar:
            keys = dict.fromkeys(units, self._key)

            def advance(unit: str, ours: bool) -> None:
                bar.update(len(units[unit]))

            return do_units(keys, self._work, compute, done=advance)

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
                mark = read_json(self._work / f"{unit}.json", "the mark of finished work", _Mark)
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
        """From the images shown three times; NaN where a block lacks the vertex."""
        variance = RepeatVariance(sum(self._source.num_vertices))
        for split, spans in self._bounds.items():
            for start, _ in spans:
                variance.load(self._work / f"variance-{split}-{start}.npz")
        ncsnr = variance.ncsnr(self.trials.trials_per_session)
        ncsnr[self.trials.empty_vertices] = np.nan
        return ncsnr

    def session_agreement(self) -> SessionAgreement:
        """From the images shown in several sessions."""
        agreement = self._no_agreement()
        for split, spans in self._bounds.items():
            for start, _ in spans:
                agreement.load(self._work / f"agreement-{split}-{start}.npz")
        return agreement

    def stimuli(self) -> dict[str, np.ndarray]:
        """The table of stimuli."""
        names = [self._source.stimulus_names.get(int(i), "") for i in self._ids]
        has_image = [int(i) not in self._no_image for i in self._ids]
        return {"ids": self._ids, "names": np.array(names, str), "has_image": np.array(has_image)}

    def close(self) -> None:
        """Ends the reading."""
        if self._trials is not None:
            self._trials.close()

    def _no_agreement(self) -> SessionAgreement:
        source = self._source
        return SessionAgreement(source.ncsnr(), source.num_vertices, len(source.blocks))

    def _records(self, split: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
        trials = self._splits[split]
        shown = self._source.trial_image_ids()[trials]
        variance = RepeatVariance(sum(self._source.num_vertices))
        agreement = self._no_agreement() if self.trials.trials_per_session else None
        for image_id in self._image_ids[split][start:stop]:
            positions = np.sort(trials[shown == image_id])
            betas, z = self.trials.read(positions)
            if z is not None:
                variance.add(z)
            if z is not None and agreement is not None:
                agreement.add(z, positions // self.trials.trials_per_session)
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
        if agreement is not None:
            agreement.save(self._work / f"agreement-{split}-{start}.npz")

    def _bar(self, label: str, total: int, unit: str) -> Bar:
        return Bar(total=total, desc=label, unit=unit, disable=not self._progress)


def store_blocks(
    source: Source,
    work: Path,
    key: str,
    blocks: Sequence[Any],
    done: Callable[[str, bool], None],
) -> dict[str, list[int]]:
    """Stores the responses of some blocks as float16, a file each.

    Args:
        source: what is read.
        work: folder for the files.
        key: stands for all that the responses depend on.
        blocks: of the source's, those to store.
        done: see `do_units`; a unit is a block.

    Returns:
        Per block (as text) the features without data.

    Raises:
        InputError: float16 cannot hold a response.
    """
    units = {_block_unit(source, block): block for block in blocks}

    def store(unit: str) -> dict[str, Any]:
        read = source.read_block(units[unit])
        largest = np.abs(read.betas).max(initial=0)
        if not largest <= _LARGEST:  # nor where it is NaN
            raise InputError(
                f"{source.name} holds {largest:g} in block {units[unit]}, which float16 "
                f"cannot hold; choose a normalisation, and give 0 for what was not measured."
            )
        _save(work / f"{unit}.npy", read.betas.astype(np.float16))
        return {"nan_vertices": read.nan_vertices.tolist()}

    reports = do_units(dict.fromkeys(units, key), work, store, done=done)
    return {str(units[unit]): report["nan_vertices"] for unit, report in reports.items()}


def _block_unit(source: Source, block: Any) -> str:
    return f"block{list(source.blocks).index(block):05d}"


class StoredTrials:
    """The `Trials` of a source that is read block by block: float16, in a file.

    Args:
        source: what is read.
        work: folder for the file.
        key: stands for all that the responses depend on.
        done: see `do_units`; a unit is a block.

    Raises:
        InputError: blocks and trials disagree, or float16 cannot hold a response.
    """

    trials_per_session = 0

    def __init__(self, source: Source, work: Path, key: str, done: Callable[[str, bool], None]):
        total, n = len(source.trial_image_ids()), sum(source.num_vertices)
        empty = store_blocks(source, work, key, source.blocks, done)
        self.nan_vertices = {block: len(vertices) for block, vertices in empty.items() if vertices}
        self.empty_vertices = np.unique([v for block in empty.values() for v in block]).astype(
            np.int64
        )
        self._blocks = [
            _stored(work / f"{_block_unit(source, block)}.npy") for block in source.blocks
        ]
        self._starts = np.cumsum([0, *map(len, self._blocks)])
        if self._starts[-1] != total or any(block.shape[1] != n for block in self._blocks):
            raise InputError(
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


class _Mark(TypedDict):
    bytes: int


def _stored(path: Path) -> np.ndarray:
    advice = "delete the folder that holds it, and the same command makes it again"
    return read_npy(path, "an array that preparation stored", mapped=True, remedy=advice)


def _save(path: Path, array: np.ndarray) -> None:
    write_file(path, lambda partial: np.save(partial, array))
