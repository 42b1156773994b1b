"""HDF5 files: whatever damage makes the library say is one InputError with the file's name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from neuroadapter_jax.errors import InputError, reading, stand_in

_BEST_COMPRESSION = 1100  # gzip makes no more than 1,030 bytes from one


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
    return found
