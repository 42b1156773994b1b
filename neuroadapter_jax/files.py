"""Files that appear whole or not at all, and work folders that belong to one run."""

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.errors import InputError, NotFiniteError


def write_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader sees the old one or the whole new one, never a part.

    Args:
        path: the file; its folder is made if it is missing.
        write: writes the file whose name it is given, which has the suffix of `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=path.suffix, prefix=f".{path.stem}-", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        write(partial)
        # mkstemp makes files that only their owner reads; these get what open() would give.
        partial.chmod(0o666 & ~_umask())
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; see `write_file`."""
    write_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON, whole or not at all; see `write_file`.

    JSON has no NaN: a score that is not defined becomes null.

    Raises:
        NotFiniteError: an infinite number.
    """
    numbers = _without_nan(content, str(path))
    write_text(path, json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def _without_nan(content: Any, where: str) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        if math.isnan(content):
            return None
        raise NotFiniteError(
            f"{where} is {content}; expected a finite number, so look at its data."
        )
    if isinstance(content, Mapping):
        return {key: _without_nan(value, f"{where}: {key}") for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value, where) for value in content]
    return content


def write_npz(path: str | Path, *, compress: bool = False, **arrays: Any) -> None:
    """Write arrays as an npz file, whole or not at all; see `write_file`."""

    def write(partial: Path) -> None:
        save = np.savez_compressed if compress else np.savez
        with partial.open("wb") as file:  # a file, since NumPy adds .npz to other names
            save(file, **arrays)

    write_file(path, write)


def json_values(content: Any) -> Any:
    """A value as it comes back from a JSON file: tuples are lists, keys are strings."""
    return json.loads(json.dumps(content))


def differing_keys(
    found: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """The keys whose JSON values differ, those of nested dictionaries joined by dots.

    Returns:
        key -> (value found, value wanted); "absent" where there is none.
    """
    differences: dict[str, tuple[Any, Any]] = {}
    for key in sorted(found.keys() | wanted.keys()):
        a, b = found.get(key, "absent"), wanted.get(key, "absent")
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            differences |= differing_keys(a, b, f"{prefix}{key}.")
        else:
            differences[f"{prefix}{key}"] = (a, b)
    return differences


def require_same_settings(
    path: str | Path,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    what: str,
    remedy: str = "name another folder, give the same settings, or delete this one",
) -> None:
    """Refuse a folder or file that holds the work of another run; writes nothing.

    Args:
        path: the folder or file, for the message.
        found: the settings that it was made with.
        wanted: the settings of this call.
        what: what it holds, such as "reconstructions".
        remedy: what to do, for the message.

    Raises:
        InputError: a setting differs; every one is named with both values.
    """
    differences = differing_keys(json_values(found), json_values(wanted))
    if differences:
        pairs = "; ".join(f"{k} is {a!r} there, {b!r} here" for k, (a, b) in differences.items())
        raise InputError(f"{path} holds {what} made with other settings: {pairs}; {remedy}.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
