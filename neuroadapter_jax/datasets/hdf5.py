"""HDF5 files: whatever damage makes the library say is one InputError with the file's name."""

import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from neuroadapter_jax.errors import InputError, reading, stand_in

_BEST_COMPRESSION = 1100  # gzip makes no more than 1,030 bytes from one
_SMALL = 1 << 26  # a file that is looked through whole in no time
_HEAP = re.compile(rb"GCOL\x01\0\0\0")  # a collection of the strings of a file


@contextmanager
def open_hdf5(path: str | Path, expected: str, remedy: str = "") -> Iterator[h5py.File]:
    """A file to read from; what is read has to be read within the context.

    Args:
        path: the file.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, cut short or no such file.
    """
    with reading(path, expected, remedy):
        size = Path(path).stat().st_size
        if stand_in(path) is None and not h5py.is_hdf5(path):
            advice = remedy or "copy or download it again"
            raise InputError(
                f"{path} is not an HDF5 file ({size} bytes); expected {expected}; {advice}."
            )
        if size <= _SMALL:
            _require_strings_that_end(path)
        with h5py.File(path, "r") as file:
            yield file


def hdf5_dataset(file: h5py.File, key: str, *, sparse: bool = False) -> h5py.Dataset:
    """A dataset, once it is known to be one and no larger than its file can hold.

    Args:
        file: an open file.
        key: of the dataset.
        sparse: some rows may never have been written, so that only the size of one row is checked.

    Raises:
        ValueError: it is not; to be told by `reading`, as all that the library raises.
    """
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"no dataset {key!r} in it, but {', '.join(sorted(file)) or 'nothing'}")
    size = Path(file.filename).stat().st_size
    promised = found.nbytes // max(len(found), 1) if sparse else found.nbytes
    if promised > _BEST_COMPRESSION * size:
        raise ValueError(f"{key!r} promises {found.nbytes} bytes in a file of {size}")
    if h5py.check_dtype(vlen=found.dtype) is not None and size > _SMALL:
        _require_strings_that_end(file.filename)
    return found


def _require_strings_that_end(path: str | Path) -> None:
    """Refuse a file whose strings the library would read for ever.

    Strings lie in collections of objects, each with an index and a size. Where a part of the file
    was zeroed, index and size are 0, and the library takes an object of size 0 for free space and
    steps over it without end. No file that is whole has one.

    Raises:
        ValueError: so it is; to be told by `reading`.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        for heap in _HEAP.finditer(held):
            size = int.from_bytes(held[heap.end() : heap.end() + 8], "little")
            place, end = heap.end() + 8, min(heap.start() + size, len(held))
            while place + 16 <= end:
                index = int.from_bytes(held[place : place + 2], "little")
                length = int.from_bytes(held[place + 8 : place + 16], "little")
                if not index and not length:
                    raise ValueError(f"its strings are damaged at byte {place}")
                place += 16 + -(-length // 8) * 8 if index else length
