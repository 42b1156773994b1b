"""MATLAB files (version 5 to 7) of numbers, read by SciPy once their structure has been checked.

SciPy trusts the sizes in such a file: one changed byte can end the process (SIGSEGV), not the call.
"""

import io
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import scipy.io

from neuroadapter_jax.errors import InputError, reading

_HEADER_BYTES = 128
_NAME, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # int8 ... uint64
_NUMERIC = range(6, 16)  # classes of arrays: double ... uint64
_COMPLEX = 0x0800


def read_matlab(
    path: str | Path, names: Sequence[str], expected: str, remedy: str
) -> dict[str, np.ndarray]:
    """Arrays of numbers of a MATLAB file.

    Args:
        path: the file.
        names: of the arrays.
        expected: what it should be, for the message.
        remedy: what to do.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, cut short or something else, or lacks an array of numbers.
    """
    with reading(path, expected, remedy):
        content = Path(path).read_bytes()
        held = _arrays_of_numbers(content)
    for name in names:
        if name not in held:
            raise InputError(
                f"{path} has no numbers {name!r}; it holds {', '.join(sorted(held)) or 'none'}; "
                f"{remedy}."
            )
    with reading(path, expected, remedy):
        found = scipy.io.loadmat(io.BytesIO(content), variable_names=list(names))
        return {name: found[name] for name in names}


def _arrays_of_numbers(content: bytes) -> set[str]:
    """Names of the arrays of numbers, once every size in the file has been checked."""
    mark = content[_HEADER_BYTES - 2 : _HEADER_BYTES]
    order = {b"IM": "<", b"MI": ">"}.get(mark)
    if order is None:
        raise ValueError("it has no header of MATLAB 5 to 7")
    held = set()
    for kind, data in _elements(content[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            ((kind, data),) = _elements(zlib.decompress(data), order)
        if kind != _MATRIX:
            raise ValueError(f"an element of kind {kind} where an array should be")
        (flags_kind, flags), (shape_kind, shape), (name_kind, name), *parts = _elements(data, order)
        if (flags_kind, shape_kind, name_kind, len(flags)) != (_UINT32, _INT32, _NAME, 8):
            raise ValueError("an array without its kind, shape and name")
        (flag,) = struct.unpack_from(f"{order}I", flags)
        if flag & 0xFF in _NUMERIC:
            lengths = struct.unpack(f"{order}{len(shape) // 4}i", shape)
            count = math.prod(lengths)
            sizes = [count * _ITEM_BYTES[part_kind] for part_kind, _ in parts]
            wanted = 2 if flag & _COMPLEX else 1
            if sizes != [len(part) for _, part in parts] or len(parts) != wanted or count < 0:
                raise ValueError(f"an array of shape {lengths} with numbers for another")
            held.add(name.decode("ascii"))
    return held


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each element of a stream."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:  # four bytes or fewer stand in the place of the size
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        end = start + size
        if end > len(data) or (start == place + 4 and size > 4):
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        yield kind, data[start:end]
        place = end if kind == _COMPRESSED else -(-end // 8) * 8
