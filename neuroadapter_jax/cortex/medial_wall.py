"""The medial wall of FreeSurfer's average surfaces, and what a parcellation has there.

The wall is where the average cortex has no thickness, which fsaverage5 as nilearn ships it tells.
The vertices of fsaverage5 are the first of fsaverage6 and of fsaverage, so it is known at those of
their vertices: a sixteenth of fsaverage's.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import scipy.sparse
from jaxtyping import Bool
from scipy.sparse.csgraph import connected_components

from neuroadapter_jax.cortex.parcellation import HEMISPHERES, MESHES, Parcellation
from neuroadapter_jax.errors import InputError

_SAMPLED = MESHES["fsaverage5"]


@functools.cache
def medial_walls() -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Which vertices of fsaverage5's left and right hemisphere lie in the medial wall.

    The largest patch thinner than 0.5 mm, one vertex wider, because its rim is interpolated.
    """
    from nilearn import datasets  # takes a second or two

    mesh = datasets.load_fsaverage("fsaverage5")["sphere"]
    thickness = datasets.load_fsaverage_data(mesh="fsaverage5", data_type="thickness")
    walls = []
    for side in ("left", "right"):
        faces = mesh.parts[side].faces
        n = len(mesh.parts[side].coordinates)
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        adjacency = scipy.sparse.coo_array((np.ones(len(edges)), edges.T), shape=(n, n)).tocsr()
        adjacency += adjacency.T
        thin = np.flatnonzero(thickness.data.parts[side] < 0.5)
        _, patch = connected_components(adjacency[thin][:, thin])
        wall = np.zeros(n)
        wall[thin[patch == np.bincount(patch).argmax()]] = 1
        walls.append((wall > 0) | (adjacency @ wall > 0))
    left, right = walls
    return left, right


def has_known_wall(num_vertices: tuple[int, int]) -> bool:
    """Whether the surface is one whose medial wall is known."""
    return num_vertices[0] == num_vertices[1] and num_vertices[0] in MESHES.values()


def refuse_exchanged(
    labelled: tuple[Bool[np.ndarray, " _"], Bool[np.ndarray, " _"]], *paths: str | Path
) -> None:
    """Refuses label files whose regions fill the medial wall and leave out the other side's.

    The walls of the two hemispheres share no vertex number, so a file that covers the cortex tells
    its hemisphere. Files that cover a part of the cortex tell nothing.

    Args:
        labelled: which vertices of the left and of the right hemisphere have a region.
        paths: the left and the right file.

    Raises:
        InputError: the files are exchanged.
    """
    if not has_known_wall((len(labelled[0]), len(labelled[1]))):
        return
    walls = medial_walls()
    for i, (hemisphere, path) in enumerate(zip(HEMISPHERES, paths, strict=True)):
        own, other = (labelled[i][:_SAMPLED][wall].mean() for wall in (walls[i], walls[1 - i]))
        if own > 0.8 and other < 0.2:
            raise InputError(
                f"{path} was given for {hemisphere}, but its regions cover {own:.0%} of that "
                f"hemisphere's medial wall and {other:.0%} of the other's, so it is the other "
                f"hemisphere's; give the left file first, then the right one."
            )


def warn_of_regions_in_wall(regions: Parcellation, *paths: str | Path) -> None:
    """Warns of each region that lies in the medial wall by more than half of its vertices.

    Where a file names its labels by numbers, nothing else tells that one of them is no cortex.

    Args:
        regions: of the surfaces whose wall is known; others are not looked at.
        paths: the left and the right file.
    """
    if not has_known_wall(regions.num_vertices):
        return
    for name, hemisphere, vertices in zip(
        regions.names, regions.hemispheres, regions.vertices, strict=True
    ):
        if hemisphere not in HEMISPHERES:
            continue
        side = HEMISPHERES.index(hemisphere)
        wall = medial_walls()[side]
        inside = wall[vertices[vertices < _SAMPLED]]
        if len(inside) and inside.mean() > 0.5:
            warnings.warn(
                f"{paths[side]}: the region {name!r} ({hemisphere}, {len(vertices)} vertices) lies "
                f"in the medial wall by about {inside.mean():.0%} of its vertices and makes up "
                f"about {inside.sum() / wall.sum():.0%} of the wall; if it is no cortex, give its "
                f"vertices the label 0, or its label the name Medial_wall.",
                stacklevel=3,
            )
