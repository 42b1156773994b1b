"""Label files of the cortical surface, read and written: .annot, .label.gii, .mgz with a .ctab."""

from __future__ import annotations

import colorsys
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
from jaxtyping import Integer

from neuroadapter_jax.cortex import schaefer
from neuroadapter_jax.cortex.parcellation import (
    HEMISPHERES,
    MESHES,
    Atlas,
    Parcellation,
    Parcels,
    region_keys,
)
from neuroadapter_jax.cortex.surface_files import read_annot, read_gifti, read_mgh
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import write_file
from neuroadapter_jax.readers import read_text

BACKGROUND_NAME = "Background+FreeSurfer_Defined_Medial_Wall"
_BACKGROUND_NAMES = frozenset(
    {
        "unknown",
        "???",
        "background",
        "none",
        "medialwall",
        "corpuscallosum",
        BACKGROUND_NAME.lower().replace("_", "").replace(" ", ""),
    }
)

# The simulated subject's label files: what they are called, and what version 0.1.0 called them.
_FORMER_NAMES = (("Simulated", "Embedded"), ("simulated-vtc", "embedded-vtc"))


def is_background(name: str) -> bool:
    """Whether a label of this name stands for the medial wall or for no region at all."""
    return name.lower().replace("_", "").replace(" ", "").replace("-", "") in _BACKGROUND_NAMES


def read_label_table(path: str | os.PathLike) -> dict[int, str]:
    """Reads a .ctab file: one "index name" pair a line, further columns ignored."""
    table: dict[int, str] = {}
    text = read_text(path, "a table of label names (.ctab)")
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not re.fullmatch(r"-?\d+", fields[0]):
            raise InputError(f"{path} line {number} is {line!r}; expected an index and a name.")
        value = int(fields[0])
        if value in table:
            raise InputError(
                f"{path} line {number} names the value {value} again, {table[value]!r} before and "
                f"{fields[1]!r} now; keep one name per value."
            )
        table[value] = fields[1]
    return table


def find_label_table(path: str | os.PathLike) -> Path:
    """Finds the .ctab of a label file, with or without the hemisphere in its name.

    Raises:
        MissingFileError: none of the usual names exists.
    """
    path = Path(path)
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    candidates = [
        path.with_name(name)
        for stem in (path.name, bare)
        for name in (f"{stem}.ctab", f"{stem.removesuffix('.mgz').removesuffix('.mgh')}.ctab")
    ]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise MissingFileError(
        f"{path} has no table of label names beside it; expected one of "
        f"{', '.join(c.name for c in candidates)}."
    )


def existing_label_file(path: str | os.PathLike) -> Path:
    """The file itself or, where only that exists, the one of its name in version 0.1.0."""
    path = Path(path)
    for name, former in _FORMER_NAMES:
        place = path.with_name(path.name.replace(name, former))
        if place.exists() and not path.exists():
            return place
    return path


def read_surface_values(path: str | os.PathLike) -> np.ndarray:
    """Reads one value per vertex from an .mgz or .mgh file.

    Raises:
        MissingFileError: the file is missing.
        InputError: it holds more than one value per vertex, or both hemispheres side by side.
    """
    if not Path(path).exists():
        raise MissingFileError(f"The surface file {path} does not exist; check its folder.")
    values = read_mgh(path)
    if values.size != max(values.shape):
        raise InputError(
            f"{path} has shape {values.shape}; expected one value per vertex of one hemisphere."
        )
    values = values.reshape(-1)
    return values.astype(values.dtype.newbyteorder("="))


def _read_annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    # nibabel maps a colour that the table lacks to a neighbouring label, and merges equal
    # colours, so the identifiers are matched here.
    values, table, names = read_annot(path)
    ids = table[:, 0] + (table[:, 1] << 8) + (table[:, 2] << 16)
    labels = {0: "unknown"}
    owner: dict[int, str] = {}
    for identifier, name in zip(ids.tolist(), names, strict=True):
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
    return values, labels


