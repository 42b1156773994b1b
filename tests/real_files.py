"""Public files that nobody here wrote: a test that asks for one is skipped where it is not."""

import json
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "NEUROADAPTER_REAL_FILES"


def real_folder() -> Path:
    """The folder that the environment variable names, else shared/real beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "real"
    return Path(os.environ.get(VARIABLE) or beside)


def real_file(name: str) -> Path:
    """The file or folder of this name; skips the test where it is not."""
    path = real_folder() / name
    if not path.exists():
        pytest.skip(f"{path} is not there; {VARIABLE} names the folder of public files")
    return path


def unpacked(name: str, folder: Path) -> Path:
    """The file that is kept as NAME.xz, unpacked into a folder; skips the test where it is not."""
    path = folder / name
    path.write_bytes(lzma.decompress(real_file(f"{name}.xz").read_bytes()))
    return path


def real_json(name: str) -> Any:
    """The content of a JSON file; skips the test where it is not."""
    return json.loads(real_file(name).read_text())
