"""Record files: written by several threads, read back, and never written twice."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from jaxtyping import Int64

from neuroadapter_jax.datasets.prepared.records import ARRAYS, CHECKSUMS, encode_record
from neuroadapter_jax.datasets.prepared.work import do_units, thread_count
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import inside, write_text
from neuroadapter_jax.readers import read_text

_SHARD_BYTES = 128 << 20
# One record per group, for random access. Responses are noise to a compressor: it would save a
# tenth of their bytes and take longer than the disk. Without a limit the writer holds a copy of all
# that waits, and finding the memory for it takes three times as long as writing.
_OPTIONS = "group_size:1,uncompressed,max_parallelism:2"


def shard_bounds(
    num_records: int, shapes: dict[str, tuple[int | None, ...]], num_repeats: int
) -> list[tuple[int, int]]:
    """First and last + 1 record of each shard, of about 128 MiB.

    Args:
        num_records: of the split, at least 1.
        shapes: of a record's arrays, None for the number of repeats.
        num_repeats: what to count for None.
    """
    one = sum(
        ARRAYS[key].itemsize * int(np.prod([num_repeats if k is None else k for k in shape]))
        for key, shape in shapes.items()
    )
    count = -(-num_records * one // _SHARD_BYTES)
    edges = [num_records * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


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
        work: folder for the marks of what is done; see `do_units`.
        done: see `do_units`; a unit is a file.
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


def write_shards(folder: Path, source: RecordSource) -> None:
    """Writes `NAME-SPLIT.array_record-I-of-M` and `SHA256SUMS`; goes on where it was killed.

    Every shard is read back and compared with what was to be written, byte by byte, before it
    counts as done.

    Args:
        folder: where the files go.
        source: the records.

    Raises:
        OSError: a shard does not hold what was written to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{split}-{index:05d}": (
            split,
            span,
            f"{source.name}-{split}.array_record-{index:05d}-of-{len(spans):05d}",
        )
        for split, spans in source.bounds.items()
        for index, span in enumerate(spans)
    }

    def write(unit: str) -> dict[str, Any]:
        split, (start, stop), file = files[unit]
        messages = [encode_record(record) for record in source.records(split, start, stop)]
        return write_shard(folder / file, messages)

    keys = {
        unit: f"{source.key} {file} {start} {stop}"
        for unit, (_, (start, stop), file) in files.items()
    }
    written = do_units(keys, source.work, write, threads=thread_count(), done=source.done)
    lines = [f"{written[unit]['sha256']}  {file}" for unit, (_, _, file) in files.items()]
    write_text(folder / CHECKSUMS, "\n".join(lines) + "\n")


def write_shard(path: Path, messages: list[bytes]) -> dict[str, Any]:
    """Writes a file of records whole, reads it back, and returns its count, bytes and SHA-256."""
    # The name is fixed, so that what a killed run left of 128 MiB is written over.
    partial = path.with_name(path.name + ".partial")
    writer = ArrayRecordWriter(str(partial), _OPTIONS)
    for message in messages:
        writer.write(message)
    writer.close()
    with partial.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    reader = ArrayRecordReader(str(partial))
    same = reader.num_records() == len(messages)
    for position, message in enumerate(messages):  # one by one: other threads wait meanwhile
        same = same and reader.read(position, position + 1) == [message]
    reader.close()
    if not same:
        raise OSError(
            f"{partial} does not hold the {len(messages)} records that were written to it; check "
            f"the disk, and give the same command again."
        )
    partial.replace(path)
    return {"records": len(messages), "bytes": path.stat().st_size, "sha256": digest}


def verify_checksums(folder: Path) -> list[str]:
    """The record files below `folder/SHA256SUMS` that are missing or changed since they were made.

    Raises:
        MissingFileError: the folder has no checksums.
    """
    path = folder / CHECKSUMS
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist, so its records cannot be verified; prepare them again, as "
            f"older versions wrote no checksums."
        )
    wrong = []
    for number, line in enumerate(read_text(path, "a list of checksums").splitlines(), start=1):
        expected, _, file = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", expected) or not file or Path(file).name != file:
            raise InputError(
                f"{path} line {number} is {line[:80]!r}; expected a SHA-256 and the name of a file "
                f"beside it; copy the folder again."
            )
        place = inside(folder, file, path)
        if not place.exists():
            wrong.append(file)
            continue
        with place.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                wrong.append(file)
    return wrong
