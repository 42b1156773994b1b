"""Files of common formats, each read in one place: right values, or an InputError that names it.

What is returned has been read whole, checksums included. A size that a header promises is held
against the file's before memory is asked for, since one wrong byte can promise a terabyte.
"""

import dataclasses
import functools
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from jaxtyping import UInt8
from PIL import Image

from neuroadapter_jax.errors import InputError, describe, reading, stand_in

JSONObject = dict[str, Any]


def read_text(path: str | os.PathLike, expected: str, remedy: str = "") -> str:
    """The UTF-8 text of a file; not that of a Git LFS pointer or of a web page.

    Args:
        path: the file.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is empty, something else, or no text.
    """
    with reading(path, expected, remedy):
        text = Path(path).read_text(encoding="utf-8")
    if (other := stand_in(path)) is not None:
        raise InputError(f"{path}: {other[0]}; expected {expected}; {remedy or other[1]}.")
    return text


def read_json(
    path: str | os.PathLike, expected: str, form: Any = JSONObject, remedy: str = ""
) -> Any:
    """The content of a JSON file of a given form.

    Args:
        path: the file.
        expected: what it should be, for the message.
        form: the type of the content; a dictionary when left out, a `TypedDict` where keys are
            needed, which may have others beside them.
        remedy: what to do; when empty, one that fits what was found.

    Returns:
        The content as JSON holds it.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no JSON, lacks a key, or a value is of another type.
    """
    text = read_text(path, expected, remedy)
    with reading(path, expected, remedy):
        content = json.loads(text)
    as_type(form, content, path, expected, remedy)
    return content


def read_json_lines(path: str | os.PathLike, expected: str, form: Any = JSONObject) -> list[Any]:
    """One JSON value a line; a last line without its end, torn by a killed process, is left out.

    Raises:
        InputError: a complete line is damaged or of another form; it is named by its number.
    """
    *lines, torn = read_text(path, expected).split("\n")
    if torn and not torn.startswith(("{", "[")):
        lines.append(torn)  # no beginning of a line, so that it is told below
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path} line {number}: is no JSON ({error}); expected {expected}; copy the file "
                "again, or delete what is damaged."
            ) from None
        as_type(form, found[-1], f"{path} line {number}", expected)
    return found


def as_type(
    form: Any,
    values: Any,
    path: str | os.PathLike,
    expected: str = "the values of its kind",
    remedy: str = "",
) -> Any:
    """JSON values as a type, such as a dataclass; nothing is converted but lists to tuples.

    Args:
        form: a dataclass, or any type that pydantic knows.
        values: from a JSON file.
        path: the file, for the message.
        expected: what it should be, for the message.
        remedy: what to do.

    Raises:
        InputError: a key is missing or, for a dataclass, unknown; or a value is of another type.
    """
    remedy = remedy or "copy or make it again"
    if dataclasses.is_dataclass(form) and isinstance(values, Mapping):
        names = {field.name for field in dataclasses.fields(form)}
        if unknown := sorted(map(str, values.keys() - names)):
            raise InputError(
                f"{path}: has the unknown key {unknown[0]!r}; expected {expected}, with no others "
                f"than {', '.join(sorted(names))}; {remedy}."
            )
    try:
        return _adapter(form).validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
    if isinstance(raised := problem.get("ctx", {}).get("error"), InputError):
        raise InputError(f"{path}: {raised}") from None
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] in ("missing", "missing_argument"):
        found = f"lacks the key {place!r}"
    else:
        value = repr(problem["input"])
        shown = value if len(value) <= 60 else value[:57] + "..."
        what = problem["msg"].removeprefix("Input ")
        found = f"{place or 'its content'} is {shown}, which {what}"
    raise InputError(f"{path}: {found}; expected {expected}; {remedy}.")


@functools.cache
def _adapter(form: Any) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(form)


