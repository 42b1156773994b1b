"""Tables of text (.csv, .tsv), read once they are text and not something in its place."""

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuroadapter_jax.errors import InputError, reading
from neuroadapter_jax.readers import read_text


def read_text_table(
    path: str | os.PathLike, expected: str, remedy: str = "", **options: Any
) -> pd.DataFrame:
    """A table of text.

    Args:
        path: the file.
        expected: what it should be, for the message.
        remedy: what to do; when empty, one that fits what was found.
        options: of `pandas.read_csv`.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is empty, no table, or something else.
    """
    text = read_text(path, expected, remedy)
    with reading(path, expected, remedy):
        return pd.read_csv(io.StringIO(text), **options)


def whole_numbers(
    table: pd.DataFrame, columns: Sequence[str], path: str | os.PathLike, remedy: str
) -> pd.DataFrame:
    """The table with some columns as int64.

    Raises:
        InputError: a cell of one of them is no whole number; it is named by row and column.
    """
    found = table.copy()
    for column in columns:
        numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
        wrong = ~np.isfinite(numbers) | (numbers != np.round(numbers)) | (np.abs(numbers) > 2**52)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(
                f"{path}: {column} is {table[column].iloc[row]!r} in row {row + 1}; expected a "
                f"whole number; {remedy}."
            )
        found[column] = numbers.astype(np.int64)
    return found