def _refuse_merged(path: Path, values: np.ndarray, table: dict[int, str]) -> None:
    """Refuses a name given to two labels, and a Schaefer file without all of its parcels."""
    used = set(np.unique(values).tolist())
    names = [name for value, name in table.items() if value in used and not is_background(name)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path} gives {len(twice)} name(s) to more than one label, such as {twice[0]!r}; "
            f"write it again with one name per label."
        )
    expected = schaefer.promised_parcels(path.name)
    if expected is None or not path.name.endswith(".annot"):
        return
    if len(names) != expected:
        raise InputError(
            f"{path} labels {len(names)} parcels, but its name promises {expected} in a "
            f"hemisphere: labels are missing or were merged, as resampling does; "
            f"{schaefer.where_to_find(path)}."
        )


def _atlas_name(path: Path) -> str:
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    for suffix in (".annot", ".label.gii", ".gii", ".mgz", ".mgh"):
        bare = bare.removesuffix(suffix)
    return bare


def _read_gifti(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    image = read_gifti(path)
    if len(image.darrays) != 1:
        raise InputError(
            f"{path} holds {len(image.darrays)} data arrays; expected one array of labels."
        )
    table = {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items()}
    return np.asarray(image.darrays[0].data).reshape(-1), table


def _read_labels(path: Path, expected: int | None = None) -> tuple[np.ndarray, dict[int, str]]:
    if not path.exists():
        advice = ""
        if schaefer.is_schaefer(path.name):
            advice = f" Name its folder, or {schaefer.where_to_find(path, expected)}."
        raise MissingFileError(f"The parcellation file {path} does not exist.{advice}")
    if path.name.endswith(".annot"):
        values, table = _read_annot(path)
    elif path.name.endswith(".gii"):
        values, table = _read_gifti(path)
    elif path.name.endswith((".mgz", ".mgh")):
        values, table = read_surface_values(path), read_label_table(find_label_table(path))
    else:
        raise InputError(
            f"{path} is not a parcellation this reads; give .annot, .label.gii, or .mgz with a "
            f".ctab beside it."
        )
    table.setdefault(0, "unknown")
    table[-1] = "unknown"
    unnamed = sorted(set(np.unique(values).tolist()) - set(table))
    if unnamed:
        raise InputError(
            f"{path} uses the label value {unnamed[0]} ({len(unnamed)} such in all), which its "
            f"table of names does not list."
        )
    _refuse_merged(path, values, table)
    return values, table


def read_parcellation(
    lh_path: str | os.PathLike,
    rh_path: str | os.PathLike,
    num_vertices: tuple[int, int] | None = None,
    parcels: Parcels = "own",
) -> Parcellation:
    """Reads a parcellation from one label file per hemisphere.

    Formats: FreeSurfer .annot, GIFTI .label.gii, and .mgz with a .ctab beside it. Vertices without
    label (-1, or 0 where the table does not name it), the medial wall and names that
    `is_background` knows are left out, and so are labels without a vertex; a Schaefer .annot has
    to hold all of its parcels. The order is the left hemisphere's, then the right's, each by the
    order of its table, and means nothing; see `match_regions`.

    Args:
        lh_path: the left hemisphere's file.
        rh_path: the right hemisphere's file.
        num_vertices: expected vertices of each hemisphere; unchecked when None.
        parcels: "own" for each hemisphere's own file; "released" for the left file's vertex sets
            in both hemispheres, as the released code has them: its right-hemisphere regions are
            then no parcels of the right cortex. The right file is not opened.

    Raises:
        MissingFileError: a file, or the table of a .mgz file, is missing.
        InputError: another number of vertices, two labels of one colour or one name, a label
            without name, a Schaefer file without all its parcels or of the other hemisphere, the
            same vertex sets in both files, a .mgz of both hemispheres, or an unknown format.
    """
    if parcels not in get_args(Parcels):
        raise InputError(f"parcels is {parcels!r}; expected one of {list(get_args(Parcels))}.")
    paths = (
        existing_label_file(lh_path),
        existing_label_file(lh_path if parcels == "released" else rh_path),
    )
    names, hemispheres, vertices, counts = [], [], [], []
    for hemisphere, path in zip(HEMISPHERES, paths, strict=True):
        expected = None if num_vertices is None else num_vertices[HEMISPHERES.index(hemisphere)]
        values, table = _read_labels(path, expected)
        if expected is not None and len(values) != expected:
            mesh = {n: f" ({name})" for name, n in MESHES.items()}
            raise InputError(
                f"{path} labels {len(values)} vertices{mesh.get(len(values), '')}, but the "
                f"{hemisphere} surface has {expected}{mesh.get(expected, '')}; use the "
                f"parcellation of that mesh."
            )
        other = "Networks_RH_" if hemisphere == "lh" else "Networks_LH_"
        if parcels == "own" and any(other in name for name in table.values()):
            raise InputError(
                f"{path} was given for {hemisphere}, but it names parcels of the other hemisphere "
                f"(...{other}...); give the left file first, then the right one."
            )
        for value, name in table.items():
            members = np.flatnonzero(values == value).astype(np.int32)
            if len(members) and not is_background(name):
                names.append(name)
                hemispheres.append(hemisphere)
                vertices.append(members)
        counts.append(len(values))
    found = Parcellation(tuple(names), tuple(hemispheres), tuple(vertices), (counts[0], counts[1]))
    if parcels == "own":
        _refuse_one_hemisphere_twice(found, *paths)
    name = _atlas_name(paths[0])
    return replace(
        found,
        atlas=Atlas(
            name if parcels == "own" else f"{name}, the left's for both hemispheres",
            schaefer.release_of(name, names),
            found.vertex_fingerprint(),
        ),
    )


def _refuse_one_hemisphere_twice(found: Parcellation, lh_path: Path, rh_path: Path) -> None:
    sides = {
        h: {key for side, key in region_keys(found) if side == h} for h in HEMISPHERES
    }  # fmt: skip
    shared = len(sides["lh"] & sides["rh"])
    fewest = min(map(len, sides.values()))
    if shared and 2 * shared >= fewest:
        raise InputError(
            f"{lh_path} and {rh_path} hold the same vertex sets ({shared} of {fewest} regions), so "
            f"one hemisphere's parcels stand for both, as in the released code's files; give each "
            f"hemisphere's own file, or parcels='released' to do as that code did."
        )


def write_annot(
    path: str | os.PathLike, labels: Integer[np.ndarray, " n"], names: Sequence[str]
) -> None:
    """Writes one hemisphere's parcellation as a FreeSurfer .annot file.

    Every label has its own colour, none of them black, and -1 becomes the background label
    that Schaefer's files carry first.

    Args:
        path: the file to write.
        labels: index into `names` per vertex, or -1.
        names: one per label.

    Raises:
        InputError: a label has no name.
    """
    path = Path(path)
    if labels.min() < -1 or labels.max() >= len(names):
        raise InputError(
            f"Cannot write {path}: labels run from {labels.min()} to {labels.max()}, but there are "
            f"{len(names)} names; use -1 for no region."
        )
    colours = [(1, 1, 1)]
    taken = {(1, 1, 1), (0, 0, 0)}
    hue = 0
    while len(colours) <= len(names):
        value = 0.95 - 0.15 * (hue % 3)
        rgb = colorsys.hsv_to_rgb(hue * 0.61803398875 % 1, 0.45 + 0.1 * (hue % 5), value)
        red, green, blue = (round(255 * c) for c in rgb)
        if (red, green, blue) not in taken:
            taken.add((red, green, blue))
            colours.append((red, green, blue))
        hue += 1
    table = np.zeros((len(colours), 5), dtype=np.int64)
    table[:, :3] = colours
    values, all_names = labels.astype(np.int32) + 1, [BACKGROUND_NAME, *names]
    write_file(
        path,
        lambda partial: nib.freesurfer.write_annot(
            partial, values, table, all_names, fill_ctab=True
        ),
    )
