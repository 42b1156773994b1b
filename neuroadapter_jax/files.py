"""Files that appear whole or not at all, and work folders that belong to one run."""

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from neuroadapter_jax.errors import ExistingFileError, InputError, NotFiniteError

ASSETS = Path(__file__).resolve().parent / "assets"  # what the package brings along


def here_or_shipped(name: str | Path) -> Path | None:
    """The folder of this name, else the one that the package brings along; None for neither."""
    return next((folder for folder in (Path(name), ASSETS / name) if folder.is_dir()), None)


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


# Among settings: fingerprints of content by the name of what holds it; and what is only recorded.
INPUTS, RECORDED = "inputs", "recorded"


@contextlib.contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A folder to write into that appears under its name only once it is complete.

    Args:
        path: the folder. Where it holds something already, it is written in place, file by file.

    Yields:
        Where to write: a folder beside it with a name that no other call has.
    """
    path = Path(path)
    if path.is_dir() and any(path.iterdir()):
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_partial_folders(path: str | Path) -> None:
    """Remove what killed calls of `whole_folder` left; where the caller alone writes the folder."""
    path = Path(path)
    for partial in path.parent.glob(f".{path.name}-*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def refuse_foreign(folder: str | Path, names: Iterable[str], *, ours: bool = False) -> None:
    """Refuse to write over files that another run or a person put into a folder; writes nothing.

    Args:
        folder: the folder.
        names: of the files and folders in it that are to be written.
        ours: whether what is there was written by the same run.

    Raises:
        ExistingFileError: one is there and was not written by the same run.
    """
    folder = Path(folder)
    if ours:
        return
    if found := [name for name in names if (folder / name).exists()]:
        raise ExistingFileError(
            f"{folder} holds {', '.join(found)} already, which this run did not write; name "
            "another folder, or move them away."
        )


# Kind of folder -> a file or folder by which it is known, and what it is.
_KINDS = {
    "records": ("provenance.json", "records of `neuroadapter prepare`"),
    "run": ("checkpoints", "a training run"),
    "encoder run": ("block*_run*", "a run of `neuroadapter train-encoder`"),
    "model": ("adapter.safetensors", "a model of `neuroadapter export`"),
    "encoder": ("encoder_0.safetensors", "a brain encoder"),
    "backbone": ("model_index.json", "a backbone"),
    "reconstructions": ("index.json", "images of `neuroadapter reconstruct`"),
    "views": ("views-*.nc", "views of `neuroadapter interpret`"),
}


def refuse_other_kind(folder: str | Path, kind: str) -> None:
    """Refuse to write into a folder of another kind, whose files would be mixed; writes nothing.

    Args:
        folder: the folder; it need not be there.
        kind: of what is to be written, a key of `_KINDS`.

    Raises:
        ExistingFileError: it holds something of another kind.
    """
    for other, (mark, what) in _KINDS.items():
        if other != kind and (found := sorted(Path(folder).glob(mark))):
            raise ExistingFileError(
                f"{folder} holds {what} ({found[0].name}), which files of another kind would be "
                f"mixed with; name another folder for the {kind}."
            )


def require_folder_place(name: str, path: str | Path) -> None:
    """Refuse a place where no folder can be written; writes nothing.

    Args:
        name: of the flag or setting, for the message.
        path: of the folder; it need not be there.

    Raises:
        ExistingFileError: it is a file, or lies below one.
        InputError: its folder may not be written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ExistingFileError(f"{name} is {path}, which is a file; name a folder.")
    require_writable_place(name, path)


def require_writable_place(name: str, path: Path) -> None:
    """Refuse a place below a file or in a folder without permission; see `require_folder_place`."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not there.is_dir() and there != path:
        raise ExistingFileError(
            f"{name} is {path}, but {there} is a file, so nothing can be written into it; name "
            "another place."
        )
    if not os.access(there, os.W_OK):
        raise InputError(
            f"{name} is {path}, but {there} may not be written by this user; name another place "
            "or change its permissions."
        )


def inside(folder: str | Path, name: str, listed_in: str | Path) -> Path:
    """The path of a file that another file names, which has to lie in a folder.

    Args:
        folder: the folder.
        name: as the other file has it, relative to the folder.
        listed_in: the other file, for the message.

    Raises:
        InputError: the name leads out of the folder, such as ../../x or /x.
    """
    # Not resolved, since the Hub's cache links its files to others beside the folder.
    place = os.path.normpath(str(name))
    if os.path.isabs(place) or Path(place).parts[:1] == (os.pardir,):
        raise InputError(
            f"{listed_in} names {str(name)!r}, which {_where(place, folder)}; expected a file in "
            "it, so mend the name, if you trust where the folder came from."
        )
    return Path(folder) / str(name)


def _where(place: str, folder: str | Path) -> str:
    absolute = os.path.isabs(place)
    return f"is an absolute path and not one in {folder}" if absolute else f"lies outside {folder}"


def json_values(content: Any) -> Any:
    """A value as it comes back from a JSON file: tuples are lists, keys are strings."""
    return json.loads(json.dumps(content))


def without_local_paths(content: Any) -> Any:
    """JSON values in which of an absolute path the last name alone is left, to be given away."""
    if isinstance(content, Mapping):
        return {key: without_local_paths(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_local_paths(value) for value in content]
    if isinstance(content, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if (path := kind(content)).is_absolute() or content.startswith("~"):
                return path.name
    return content


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

    Under "inputs" settings may hold fingerprints of content, such as {"prepared": "5f3a..."}. Where
    both sides have one, the setting of the same name, a path, is not compared: what moved is still
    the same, and what was replaced is not. A folder of an earlier version has none; there the
    paths are compared.

    Args:
        path: the folder or file, for the message.
        found: the settings that it was made with.
        wanted: the settings of this call.
        what: what it holds, such as "reconstructions".
        remedy: what to do, for the message.

    Raises:
        InputError: a setting or the content of an input differs; every one is named with both
            values.
    """
    there, here = json_values(found), json_values(wanted)
    known, now = there.pop(INPUTS, {}), here.pop(INPUTS, {})
    both = known.keys() & now.keys()
    changed = differing_keys({k: known[k] for k in both}, {k: now[k] for k in both})
    differences = differing_keys(
        {k: x for k, x in there.items() if k not in both},
        {k: x for k, x in here.items() if k not in both},
    )
    pairs = [f"{k} is {a!r} there, {b!r} here" for k, (a, b) in differences.items()]
    pairs += [
        f"the content of {k} is another than then, {_shortened(b)} and no longer {_shortened(a)}"
        for k, (a, b) in changed.items()
    ]
    if pairs:
        kind = "settings" if differences else "input"
        raise InputError(
            f"{path} holds {what} made with other {kind}: {'; '.join(pairs)}; {remedy}."
        )


def _shortened(fingerprint: Any) -> str:
    parts = fingerprint if isinstance(fingerprint, list) else [fingerprint]
    return ", ".join(str(part)[:8] for part in parts)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
