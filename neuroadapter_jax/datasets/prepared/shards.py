"""Record files: written by several threads and processes, read back, and never written twice."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from neuroadapter_jax.datasets.prepared.records import ARRAYS, encode_record
from neuroadapter_jax.datasets.prepared.work import share, thread_count

CHECKSUMS = "SHA256SUMS"
_SHARD_BYTES = 128 << 20
# One record per group, for random access. Responses are noise to a compressor: it would save a
# tenth of their bytes and take longer than the disk. Without a limit the writer keeps a copy of all
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


def write_shards(
    folder: Path,
    bounds: dict[str, list[tuple[int, int]]],
    records: Callable[[str, int, int], Iterator[dict[str, Any]]],
    *,
    name: str,
    key: str,
    work: Path,
    done: Callable[[str, bool], None] = lambda *_: None,
) -> None:
    """Writes `NAME-SPLIT.array_record-I-of-M` and `SHA256SUMS`; goes on where it was killed.

    Every shard is read back and compared with what was to be written, byte by byte, before it
    counts as done.

    Args:
        folder: where the files go.
        bounds: per split, its shards; see `shard_bounds`.
        records: makes the records from one position of a split up to another.
        name: of the dataset.
        key: stands for all that the records depend on.
        work: folder for the marks of what is done; see `share`.
        done: see `share`.

    Raises:
        OSError: a shard does not hold what was written to it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        f"{split}-{index:05d}": (
            split,
            span,
            f"{name}-{split}.array_record-{index:05d}-of-{len(spans):05d}",
        )
        for split, spans in bounds.items()
        for index, span in enumerate(spans)
    }

    def write(unit: str) -> dict[str, Any]:
        split, (start, stop), file = files[unit]
        messages = [encode_record(record) for record in records(split, start, stop)]
        return _write_shard(folder / file, messages)

    keys = {unit: f"{key} {file} {span[0]} {span[1]}" for unit, (_, span, file) in files.items()}
    written = share(keys, work, write, threads=thread_count(), done=done)
    lines = [f"{written[unit]['sha256']}  {file}" for unit, (_, _, file) in files.items()]
    partial = folder / f"{CHECKSUMS}.partial"
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(folder / CHECKSUMS)


def _write_shard(path: Path, messages: list[bytes]) -> dict[str, Any]:
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
        FileNotFoundError: the folder has no checksums.
    """
    path = folder / CHECKSUMS
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist, so its records cannot be verified; prepare them anew, as "
            f"older versions wrote no checksums."
        )
    wrong = []
    for line in path.read_text().splitlines():
        expected, file = line.split("  ", 1)
        place = folder / file
        if not place.exists():
            wrong.append(file)
            continue
        with place.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                wrong.append(file)
    return wrong
