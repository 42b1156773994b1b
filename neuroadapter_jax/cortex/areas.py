"""Functional areas of a subject, brought from the native surface to fsaverage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from neuroadapter_jax.cortex.parcellation import (
    HEMISPHERES,
    find_label_table,
    is_background,
    read_label_table,
    read_surface_values,
)

NSD_ATLASES = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words")
AREA_GROUPS = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "V4": ("hV4",),
    "Face": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "Body": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "Scene": ("OPA", "PPA", "RSC"),
    "Word": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
}


def native_to_fsaverage(
    values: Integer[np.ndarray, " m"], transform: Integer[np.ndarray, " n"], source: str
) -> Integer[np.ndarray, " n"]:
    """Nearest-neighbour transfer: out[i] = values[transform[i] - 1] (NSD's indices are 1-based).

    Raises:
        ValueError: the transform points outside the native surface.
    """
    if transform.min() < 1 or transform.max() > len(values):
        raise ValueError(
            f"{source} has {len(values)} native vertices, but the transform to fsaverage uses "
            f"vertices {transform.min()} to {transform.max()} (1-based); use the label file and "
            f"the transform of the same subject and hemisphere."
        )
    return values[transform.astype(np.int64) - 1]


def read_areas(
    label_dir: str | os.PathLike,
    transform_dir: str | os.PathLike,
    atlases: Sequence[str] = NSD_ATLASES,
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Reads the areas of native label files as masks over both hemispheres of fsaverage.

    Files: label_dir/{lh,rh}.ATLAS.mgz with ATLAS.mgz.ctab, and
    transform_dir/{lh,rh}.white-to-fsaverage.mgz.

    Args:
        label_dir: a subject's native FreeSurfer label folder.
        transform_dir: that subject's transforms folder.
        atlases: names of label files; the five that NSD drew by hand by default.

    Returns:
        Name of area -> mask over the left, then the right hemisphere. An area that a subject
        lacks has an empty mask.

    Raises:
        FileNotFoundError: a label file, table or transform is missing.
        ValueError: label file and transform do not fit.
    """
    label_dir, transform_dir = Path(label_dir), Path(transform_dir)
    transforms = [
        read_surface_values(transform_dir / f"{h}.white-to-fsaverage.mgz").astype(np.int64)
        for h in HEMISPHERES
    ]
    areas = {}
    for atlas in atlases:
        halves, table = [], {}
        for hemisphere, transform in zip(HEMISPHERES, transforms, strict=True):
            path = label_dir / f"{hemisphere}.{atlas}.mgz"
            values = np.rint(read_surface_values(path)).astype(np.int64)
            table |= read_label_table(find_label_table(path))
            halves.append(native_to_fsaverage(values, transform, str(path)))
        labels = np.concatenate(halves)
        areas |= {name: labels == v for v, name in table.items() if not is_background(name)}
    return areas


def group_areas(
    areas: Mapping[str, Bool[np.ndarray, " n"]],
    groups: Mapping[str, Sequence[str]] = AREA_GROUPS,
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Joins areas into groups (the paper's, by default); areas a subject lacks are left out.

    An area that belongs to no group stays by itself, after the groups.
    """
    grouped = {m for members in groups.values() for m in members}
    return {
        group: np.logical_or.reduce([areas[m] for m in members if m in areas])
        for group, members in groups.items()
        if any(m in areas for m in members)
    } | {name: mask for name, mask in areas.items() if name not in grouped}
