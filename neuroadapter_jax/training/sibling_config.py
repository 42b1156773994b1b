"""Config files that build on another config file of their folder."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neuroadapter_jax.errors import MissingFileError


def sibling_config(file: str | Path, name: str) -> Callable[..., Any]:
    """`get_config` of another config file in the same folder.

    Config files are loaded by path, from the project's configs/ or from those inside the installed
    package, and so belong to no package that an import could name.

    Args:
        file: the calling config's `__file__`.
        name: of the other file, without its suffix, such as "nsd".

    Raises:
        MissingFileError: there is no such file.
    """
    path = Path(file).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise MissingFileError(f"{path}: not found; expected a config file beside {file}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config
