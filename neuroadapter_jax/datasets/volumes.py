"""NIfTI volumes: masks of ROIs, and the voxels of a mask in every frame of a large file."""

import gzip
import math
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32, Int64

from neuroadapter_jax.errors import reading

_HEADER = 348  # bytes


def nifti_shape(path: str | Path, expected: str, remedy: str = "") -> tuple[int, ...]:
    """The shape that the header of a .nii.gz file promises; its data are not read.

    Args:
        path: the file.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, empty or no NIfTI file.
    """
    with reading(path, expected, remedy), gzip.open(path) as file:
        return _header(file)[0]


def read_mask(path: str | Path, expected: str, remedy: str = "") -> Bool[np.ndarray, "x y z"]:
    """Where a volume is not 0.

    Args:
        path: a .nii.gz file of one frame.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, no NIfTI file, or not one volume of finite numbers.
    """
    shape = nifti_shape(path, expected, remedy)
    with reading(path, expected, remedy):
        if math.prod(shape[3:]) != 1:
            raise ValueError(f"its shape is {shape}, more than one volume")
        every = np.arange(math.prod(shape), dtype=np.int64)
        values = _read(path, every)
        if not np.isfinite(values).all():
            raise ValueError("some of its voxels are NaN or infinite")
        return values.reshape(shape[:3], order="F") != 0


def read_voxels(
    path: str | Path, voxels: Int64[np.ndarray, " n"], expected: str, remedy: str = ""
) -> Float32[np.ndarray, "frames n"]:
    """Some voxels of every frame, one frame in memory at a time; the file's checksum is verified.

    Args:
        path: a .nii.gz file, scaled as its header says.
        voxels: places in a volume whose first axis runs fastest.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, cut short or no NIfTI file.
    """
    with reading(path, expected, remedy):
        return _read(path, voxels)


def _read(path: str | Path, voxels: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "frames n"]:
    with gzip.open(path) as file:
        shape, dtype, offset, slope, intercept = _header(file)
        file.read(offset - _HEADER)  # extensions
        size = math.prod(shape[:3])
        frames = math.prod(shape[3:])
        rows = np.empty((frames, len(voxels)), np.float32)
        for row in rows:
            content = file.read(size * dtype.itemsize)
            if len(content) < size * dtype.itemsize:
                raise ValueError(f"its header promises {frames} volumes, but it is shorter")
            with np.errstate(over="ignore"):  # what becomes infinite is refused by the caller
                row[:] = np.frombuffer(content, dtype)[voxels] * slope + intercept
        if file.read(1):  # to its end, where the checksum is
            raise ValueError(f"its header promises {frames} volumes, but it is longer")
        return rows


def _header(file: gzip.GzipFile) -> tuple[tuple[int, ...], np.dtype, int, float, float]:
    """Shape, type, first byte of the data, slope and intercept."""
    content = file.read(_HEADER)
    if len(content) < _HEADER:
        raise ValueError(f"{len(content)} bytes are less than a header")
    # Which of the two byte orders it is in, the header's own length tells.
    order = "<" if int.from_bytes(content[:4], "little") == _HEADER else ">"
    header = nib.Nifti1Header(content, order)
    shape = tuple(map(int, header.get_data_shape()))
    dtype = header.get_data_dtype()
    if header["magic"].item() not in (b"n+1", b"n+1\0"):
        raise ValueError("it is no NIfTI-1 file in one piece")
    if len(shape) < 3 or min(shape) < 1:
        raise ValueError(f"its shape is {shape}")
    if dtype.kind not in "fiu":
        raise ValueError(f"its values are {dtype}")
    offset = int(header["vox_offset"])
    if not _HEADER <= offset < 1 << 24:
        raise ValueError(f"its data begin at byte {offset}")
    slope, intercept = header.get_slope_inter()
    return shape, dtype, offset, 1.0 if slope is None else slope, intercept or 0.0
