"""Meshes of a hemisphere: read from files, and thinned to what a page can show."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from neuroadapter_jax.cortex.surface_files import read_geometry, read_gifti, read_sulcal_depth
from neuroadapter_jax.errors import InputError, reading

_EXPECTED = "a mesh of one hemisphere (FreeSurfer's lh.inflated and its like, or .surf.gii)"
# Square of the first distance tried between vertices, over the area per vertex; it grows until
# they are few enough.
_FIRST_TRIED = 0.45


@dataclass(frozen=True)
class Mesh:
    """Vertices and the triangles between them.

    Attributes:
        points: x to the right, y to the front and z up, in mm.
        faces: the corners of each triangle.
    """

    points: Float[np.ndarray, "n 3"]
    faces: Int[np.ndarray, "k 3"]

    def __len__(self) -> int:
        return len(self.points)


def read_mesh(path: str | os.PathLike) -> Mesh:
    """One hemisphere's mesh from a GIFTI file (.surf.gii) or a FreeSurfer file (lh.inflated).

    Args:
        path: of the file.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is damaged or no mesh.
    """
    if os.fspath(path).endswith((".gii", ".gii.gz")):
        image = read_gifti(path)
        with reading(path, _EXPECTED):
            kinds = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")
            found = [image.get_arrays_from_intent(kind) for kind in kinds]
            if [len(arrays) for arrays in found] != [1, 1]:
                raise ValueError("it does not hold one set of points and one of triangles")
            points, faces = (np.asarray(arrays[0].data) for arrays in found)
    else:
        points, faces = read_geometry(path)
    with reading(path, _EXPECTED):
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError("its points are not three finite numbers each")
        whole = faces.ndim == 2 and faces.shape[1] == 3 and faces.dtype.kind in "iu" and faces.size
        if not whole or faces.min() < 0 or faces.max() >= len(points):
            raise ValueError(f"its triangles are not three of its {len(points)} vertices each")
    return Mesh(points.astype(np.float64), faces.astype(np.int64))


def sulcal_depth_beside(path: str | os.PathLike, count: int) -> Float[np.ndarray, " n"] | None:
    """The depth of the sulci that FreeSurfer writes beside a mesh, lh.sulc beside lh.inflated.

    Args:
        path: of the mesh.
        count: its vertices.

    Returns:
        -1 for gyri to 1 for sulci; None where there is no such file.

    Raises:
        InputError: the file is damaged or of another number of vertices.
    """
    side = Path(path).name.split(".")[0]
    place = Path(path).with_name(f"{side}.sulc")
    if side not in ("lh", "rh") or not place.is_file():
        return None
    depth = read_sulcal_depth(place)
    if depth.shape != (count,):
        raise InputError(
            f"{place} has {depth.size} vertices, {path} beside it {count}; expected the same "
            "subject's, so copy one of them again."
        )
    # In mm or cm, depending on the version of FreeSurfer.
    return np.clip(depth / max(np.percentile(np.abs(depth), 95), 1e-6), -1, 1)


def thinned(mesh: Mesh, most: int) -> tuple[Mesh, Int[np.ndarray, " m"]]:
    """A mesh of at most so many of the vertices, evenly spread, at their own places.

    Vertices are taken in random order unless one already taken is nearer than a distance r. Each
    other vertex then belongs to the one taken that is nearest along the edges, and a triangle whose
    corners belong to three different ones becomes a triangle between these.

    Args:
        mesh: of one hemisphere.
        most: vertices; a mesh that has no more stays as it is.

    Returns:
        The mesh, and which vertices its own are.
    """
    if len(mesh) <= most:
        return mesh, np.arange(len(mesh))
    corners = mesh.points[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=1).sum() / 2
    radius = np.sqrt(_FIRST_TRIED * area / most)
    order = np.random.default_rng(0).permutation(len(mesh))
    taken = _apart(mesh.points, order, radius)
    while len(taken) > most:
        radius *= 1.03
        taken = _apart(mesh.points, order, radius)
    ends = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    ends = np.unique(np.sort(ends, axis=1), axis=0)
    lengths = np.linalg.norm(mesh.points[ends[:, 0]] - mesh.points[ends[:, 1]], axis=1)
    edges = scipy.sparse.csr_array(
        (np.maximum(lengths, 1e-9), ends.T), shape=(len(mesh), len(mesh))
    )
    _, _, nearest = dijkstra(
        edges, directed=False, indices=taken, min_only=True, return_predecessors=True
    )
    # A vertex in a part of the mesh that none was taken of belongs to none.
    place = np.full(len(mesh), -1)
    place[taken] = np.arange(len(taken))
    cells = np.where(nearest >= 0, place[np.maximum(nearest, 0)], -1)[mesh.faces]
    a, b, c = cells.T
    cells = cells[(a != b) & (b != c) & (c != a) & (cells.min(axis=1) >= 0)]
    _, first = np.unique(np.sort(cells, axis=1), axis=0, return_index=True)
    return Mesh(mesh.points[taken], cells[np.sort(first)]), taken


def _apart(
    points: Float[np.ndarray, "n 3"], order: Int[np.ndarray, " n"], radius: float
) -> Int[np.ndarray, " m"]:
    """Points in an order, without those nearer than the radius to an earlier one; sorted."""
    tree, free, taken = cKDTree(points), np.ones(len(points), bool), []
    for i in order:
        if free[i]:
            taken.append(i)
            free[tree.query_ball_point(points[i], radius)] = False
    return np.sort(taken)
