"""Fingerprints of content: equal for equal bytes, wherever they lie and whatever they are called.

XXH3 of 128 bits (xxhash.com) over every byte: 7 GB/s from memory on one core, so that a file is
read as fast as its disk gives it. It tells what was replaced, mixed up or damaged; it is no seal
against somebody who forges a file.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xxhash

# Files of this process and of the tables it has read: state -> fingerprint. The system sets the
# time of change in a state at every write, and no program can set it back.
_KNOWN: dict[str, str] = {}
# Seconds after which a file counts as settled: file systems count the time of change in steps, so
# one that was written just now may change again without another state.
_SETTLED = 2.0
_SAMPLE_BYTES = 1 << 16
_THREADS = 4


def of_file(path: str | Path) -> str:
    """The fingerprint of a whole file; it is not read again while the system says it is unchanged.

    Raises:
        OSError: it can't be read.
    """
    return _once(Path(path), "", _of_all)


def of_samples(path: str | Path) -> str:
    """A cheap fingerprint: of a file's size and of 64 KiB each at its start, middle and end."""
    return _once(Path(path), "samples ", _of_samples)


def of_files(paths: Iterable[str | Path]) -> Iterator[str]:
    """The fingerprint of each of several files, in their order, read by four threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        yield from pool.map(of_file, paths)


def of_arrays(arrays: Mapping[str, Any]) -> str:
    """The fingerprint of arrays: of their names, shapes, types and bytes, in the order of names."""

    def of_one(name: str) -> str:
        array = np.ascontiguousarray(arrays[name])
        digest = xxhash.xxh3_128(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    with ThreadPoolExecutor(_THREADS) as pool:
        return of_values(list(pool.map(of_one, sorted(arrays))))


def of_tree(tree: Any) -> str:
    """The fingerprint of all arrays of a pytree, by their places in it."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return of_arrays({jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def of_values(values: Any) -> str:
    """The fingerprint of JSON values, whatever the order of their keys."""
    return xxhash.xxh3_128_hexdigest(json.dumps(values, sort_keys=True).encode())


def stored_table(path: Path) -> dict[str, str]:
    """What `table_of` gave and a file stores; nothing where it is missing or damaged.

    A table that can't be read costs time only: the files are read again.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def read_table(path: Path) -> None:
    """Take the fingerprints of a stored table as known."""
    _KNOWN.update(stored_table(path))


def table_of(paths: Iterable[str | Path]) -> dict[str, str]:
    """State and fingerprint of those files that are known and settled, as JSON values."""
    states = [_state(Path(path)) for path in paths]
    return {state: _KNOWN[state] for state in states if state in _KNOWN}


def _once(path: Path, kind: str, compute: Callable[[Path], str]) -> str:
    state = kind + _state(path)
    if state in _KNOWN:
        return _KNOWN[state]
    settled = time.time() - path.stat().st_ctime > _SETTLED
    found = compute(path)
    if settled:
        _KNOWN[state] = found
    return found


def _state(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def _of_all(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


def _of_samples(path: Path) -> str:
    size = path.stat().st_size
    digest = xxhash.xxh3_128(str(size).encode())
    with path.open("rb") as file:
        for start in (0, size // 2, max(0, size - _SAMPLE_BYTES)):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
