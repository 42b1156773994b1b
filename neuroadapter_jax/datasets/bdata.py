"""BData, the HDF5 files of Kamitani's laboratory: samples x columns, and a table on the columns.

`bdpy` writes them. `/dataset` [samples, columns]; `/metadata/key` [K] names the rows of
`/metadata/value` [K, columns]: a row is a mask, 1 for the columns that belong, or a number per
column. `/vmap/<key>/<number>` is the text that a number in the columns of `key` stands for. Older
files say `/dataSet` and `/metaData`.
"""

from contextlib import AbstractContextManager
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float64, Int64

from neuroadapter_jax.datasets.hdf5 import hdf5_dataset, open_hdf5
from neuroadapter_jax.errors import InputError, MissingFileError


class BData:
    """One file, read as far as it is asked for.

    Args:
        path: the file.
        source: where one gets it, for the sentence about one that is missing or damaged.

    Raises:
        MissingFileError: the file is missing.
        InputError: it is no BData file.
    """

    def __init__(self, path: str | Path, source: str):
        self.path = Path(path)
        if not self.path.exists():
            raise MissingFileError(f"{self.path} does not exist; download it from {source}.")
        self._advice = f"download it again from {source}"
        with self._open() as file:
            self._dataset = next((k for k in ("dataset", "dataSet") if k in file), "")
            table = next((k for k in ("metadata", "metaData") if k in file), "")
            if not self._dataset or not table or not {"key", "value"} <= set(file[table]):
                raise InputError(
                    f"{self.path} holds {', '.join(sorted(file))}; a BData file has dataset and "
                    f"metadata (key, value), or dataSet and metaData in older files."
                )
            self.keys = [_text(key) for key in hdf5_dataset(file, f"{table}/key")[()]]
            self._values = np.asarray(hdf5_dataset(file, f"{table}/value"), np.float64)
            shape = hdf5_dataset(file, self._dataset).shape
            if len(shape) != 2 or self._values.shape != (len(self.keys), shape[1]):
                raise InputError(
                    f"{self.path} has a dataset of shape {shape} and metadata of shape "
                    f"{self._values.shape} for {len(self.keys)} keys; expected [samples, columns] "
                    f"and [keys, columns], so download it again from {source}."
                )
            self.num_samples: int = shape[0]
            self._labels = {
                key: {float(number): _text(text[()]) for number, text in group.items()}
                for key, group in file.get("vmap", {}).items()
            }

    def _open(self) -> AbstractContextManager[h5py.File]:
        return open_hdf5(self.path, "a BData file (HDF5)", self._advice)

    def columns(self, key: str) -> Bool[np.ndarray, " columns"]:
        """The columns that a row of the metadata marks with 1; NaN and 0 mark none."""
        return self.attribute(key) == 1

    def attribute(self, key: str) -> Float64[np.ndarray, " columns"]:
        """A row of the metadata.

        Raises:
            InputError: there is none of that name.
        """
        if key not in self.keys:
            raise InputError(
                f"{self.path} has no {key!r} in its metadata; it has {', '.join(self.keys)}."
            )
        return self._values[self.keys.index(key)]

    def read(
        self, columns: Int64[np.ndarray, " k"], first: int = 0, last: int | None = None
    ) -> Float64[np.ndarray, "samples k"]:
        """Samples `first` to `last` of columns in the given order."""
        with self._open() as file:
            rows = file[self._dataset][first:last]  # whole rows: one contiguous read
            return np.asarray(rows[:, columns], np.float64)

    def single(self, key: str) -> Float64[np.ndarray, " samples"] | None:
        """The one column that `key` marks, such as `Run`; None where there is none."""
        if key not in self.keys:
            return None
        marked = np.flatnonzero(self.columns(key))
        if len(marked) != 1:
            raise InputError(
                f"{self.path} marks {len(marked)} columns as {key!r}; expected exactly one."
            )
        with self._open() as file:
            return np.asarray(file[self._dataset][:, int(marked[0])], np.float64)

    def labels(self, key: str) -> list[str] | None:
        """The texts that the numbers in the column of `key` stand for; None without a vmap.

        Raises:
            InputError: a number that the vmap does not know.
        """
        if key not in self._labels or (numbers := self.single(key)) is None:
            return None
        known = self._labels[key]
        if unknown := sorted(set(numbers.tolist()) - set(known)):
            raise InputError(
                f"{self.path} uses {unknown[0]:g} in column {key!r} ({len(unknown)} such numbers), "
                f"which its vmap, of {len(known)} entries, does not list."
            )
        return [known[number] for number in numbers.tolist()]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
