"""Prepared folders of several subjects as one stream of records."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int, Int32, Int64

from neuroadapter_jax.datasets.prepared.records import (
    ARRAYS,
    IDS_OF_SPLITS,
    INDEX,
    PreparedDataset,
    Record,
)
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.readers import read_npz

# What has to be the same for all: the responses' surface and unit, and how the images were encoded.
_SHARED = ("space", "beta_version", "normalize", "image_size", "encoder")


class SubjectsDataset:
    """One split of several subjects' prepared folders; `dataset[i]` is one image of one subject.

    A record is that of a `PreparedDataset` with `subject_index` int32 beside it: the subject's
    place among the folders. The records go round the subjects, one of each in turn, each subject's
    in ascending order of image_id; where a subject's end, the others' go on. So the order is a
    function of the folders alone, and `input_pipeline` shuffles, resumes and shares it among
    processes as it does with one subject's.

    Args:
        prepared: one folder per subject.
        split: "train", "validation" or "test".

    Raises:
        MissingFileError: a folder, or the split's records in it, is not there.
        InputError: an unknown split, records that their index contradicts, a subject given twice,
            responses of another surface
            or unit or images prepared otherwise than the first folder's, or an image that one
            subject trains on and another is tested with.
    """

    def __init__(self, prepared: Sequence[str | Path], split: str):
        self.parts = tuple(PreparedDataset(folder, split) for folder in prepared)
        self.split = split
        self.subjects: tuple[int | str, ...] = tuple(
            part.provenance["request"]["subject"] for part in self.parts
        )
        self._check()
        sizes = [len(part) for part in self.parts]
        row = np.concatenate([np.arange(size) for size in sizes])
        subject = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((subject, row))
        self._rows: Int64[np.ndarray, " images"] = row[order]
        self.subject_indices: Int32[np.ndarray, " images"] = subject[order].astype(np.int32)
        self.image_ids: Int64[np.ndarray, " images"] = np.concatenate(
            [part.image_ids for part in self.parts]
        )[order]

    @property
    def num_vertices(self) -> tuple[int, int]:
        """Vertices of each hemisphere, the same for all subjects."""
        return self.parts[0].num_vertices

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> Record:
        return self.read(index)

    def read(
        self,
        index: SupportsIndex,
        arrays: Collection[str] = tuple(ARRAYS),
        vertices: Int[np.ndarray, "u m"] | None = None,
    ) -> Record:
        """One record, or that part of it that is needed; see `PreparedDataset.read`.

        Args:
            index: place of the record in the split, from 0.
            arrays: which arrays are read.
            vertices: of which features each subject's betas are given, a row per subject; of all
                when None.

        Raises:
            IndexError: there is no such record.
            InputError: as `PreparedDataset.read`.
        """
        if not 0 <= index.__index__() < len(self):
            raise IndexError(f"There is no record {index} among {len(self)}.")
        subject = self.subject_indices[index.__index__()]
        own = None if vertices is None else vertices[subject]
        record = self.parts[subject].read(int(self._rows[index.__index__()]), arrays, own)
        return record | {"subject_index": subject}

    def _check(self) -> None:
        first = self.parts[0]
        for part, subject in zip(self.parts, self.subjects, strict=True):
            if self.subjects.count(subject) > 1:
                raise InputError(
                    f"{part.path} is of subject {subject}, and so is another of the folders; name "
                    f"one per subject."
                )
            made, expected = (p.provenance["request"] for p in (part, first))
            for key in _SHARED:
                if made.get(key) != expected.get(key):
                    raise InputError(
                        f"{part.path} was prepared with {key} = {made.get(key)}, {first.path} with "
                        f"{expected.get(key)}; one model takes subjects prepared in one way."
                    )
            if part.num_vertices != first.num_vertices:
                raise InputError(
                    f"{part.path} has {part.num_vertices} vertices per hemisphere, {first.path} "
                    f"{first.num_vertices}; one model takes subjects on one surface."
                )
        ids = {split: [_ids(part, split) for part in self.parts] for split in ("train", "test")}
        for i, part in enumerate(self.parts):
            for j, other in enumerate(self.parts):
                shared = np.intersect1d(ids["train"][i], ids["test"][j])
                if len(shared):
                    raise InputError(
                        f"{part.path} trains on {len(shared)} image(s) that {other.path} tests "
                        f"with, such as {shared[0]}: a model of both would be tested with images "
                        f"that it was trained on; prepare them with splits that agree."
                    )


def open_prepared(
    prepared: str | Path | Sequence[str | Path], split: str
) -> PreparedDataset | SubjectsDataset:
    """The records of one folder, or of one folder per subject.

    Args:
        prepared: a folder of prepared records, or several.
        split: "train", "validation" or "test".

    Returns:
        A `PreparedDataset`, or of several folders a `SubjectsDataset`.

    Examples:
        >>> from neuroadapter_jax.datasets.subjects import open_prepared
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> len(open_prepared(ASSETS / "simulated-responses", "test"))
        8
    """
    if isinstance(prepared, str | Path):
        return PreparedDataset(prepared, split)
    return SubjectsDataset(prepared, split)


def _ids(part: PreparedDataset, split: str) -> Int64[np.ndarray, " images"]:
    return read_npz(part.path / INDEX, IDS_OF_SPLITS, {split: "iu1"})[split]


@dataclass(frozen=True)
class PartsOfRecords:
    """The records of a dataset with only those parts of each that a consumer takes.

    Attributes:
        dataset: the records.
        arrays: which of their arrays are read.
        vertices: of which features of the cortex the betas are given, [m]; of a `SubjectsDataset`
            [u, m], a row per subject. None for all.
    """

    dataset: PreparedDataset | SubjectsDataset
    arrays: tuple[str, ...]
    vertices: Int[np.ndarray, "*u m"] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: SupportsIndex) -> Record:
        return self.dataset.read(index, self.arrays, self.vertices)
