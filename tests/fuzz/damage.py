"""What happens to files: cut short, emptied, bytes changed, something else under their name.

A damage is made from a file's bytes by choices of whole numbers, so that Hypothesis can make them
in the tests and a seeded generator in the long run, with the same code.
"""

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Others = Sequence[tuple[str, bytes]]  # name and content of valid files
Choose = Callable[[int, int], int]  # a whole number from the first to the second, both included

WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>...</body></html>\n"
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)
# Of these nothing of the file is left, so no reader may take them for it.
REPLACED = ("emptied", "web page", "LFS pointer", "another format")
_OTHER_VALUES: tuple[Any, ...] = (None, True, -1, 0, 1.5, "text", [], {}, [[]], float("nan"))


def kinds_for(name: str) -> list[str]:
    """The kinds of damage that can happen to a file of a name."""
    kinds = ["truncated", *REPLACED, "bytes changed", "zeroed", "missing"]
    if name.endswith(".json"):
        kinds += ["key removed", "another type", "list in place of object"]
    if name.endswith(".npz"):
        kinds += ["array removed", "array of another type", "pickled array"]
    return kinds


def of_other_formats(name: str, others: Others) -> list[bytes]:
    """The files of another format than that of a name; pictures and MGH files are one each."""

    def format_of(name: str) -> str:
        suffix = name.rpartition(".")[2]
        pictures = dict.fromkeys(("png", "jpg", "tif", "bmp"), "picture")
        return ({"mgz": "mgh", "h5": "hdf5", "nc": "hdf5"} | pictures).get(suffix, suffix)

    return [content for other, content in others if format_of(other) != format_of(name)]


def damage(kind: str, content: bytes, others: Sequence[bytes], choose: Choose) -> bytes | None:
    """A file's content after damage; None where the file is missing.

    Args:
        kind: one of `kinds_for`.
        content: what it held.
        others: valid files of other formats.
        choose: makes the choices.
    """
    if kind == "missing":
        return None
    if kind in ("emptied", "web page", "LFS pointer"):
        return {"emptied": b"", "web page": WEB_PAGE, "LFS pointer": LFS_POINTER}[kind]
    if kind == "another format":
        return others[choose(0, len(others) - 1)]
    if kind == "truncated":
        return content[: choose(0, max(len(content) - 1, 0))]
    if kind in ("bytes changed", "zeroed"):
        return _changed(content, kind == "zeroed", choose)
    if kind in ("key removed", "another type", "list in place of object"):
        return json.dumps(_restructured(json.loads(content), kind, choose)).encode()
    return _with_other_array(content, kind, choose)


def _changed(content: bytes, zeroed: bool, choose: Choose) -> bytes:
    changed = bytearray(content)
    # Headers are short, so half of the changes are made among the first bytes.
    last = min(len(content), 512 if choose(0, 1) else len(content)) - 1
    if zeroed:
        start = choose(0, last)
        stop = min(start + choose(1, 64), len(content))
        changed[start:stop] = bytes(stop - start)
    else:
        for _ in range(choose(1, 4)):
            changed[choose(0, last)] ^= choose(1, 255)
    return bytes(changed)


def _restructured(value: Any, kind: str, choose: Choose) -> Any:
    """A JSON value with one key removed, one value of another type, or in a list."""
    if kind == "list in place of object":
        return [value]
    places = list(_places(value))
    if not places:
        return _OTHER_VALUES[choose(0, len(_OTHER_VALUES) - 1)]
    holder, key = places[choose(0, len(places) - 1)]
    if kind == "key removed":
        del holder[key]
    else:
        holder[key] = _OTHER_VALUES[choose(0, len(_OTHER_VALUES) - 1)]
    return value


def _places(value: Any):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _with_other_array(content: bytes, kind: str, choose: Choose) -> bytes:
    """An npz file with one array removed, of another type or shape, or of pickled objects."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    name = sorted(arrays)[choose(0, len(arrays) - 1)]
    if kind == "array removed":
        del arrays[name]
    elif kind == "pickled array":
        arrays[name] = np.array([{"a": 1}], dtype=object)
    else:
        x = arrays[name]
        other = (
            lambda: x.astype(str),
            lambda: np.zeros(x.shape, np.complex64),
            lambda: x[None],
            lambda: x.reshape(-1)[:0],
            lambda: np.array(3),
            lambda: np.zeros((*x.shape, 2), np.float32),
        )
        arrays[name] = other[choose(0, len(other) - 1)]()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, array in arrays.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
            archive.writestr(f"{key}.npy", stream.getvalue())
    return buffer.getvalue()