def read_npz(
    path: str | os.PathLike,
    expected: str,
    keys: Collection[str] | Mapping[str, str] = (),
    remedy: str = "",
) -> dict[str, np.ndarray]:
    """All arrays of an npz file, each held against its checksum.

    Args:
        path: the file.
        expected: what it should be, for the message.
        keys: those that it must hold. A mapping also says what each is: NumPy's letters of the
            types that it may have and the number of its axes, such as "iu1" for a list of whole
            numbers or "f4" for a stack of images; "*" is for all that are not named.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged or something else, lacks a key, holds pickled objects, or an array
            is of another type or number of axes.
    """
    arrays: dict[str, np.ndarray] = {}
    with reading(path, expected, remedy), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            content = archive.read(member)  # whole, so that its checksum is compared
            name = member.filename.removesuffix(".npy")
            arrays[name] = _read_array(io.BytesIO(content), len(content), f"{path}: {name}")
        if len(arrays) != _number_of_members(Path(path), len(arrays)) or not arrays:
            raise ValueError("a list of arrays that has lost some")
    if missing := sorted(set(keys) - set(arrays) - {"*"}):
        raise InputError(
            f"{path} lacks {', '.join(missing)}; expected {expected}; "
            f"{remedy or describe(path)[1]}."
        )
    layouts = keys if isinstance(keys, Mapping) else {}
    for name, array in arrays.items():
        layout = layouts.get(name, layouts.get("*"))
        if layout is not None:
            _require_layout(path, name, array, layout, remedy or describe(path)[1])
    return arrays


_KINDS = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "U": "text", "b": "booleans"}


def _require_layout(
    path: str | os.PathLike, name: str, array: np.ndarray, layout: str, remedy: str
) -> None:
    kinds, axes = layout[:-1], int(layout[-1])
    if array.dtype.kind not in kinds or array.ndim != axes:
        wanted = " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds))
        raise InputError(
            f"{path}: {name} is {array.dtype} of shape {array.shape}; expected {wanted} on {axes} "
            f"{'axis' if axes == 1 else 'axes'}; {remedy}."
        )


def _number_of_members(path: Path, otherwise: int) -> int:
    """What a zip file's last 22 bytes say; zipfile skips what its directory has lost."""
    with path.open("rb") as file:
        file.seek(-22, io.SEEK_END)
        mark, count = struct.unpack("<4s6xH10x", file.read(22))
    return count if mark == b"PK\x05\x06" and count < 0xFFFF else otherwise


def read_npy(
    path: str | os.PathLike, expected: str, *, mapped: bool = False, remedy: str = ""
) -> np.ndarray:
    """The array of an npy file.

    Args:
        path: the file.
        expected: what it should be, for the message.
        mapped: leave it on disk, read-only, to be read where it is indexed.
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, of another length than its header promises or something else,
            or holds pickled objects.
    """
    with reading(path, expected, remedy), open(path, "rb") as file:
        size = Path(path).stat().st_size
        return _read_array(file, size, str(path), Path(path) if mapped else None)


def _read_array(
    file: io.BufferedIOBase, size: int, where: str, mapped: Path | None = None
) -> np.ndarray:
    """The array of a stream of `size` bytes in NumPy's format; see `read_npy`."""
    shape, fortran, dtype = read_npy_header(file)
    if dtype.hasobject:
        raise InputError(
            f"{where}: holds pickled Python objects, which can run code when they are read; "
            "expected numbers or text; make it again from plain arrays."
        )
    promised, found = math.prod(shape) * dtype.itemsize, size - file.tell()
    if promised != found or min(shape, default=0) < 0:
        raise ValueError(f"{found} bytes of data, but shape {shape} of {dtype} takes {promised}")
    order: Any = "F" if fortran else "C"
    if mapped is not None and promised:
        return np.memmap(mapped, dtype, "r", file.tell(), shape, order)
    return np.ndarray(shape, dtype, bytearray(file.read(promised)), order=order)


def read_npy_header(file: io.BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is in Fortran's order, and type of an npy file, which is then at its data.

    Raises:
        ValueError: it is no npy file of version 1 or 2.
    """
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise ValueError(f"the npy format has no version {version}")
    return read_header(file)


def read_picture(path: str | os.PathLike, expected: str = "an image") -> Image.Image:
    """A picture of any format and mode that Pillow reads, all of its pixels in memory.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged, cut short or no picture.
    """
    with reading(path, expected):
        with Image.open(path) as picture:
            if picture.format == "PNG":
                picture.verify()  # the checksums, which loading skips for pixels
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()


def require_picture(path: str | os.PathLike, expected: str = "an image") -> None:
    """Refuse a file that does not begin as a picture; its pixels are not read.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no picture.
    """
    with reading(path, expected), Image.open(path):
        pass


def read_rgb(path: str | os.PathLike, expected: str = "an image") -> UInt8[np.ndarray, "y x 3"]:
    """A picture as 8-bit RGB; see `read_picture`."""
    picture = read_picture(path, expected)
    with reading(path, expected):
        return np.asarray(picture.convert("RGB"))
