"""Pickled dictionaries of arrays, read without giving the file a way to run code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.readers import read_npy_header

# All that dictionaries of NumPy arrays and scalars need; NumPy's modules were renamed in version 2.
_ALLOWED = {
    (module, name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
        ("__builtin__", "bytes"),  # protocols 0 to 2 write empty bytes as a call of it
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def load_dictionary(path: str | Path, *, allow_pickle: bool) -> dict[str, Any]:
    """Reads a dictionary that `np.save` wrote.

    Such a file is a pickle, and a pickle can name any function of Python to be called while it is
    read. Here only those that make arrays, numbers, texts and containers are called.

    Args:
        path: .npy file of one object, a dictionary.
        allow_pickle: that the caller knows this and has asked for it.

    Raises:
        MissingFileError: the file is missing.
        InputError: not allowed, a file that wants more than arrays, or one that is no dictionary.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} does not exist; it is made by those who made the betas.")
    if not allow_pickle:
        raise InputError(
            f"{path} is a pickle, which can run code when it is read; if you know where it comes "
            f"from, say --allow-pickle: it is then read as arrays and numbers only."
        )
    with path.open("rb") as file:
        with reading(path, "a dictionary as np.save writes it (.npy)"):
            shape, _, dtype = read_npy_header(file)
        if dtype.kind != "O" or shape != ():
            raise InputError(
                f"{path} holds an array of {dtype} and shape {shape}; expected one dictionary, as "
                f"np.save writes it."
            )
        try:
            value = _Unpickler(file, encoding="latin1").load()
        except Exception as error:
            raise InputError(
                f"{path} is refused: it holds more than arrays and numbers, or is damaged "
                f"({type(error).__name__}: {' '.join(str(error).split())}); nothing of it was run."
            ) from None
    # np.save pickles the array of no dimension around the dictionary.
    value = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}; expected a dictionary.")
    return value
