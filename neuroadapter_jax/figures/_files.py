"""Atomic writing shared by the figures."""

import os
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` on a temporary name beside ``path``, then renames.

    Args:
        path: file to write; its folder is made if missing.
        write: writes the file it is given.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    write(partial)
    os.replace(partial, path)
