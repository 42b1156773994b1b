"""Features and regions of a BData file: voxels and their ROIs, or the vertices of a surface."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from neuroadapter_jax.cortex.parcellation import BOTH, HEMISPHERES, Parcellation
from neuroadapter_jax.datasets.bdata import BData
from neuroadapter_jax.errors import InputError

_COMPOSITE = frozenset({"VC", "LVC", "HVC"})
_HEMISPHERE = re.compile(r"(?i:(lh|rh)[._])(.+)")


def read_features(
    data: BData, rois: Sequence[str] | None
) -> tuple[Int64[np.ndarray, " n"], tuple[int, int], Parcellation | None]:
    """Columns of the features in order, how many are left and right, and the regions.

    Args:
        data: the file.
        rois: names of the regions without `ROI_` and hemisphere, in the order of the tokens; None
            for all but unions of others.

    Returns:
        The columns [n]; features of the left and the right hemisphere, (n, 0) where the file does
        not tell them apart; the regions, None of a file on a surface.

    Raises:
        InputError: an unknown region, or a file whose columns contradict one another.
    """
    if {"VertexLeft", "VertexRight"} <= set(data.keys):
        if rois is not None:
            raise InputError(
                f"{data.path} lies on a surface, so its regions come from a parcellation; set rois "
                f"to None."
            )
        sides = [_surface_columns(data, key) for key in ("VertexLeft", "VertexRight")]
        return np.concatenate(sides), (len(sides[0]), len(sides[1])), None

    members = _region_columns(data, rois)
    if not any(side == BOTH for side, _ in members):
        nowhere = np.zeros(len(data.columns(data.keys[0])), bool)
        left, right = (
            np.logical_or.reduce([nowhere, *(m for (h, _), m in members.items() if h == side)])
            for side in HEMISPHERES
        )
        if not left.any() or not right.any() or (left & right).any():
            raise InputError(
                f"{data.path} marks {left.sum()} voxels as left, {right.sum()} as right and "
                f"{(left & right).sum()} as both; expected some of each side and none of both."
            )
        columns = np.concatenate([np.flatnonzero(left), np.flatnonzero(right)])
        counts = (int(left.sum()), int(right.sum()))
    else:
        columns = np.flatnonzero(data.columns("VoxelData"))
        counts = (len(columns), 0)
    vertices = []
    for (hemisphere, name), mask in members.items():
        own = columns[counts[0] :] if hemisphere == "rh" else columns[: counts[0]]
        place = np.flatnonzero(mask[own]).astype(np.int32)
        if len(place) != mask.sum():
            raise InputError(
                f"{data.path} has {mask.sum()} columns of region {name!r}, of which {len(place)} "
                f"are VoxelData; download it again."
            )
        vertices.append(place)
    names, hemispheres = [name for _, name in members], [side for side, _ in members]
    return columns, counts, Parcellation(tuple(names), tuple(hemispheres), tuple(vertices), counts)


def _region_columns(
    data: BData, rois: Sequence[str] | None
) -> dict[tuple[str, str], Bool[np.ndarray, " columns"]]:
    """(Hemisphere, name) of each chosen region -> its columns, in the order of the tokens."""
    rows: dict[tuple[str, str], str] = {}
    for key in data.keys:
        if key.startswith("ROI_") and data.columns(key).any():
            bare = key.removeprefix("ROI_")
            match = _HEMISPHERE.fullmatch(bare)
            rows[(match[1].lower(), match[2]) if match else (BOTH, bare)] = key
    order = HEMISPHERES if any(side != BOTH for side, _ in rows) else (BOTH,)
    held = [name for side, name in rows if side in order]
    if rois is None:
        rois = list(dict.fromkeys(name for name in held if name not in _COMPOSITE))
    if (unknown := [name for name in rois if name not in held]) or not rois:
        raise InputError(
            f"{data.path} has no region {', '.join(unknown)}; its regions are "
            f"{', '.join(sorted(set(held))) or 'none'}, so name some of these as rois."
        )
    return {
        (side, name): data.columns(rows[side, name])
        for side in order
        for name in rois
        if (side, name) in rows
    }


def _surface_columns(data: BData, key: str) -> Int64[np.ndarray, " n"]:
    columns = np.flatnonzero(data.columns(key))
    index = data.attribute("vertex_index")[columns]
    if not np.array_equal(np.sort(index), np.arange(len(index))):
        raise InputError(
            f"{data.path} holds {len(index)} vertices as {key!r}, not all of a surface from 0 on; "
            f"a parcellation needs all vertices, so write the file without a mask."
        )
    return columns[np.argsort(index)]
