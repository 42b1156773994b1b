"""The formats of label files on the cortical surface: .annot, .label.gii, .mgz with a table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Int64

from neuroadapter_jax.cortex.label_names import is_background
from neuroadapter_jax.cortex.label_tables import label_table_of
from neuroadapter_jax.errors import InputError, MissingFileError, reading

# Besides -1, what files hold at vertices without label: the greatest and the least number of 32
# bits, which NaN or an unset value becomes.
_GREATEST, _LEAST = 2**31 - 1, -(2**31)
# What GIFTI files say of their hemisphere.
_STRUCTURES = {"CortexLeft": "lh", "CortexRight": "rh"}


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file of one hemisphere.

    Attributes:
        path: of the file.
        labels: of each vertex; 0 or -1 where there is none.
        names: of the labels, of those that are not in use, too.
        table: what the table of names is called, for messages.
        structure: the hemisphere that the file itself tells, "lh" or "rh"; None where it does not.
    """

    path: Path
    labels: Int64[np.ndarray, " n"]
    names: dict[int, str]
    table: str = "its table of names"
    structure: str | None = None

    def regions(self) -> dict[int, str]:
        """The labels in use that are no background."""
        used = set(np.unique(self.labels).tolist())
        return {
            v: self.names[v] for v in self.names if v in used and not is_background(self.names[v])
        }


def read_surface_values(path: str | os.PathLike) -> np.ndarray:
    """Reads one value per vertex from an .mgz or .mgh file.

    Raises:
        MissingFileError: the file is missing.
        InputError: it is damaged, holds more than one value per vertex, or both hemispheres side by
            side.
    """
    if not Path(path).exists():
        raise MissingFileError(f"The surface file {path} does not exist; check its folder.")
    with reading(Path(path), "a surface file of FreeSurfer (.mgz, .mgh)"):
        image: Any = nib.load(path)  # nibabel's type is that of any image
        values = np.asanyarray(image.dataobj)
    if values.size != max(values.shape):
        raise InputError(
            f"{path} has shape {values.shape}; expected one value per vertex of one hemisphere."
        )
    values = values.reshape(-1)
    return values.astype(values.dtype.newbyteorder("="))


def whole_labels(values: np.ndarray, path: str | os.PathLike) -> Int64[np.ndarray, " n"]:
    """Labels as integers: -1 for NaN and for the greatest and the least number of 32 bits.

    Args:
        values: one per vertex, as a file holds them.
        path: of that file, for the message.

    Raises:
        InputError: values that are no whole numbers, so that they are no labels.
    """
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), -1, values.astype(np.float64))
        finite = np.isfinite(values)
        odd = ~finite
        odd[finite] = np.abs(values[finite] - np.rint(values[finite])) > 1e-3
        if odd.any():
            first = int(odd.argmax())
            raise InputError(
                f"{path} holds {values[first]:g} at vertex {first}, and no whole number at "
                f"{int(odd.sum())} of {len(values)} vertices; expected labels, so give the atlas's "
                f"file of labels (ROIs of a map of measurements are made by thresholds, see "
                f"docs/parcels.md)."
            )
        values = np.rint(values)
    labels = values.astype(np.int64)
    return np.where((labels >= _GREATEST) | (labels <= _LEAST), -1, labels)


def _read_annot(path: Path) -> LabelFile:
    with reading(path, "an .annot file of FreeSurfer"):
        with path.open("rb") as file:
            count = int.from_bytes(file.read(4), "big", signed=True)
        if not 0 < 8 * count < path.stat().st_size:
            raise ValueError(f"{path.stat().st_size} bytes cannot hold {count} vertices")
        # nibabel maps a colour that the table lacks to a neighbouring label, and merges equal
        # colours, so the identifiers are matched here.
        values, table, names = nib.freesurfer.read_annot(path, orig_ids=True)
        names = [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names]
        ids = (table[:, 0] + (table[:, 1] << 8) + (table[:, 2] << 16)).tolist()
        if len(ids) != len(names) or len(values) != count:
            raise ValueError(f"{len(values)} labels of {count}, {len(names)} names of {len(ids)}")
    labels = {0: "unknown"}
    owner: dict[int, str] = {}
    for identifier, name in zip(ids, map(str.strip, names), strict=True):
        if identifier in owner and not (is_background(name) and is_background(owner[identifier])):
            raise InputError(
                f"{path} gives the labels {owner[identifier]!r} and {name!r} the same colour, so "
                f"their vertices cannot be told apart; write it again with one colour per label."
            )
        if identifier == 0 and not is_background(name):
            raise InputError(
                f"{path} gives the label {name!r} the colour (0, 0, 0), which means 'no label'; "
                f"write it again with another colour."
            )
        labels[identifier] = owner[identifier] = name
    return LabelFile(path, whole_labels(values, path), labels)


def _read_gifti(path: Path) -> LabelFile:
    with reading(path, "a GIFTI file of labels (.label.gii)"):
        image: Any = nib.load(path)  # nibabel's type is that of any image
        arrays = [np.asarray(array.data) for array in image.darrays]
        table = image.labeltable.get_labels_as_dict()
        names = {int(value): str(name).strip() for value, name in table.items()}
        said = [image.meta, *(array.meta for array in image.darrays)]
        structures = [str(meta.get("AnatomicalStructurePrimary", "")) for meta in said]
    if len(arrays) != 1:
        raise InputError(f"{path} holds {len(arrays)} data arrays; expected one array of labels.")
    sides = [_STRUCTURES[each] for each in structures if each in _STRUCTURES]
    labels = whole_labels(arrays[0].reshape(-1), path)
    return LabelFile(path, labels, names, structure=sides[0] if sides else None)


def read_label_file(path: Path) -> LabelFile:
    """Reads a label file of any format; each label in use has a name.

    Raises:
        MissingFileError: the file, or the table of a .mgz file, is missing.
        InputError: a damaged file, two labels of one colour, a label without name, or an unknown
            format.
    """
    if path.name.endswith(".annot"):
        found = _read_annot(path)
    elif path.name.endswith(".gii"):
        found = _read_gifti(path)
    elif path.name.endswith((".mgz", ".mgh")):
        values = read_surface_values(path)
        names, table = label_table_of(path)
        found = LabelFile(path, whole_labels(values, path), names, table)
    else:
        raise InputError(
            f"{path} is not a parcellation this reads; give .annot, .label.gii, or .mgz with a "
            f".ctab beside it."
        )
    found.names.setdefault(0, "unknown")
    found.names[-1] = "unknown"
    values, counts = np.unique(found.labels, return_counts=True)
    unnamed = {
        value: count
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value not in found.names
    }
    if unnamed:
        value, count = next(iter(unnamed.items()))
        more = f" ({len(unnamed)} such values, {sum(unnamed.values())} vertices in all)"
        raise InputError(
            f"{path} uses the label value {value} at {count} vertices{more * (len(unnamed) > 1)}, "
            f"which {found.table} does not list; add its name, or make its vertices 0."
        )
    return found
