"""Functional regions of interest (ROIs), brought from the native surface to fsaverage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped

from neuroadapter_jax.cortex.label_files import existing_label_file
from neuroadapter_jax.cortex.label_formats import read_label_file, read_surface_values
from neuroadapter_jax.cortex.label_names import is_background
from neuroadapter_jax.cortex.map_rois import MapROI
from neuroadapter_jax.cortex.medial_wall import refuse_exchanged
from neuroadapter_jax.cortex.parcellation import HEMISPHERES, MESHES
from neuroadapter_jax.errors import InputError, MissingFileError

NSD_ATLASES = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words")
ROI_GROUPS = {
    "V1": ("V1v", "V1d"),
    "V2": ("V2v", "V2d"),
    "V3": ("V3v", "V3d"),
    "V4": ("hV4",),
    "Face": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "Body": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "Scene": ("OPA", "PPA", "RSC"),
    "Word": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
}
# Groups whose regions the paper counts as low-level and as high-level.
ROI_LEVELS = {
    "low-level": ("V1", "V2", "V3", "V4"),
    "high-level": ("Face", "Body", "Scene", "Word"),
}
# Without the reverse transform, how far beyond the last vertex in use a native surface may go.
_SLACK = 0.001


def native_to_fsaverage(
    values: Shaped[np.ndarray, " m"], transform: Integer[np.ndarray, " n"], source: str
) -> Shaped[np.ndarray, " n"]:
    """Nearest-neighbour transfer: out[i] = values[transform[i] - 1] (NSD's indices are 1-based).

    Args:
        values: one per native vertex of a hemisphere.
        transform: for each vertex of fsaverage its native vertex, counted from 1.
        source: what the values were read from, for the message.

    Raises:
        InputError: the transform points outside the native surface.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex.roi import native_to_fsaverage
        >>> native_to_fsaverage(np.array([10, 20, 30]), np.array([3, 1, 1, 2]), "a map").tolist()
        [30, 10, 10, 20]
    """
    if transform.min() < 1 or transform.max() > len(values):
        raise InputError(
            f"{source} has {len(values)} native vertices, but the transform to fsaverage uses "
            f"vertices {transform.min()} to {transform.max()} (1-based); use the label file and "
            f"the transform of the same subject and hemisphere."
        )
    return values[transform.astype(np.int64) - 1]


def read_rois(
    label_dir: str | os.PathLike,
    transform_dir: str | os.PathLike | None = None,
    atlases: Sequence[str] = NSD_ATLASES,
    maps: Sequence[MapROI] = (),
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Reads the ROIs of label files as masks over both hemispheres of fsaverage.

    Files: label_dir/{lh,rh}.ATLAS.mgz with ATLAS.mgz.ctab, which one of
    `label_tables.KNOWN_ATLASES` does not need; for native labels also
    transform_dir/{lh,rh}.white-to-fsaverage.mgz and, where it is there, the reverse,
    {lh,rh}.fsaverage-to-white.mgz, whose length is the number of native vertices. With it a label
    file of the other hemisphere, or of both stacked, is always found out; without it where the
    numbers differ by more than a thousandth. On fsaverage itself both hemispheres have equally many
    vertices, so exchanged files are found out only where they label all of the cortex but its
    medial wall.

    Args:
        label_dir: a subject's native FreeSurfer label folder, or fsaverage's.
        transform_dir: that subject's transforms folder; None for labels that are on fsaverage.
        atlases: names of label files; by default the five that NSD's authors outlined by hand,
            which are on native surfaces only.
        maps: ROIs of maps of measurements in the same folder.

    Returns:
        Name of ROI -> mask over the left, then the right hemisphere. An ROI that a subject lacks
        has an empty mask.

    Raises:
        MissingFileError: a label file, table or transform is missing.
        InputError: an atlas that is named twice, label file and transform that do not fit, a label
            without a name, an ROI that two atlases name, or the other hemisphere's labels.
    """
    label_dir = Path(label_dir)
    if twice := sorted({name for name in atlases if list(atlases).count(name) > 1}):
        raise InputError(
            f"{twice[0]} is among the atlases twice: {', '.join(atlases)}; name each once, and "
            "those that are read anyway not at all."
        )
    to_fsaverage = _Transforms(None if transform_dir is None else Path(transform_dir))
    rois: dict[str, Bool[np.ndarray, " n"]] = {}
    origin: dict[str, str] = {}

    def add(source: str, found: dict[str, Bool[np.ndarray, " n"]]) -> None:
        if twice := sorted(found.keys() & rois.keys()):
            raise InputError(
                f"{twice[0]!r} is an ROI of {origin[twice[0]]} and of {source} "
                f"({len(twice)} such in all), and they are not the same; read one of the two."
            )
        rois.update(found)
        origin.update(dict.fromkeys(found, source))

    for atlas in atlases:
        paths = [existing_label_file(label_dir / f"{h}.{atlas}.mgz") for h in HEMISPHERES]
        left, right = (
            _named_masks(path, hemisphere, to_fsaverage)
            for path, hemisphere in zip(paths, HEMISPHERES, strict=True)
        )
        if transform_dir is None:
            refuse_exchanged((left.labelled, right.labelled), *paths)
        names = {**left.masks, **right.masks}
        add(atlas, {name: np.concatenate([left.of(name), right.of(name)]) for name in names})
    for one in maps:
        halves = [
            to_fsaverage(read_surface_values(path), h, str(path))
            for h in HEMISPHERES
            for path in [label_dir / f"{h}.{one.file}.mgz"]
        ]
        add(f"the map {one.file}", {one.name: np.concatenate([one.mask(v) for v in halves])})
    return rois


@dataclass(frozen=True)
class _Half:
    """The ROIs of one hemisphere's file, and which of its vertices have a label."""

    masks: dict[str, Bool[np.ndarray, " n"]]
    labelled: Bool[np.ndarray, " n"]

    def of(self, name: str) -> Bool[np.ndarray, " n"]:
        """The ROI's mask; empty where only the other hemisphere's table names it."""
        return self.masks.get(name, np.zeros_like(self.labelled))


def _named_masks(path: Path, hemisphere: str, to_fsaverage: _Transforms) -> _Half:
    if not path.exists():
        raise MissingFileError(f"The surface file {path} does not exist; check its folder.")
    file = read_label_file(path)
    labels = to_fsaverage(file.labels, hemisphere, str(path))
    names = dict.fromkeys(name for name in file.names.values() if not is_background(name))
    masks = {n: np.isin(labels, [v for v, name in file.names.items() if name == n]) for n in names}
    return _Half(masks, np.isin(labels, list(file.regions())))


class _Transforms:
    """Values of a hemisphere brought to fsaverage, or checked to be on it already."""

    def __init__(self, folder: Path | None):
        self._maps: dict[str, Integer[np.ndarray, " n"]] = {}
        self._counts: dict[str, int] = {}
        if folder is None:
            return
        for hemisphere in HEMISPHERES:
            path = folder / f"{hemisphere}.white-to-fsaverage.mgz"
            self._maps[hemisphere] = read_surface_values(path).astype(np.int64)
            reverse = folder / f"{hemisphere}.fsaverage-to-white.mgz"
            if reverse.exists():
                self._counts[hemisphere] = len(read_surface_values(reverse))

    def __call__(
        self, values: Shaped[np.ndarray, " m"], hemisphere: str, source: str
    ) -> Shaped[np.ndarray, " n"]:
        if not self._maps:
            _refuse_stacked(source, len(values))
            return values
        transform = self._maps[hemisphere]
        if hemisphere in self._counts:
            self._refuse_other_surface(source, len(values), hemisphere)
            return native_to_fsaverage(values, transform, source)
        result, last = native_to_fsaverage(values, transform, source), transform.max()
        if len(values) - last > _SLACK * last:
            raise InputError(
                f"{source} has {len(values)} values, but the transform to fsaverage uses native "
                f"vertices up to {last} only, so the values may be those of the other hemisphere, "
                f"or of both stacked; use the hemisphere's own file, and put "
                f"{hemisphere}.fsaverage-to-white.mgz beside the transform: its length is the "
                f"number of native vertices."
            )
        return result

    def _refuse_other_surface(self, source: str, found: int, hemisphere: str) -> None:
        expected = self._counts[hemisphere]
        if found == expected:
            return
        other = sum(self._counts.values()) - expected
        known = {
            expected + other: "that of both hemispheres stacked",
            other: "that of the other hemisphere",
        }
        raise InputError(
            f"{source} has {found} values, but the native {hemisphere} surface has {expected} "
            f"vertices; {found} is {known.get(found, 'of another subject or surface')}. Use the "
            f"label file of the same subject and hemisphere."
        )


def _refuse_stacked(source: str, found: int) -> None:
    if mesh := {2 * n: mesh for mesh, n in MESHES.items()}.get(found):
        raise InputError(
            f"{source} has {found} values, those of both hemispheres of {mesh} stacked; write "
            f"each hemisphere to its own file."
        )


def group_rois(
    rois: Mapping[str, Bool[np.ndarray, " n"]],
    groups: Mapping[str, Sequence[str]] = ROI_GROUPS,
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Unites ROIs into groups (the paper's, by default); ROIs that a subject lacks are left out.

    An ROI that belongs to no group stays by itself, after the groups. The default groups are V1,
    V2, V3, V4, Face, Body, Scene and Word (NeuroAdapter, arXiv 2509.23566, appendix P).

    Args:
        rois: name -> mask over the left, then the right hemisphere's vertices.
        groups: name of the group -> the ROIs that it unites.

    Raises:
        InputError: an ROI has the name of a group that others make.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import group_rois
        >>> rois = {
        ...     "V1v": np.array([True, False, False]),
        ...     "V1d": np.array([False, True, False]),
        ...     "LO": np.array([False, False, True]),
        ... }
        >>> {name: mask.tolist() for name, mask in group_rois(rois).items()}
        {'V1': [True, True, False], 'LO': [False, False, True]}
    """
    grouped = {m for members in groups.values() for m in members}
    united = {
        group: np.logical_or.reduce([rois[m] for m in members if m in rois])
        for group, members in groups.items()
        if any(m in rois for m in members)
    }
    alone = {name: mask for name, mask in rois.items() if name not in grouped}
    if twice := sorted(united.keys() & alone.keys()):
        made_of = ", ".join(m for m in groups[twice[0]] if m in rois)
        raise InputError(
            f"{twice[0]!r} is an ROI by itself and the group of {made_of} ({len(twice)} such in "
            f"all), and they are not the same; read one of the two atlases."
        )
    return united | alone
