"""Parcellations from label files of both hemispheres, and label files written."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
from jaxtyping import Integer

from neuroadapter_jax.cortex import schaefer
from neuroadapter_jax.cortex.label_formats import LabelFile, read_label_file
from neuroadapter_jax.cortex.label_names import (
    hemisphere_of_file,
    hemisphere_of_regions,
)
from neuroadapter_jax.cortex.medial_wall import refuse_exchanged, warn_of_regions_in_wall
from neuroadapter_jax.cortex.parcellation import (
    HEMISPHERES,
    MESHES,
    Atlas,
    Parcellation,
    Parcels,
    region_keys,
)
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import write_file

BACKGROUND_NAME = "Background+FreeSurfer_Defined_Medial_Wall"
# The simulated subject's label files: what they are called, and what version 0.1.0 called them.
_FORMER_NAMES = (("Simulated", "Embedded"), ("simulated-vtc", "embedded-vtc"))


def existing_label_file(path: str | os.PathLike) -> Path:
    """The file itself or, where only that exists, the one of its name in version 0.1.0."""
    path = Path(path)
    for name, former in _FORMER_NAMES:
        place = path.with_name(path.name.replace(name, former))
        if place.exists() and not path.exists():
            return place
    return path


def _refuse_merged(file: LabelFile) -> None:
    """Refuses a name given to two labels, and a Schaefer file without all of its parcels."""
    path, names = file.path, list(file.regions().values())
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"{path} gives {len(twice)} name(s) to more than one label, such as {twice[0]!r}; "
            f"write it again with one name per label."
        )
    expected = schaefer.promised_parcels(path.name)
    if expected is not None and len(names) != expected:
        raise InputError(
            f"{path} labels {len(names)} parcels, but its name promises {expected} in a "
            f"hemisphere: labels are missing or were merged, as resampling does; "
            f"{schaefer.where_to_find(path)}."
        )


def _refuse_other_hemisphere(file: LabelFile, hemisphere: str) -> None:
    """Refuses a file of the other hemisphere: its regions' names tell, else its own.

    Only labels in use count: tables often list both hemispheres' names.
    """
    names = list(file.regions().values())
    told = hemisphere_of_regions(names)
    if told == hemisphere:
        return
    if told is not None:
        evidence = f"it names parcels of the other hemisphere, such as {names[0]!r}"
    elif file.structure not in (None, hemisphere):
        evidence = "it says that it is the cortex of the other hemisphere"
    elif file.structure is None and hemisphere_of_file(file.path.name) not in (None, hemisphere):
        evidence = "its name tells the other hemisphere"
    else:
        return
    raise InputError(
        f"{file.path} was given for {hemisphere}, but {evidence}; give the left file first, then "
        f"the right one."
    )


def _atlas_name(path: Path) -> str:
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    for suffix in (".label.annot", ".annot", ".label.gii", ".gii", ".mgz", ".mgh"):
        bare = bare.removesuffix(suffix)
    return bare.replace("_hemi-L", "").replace("_hemi-R", "")


def _require(path: Path, num_vertices: int | None) -> None:
    if path.exists():
        return
    advice = ""
    if schaefer.is_schaefer(path.name):
        advice = f" Name its folder, or {schaefer.where_to_find(path, num_vertices)}."
    raise MissingFileError(f"The parcellation file {path} does not exist.{advice}")


def read_parcellation(
    lh_path: str | os.PathLike,
    rh_path: str | os.PathLike,
    num_vertices: tuple[int, int] | None = None,
    parcels: Parcels = "own",
) -> Parcellation:
    """Reads a parcellation from one label file per hemisphere.

    Formats: FreeSurfer .annot, GIFTI .label.gii, and .mgz with a .ctab beside it or one of
    `label_tables.KNOWN_ATLASES`. Vertices without label (-1, NaN, 2147483647, or 0 where the table
    does not name it), the medial wall and names that `is_background` knows are left out, and so are
    labels without a vertex; a Schaefer file has to hold all of its parcels. The order is the left
    hemisphere's, then the right's, each by the order of its table, and means nothing; see
    `match_regions`.

    A region that lies in the medial wall of an average surface is kept, with a warning.

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

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from neuroadapter_jax import read_parcellation
        >>> from neuroadapter_jax.cortex import write_annot
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_annot(folder / "lh.mine.annot", np.array([0, 0, 1, -1]), ["V1", "V2"])
        >>> write_annot(folder / "rh.mine.annot", np.array([1, -1, 1, 0]), ["V1", "V2"])
        >>> regions = read_parcellation(folder / "lh.mine.annot", folder / "rh.mine.annot")
        >>> list(zip(regions.hemispheres, regions.names))
        [('lh', 'V1'), ('lh', 'V2'), ('rh', 'V1'), ('rh', 'V2')]
        >>> [vertices.tolist() for vertices in regions.vertices]
        [[0, 1], [2], [3], [0, 2]]
    """
    if parcels not in get_args(Parcels):
        raise InputError(f"parcels is {parcels!r}; expected one of {list(get_args(Parcels))}.")
    paths = (
        existing_label_file(lh_path),
        existing_label_file(lh_path if parcels == "released" else rh_path),
    )
    names, hemispheres, vertices, labelled = [], [], [], []
    for i, (hemisphere, path) in enumerate(zip(HEMISPHERES, paths, strict=True)):
        expected = None if num_vertices is None else num_vertices[i]
        _require(path, expected)
        file = read_label_file(path)
        if expected is not None and len(file.labels) != expected:
            mesh = {n: f" ({name})" for name, n in MESHES.items()}
            found = len(file.labels)
            raise InputError(
                f"{path} labels {found} vertices{mesh.get(found, '')}, but the "
                f"{hemisphere} surface has {expected}{mesh.get(expected, '')}; use the "
                f"parcellation of that mesh."
            )
        _refuse_merged(file)
        if parcels == "own" or hemisphere == "lh":
            _refuse_other_hemisphere(file, hemisphere)
        for value, name in file.regions().items():
            names.append(name)
            hemispheres.append(hemisphere)
            vertices.append(np.flatnonzero(file.labels == value).astype(np.int32))
        labelled.append(np.isin(file.labels, list(file.regions())))
    counts = (len(labelled[0]), len(labelled[1]))
    parcellation = Parcellation(tuple(names), tuple(hemispheres), tuple(vertices), counts)
    if parcels == "own":
        refuse_exchanged((labelled[0], labelled[1]), *paths)
        _refuse_one_hemisphere_twice(parcellation, *paths)
        warn_of_regions_in_wall(parcellation, *paths)
    name = _atlas_name(paths[0])
    return replace(
        parcellation,
        atlas=Atlas(
            name if parcels == "own" else f"{name}, the left's for both hemispheres",
            schaefer.release_of(name, names),
            parcellation.vertex_fingerprint(),
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
        path: the file to write, such as `lh.mine.annot`.
        labels: index into `names` per vertex of the hemisphere, or -1 for no region.
        names: one per label.

    Raises:
        InputError: a label has no name.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import nibabel
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import write_annot
        >>> path = Path(tempfile.mkdtemp()) / "lh.mine.annot"
        >>> write_annot(path, np.array([0, 0, 1, -1]), ["V1", "V2"])
        >>> [name.decode() for name in nibabel.freesurfer.read_annot(path)[2]]
        ['Background+FreeSurfer_Defined_Medial_Wall', 'V1', 'V2']
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
