"""Where the ROIs of a simulated subject lie on fsaverage5.

They lie at the literature's places (approximate MNI coordinates, mirrored for the right hemisphere)
and are grown on the sphere as discs that share no vertex; V1, V2 and V3 are a disc and two rings
around it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.cortex.medial_wall import medial_walls
from neuroadapter_jax.errors import InputError


@dataclass(frozen=True)
class _ROI:
    size: int
    mni: tuple[float, float, float]  # left hemisphere, mm
    category: str | None = None


# One disc of early visual cortex is divided into V1, V2 and V3.
_EARLY_SIZES = {"V1": 250, "V2": 200, "V3": 150}
_DISCS = {
    "early": _ROI(sum(_EARLY_SIZES.values()), (-7, -84, 5)),
    "hV4": _ROI(75, (-28, -80, -14)),
    "OFA": _ROI(40, (-38, -80, -12), "face"),
    "FFA-1": _ROI(55, (-40, -50, -20), "face"),
    "EBA": _ROI(60, (-47, -74, 5), "body"),
    "FBA-1": _ROI(40, (-42, -38, -24), "body"),
    "OPA": _ROI(45, (-32, -84, 22)),
    "PPA": _ROI(60, (-26, -46, -9)),
    "RSC": _ROI(45, (-14, -56, 10)),
    "VWFA-1": _ROI(50, (-48, -58, -15), "word"),
    "LO": _ROI(60, (-42, -82, -2), "object"),
    "VTC-food": _ROI(45, (-30, -54, -14), "food"),
    "VTC-animal": _ROI(45, (-37, -64, -16), "animal"),
}
CATEGORY_ROIS = {name: disc.category for name, disc in _DISCS.items() if disc.category is not None}
ROIS = (
    *(f"{early}{half}" for early in _EARLY_SIZES for half in "vd"),
    *(name for name in _DISCS if name != "early"),
)


@dataclass(frozen=True)
class Hemisphere:
    """One hemisphere of fsaverage5.

    Attributes:
        sphere: unit vectors [n, 3].
        white: coordinates of the white surface in mm [n, 3].
        neighbours: row-normalised adjacency of the mesh [n, n], each vertex its own neighbour.
        medial_wall: bool [n], from the mesh: where FreeSurfer found no cortical thickness.
    """

    sphere: Float[np.ndarray, "n 3"]
    white: Float[np.ndarray, "n 3"]
    neighbours: scipy.sparse.csr_array
    medial_wall: Bool[np.ndarray, " n"]


@functools.cache
def load_hemispheres() -> tuple[Hemisphere, Hemisphere]:
    """Left and right hemisphere of fsaverage5, as nilearn ships it."""
    from nilearn import datasets

    meshes = datasets.load_fsaverage("fsaverage5")
    result = []
    for side, wall in zip(("left", "right"), medial_walls(), strict=True):
        sphere = meshes["sphere"].parts[side]
        n = len(sphere.coordinates)
        edges = np.concatenate([sphere.faces[:, [0, 1]], sphere.faces[:, [1, 2]]])
        edges = np.concatenate([edges, edges[:, ::-1], np.arange(n)[:, None].repeat(2, axis=1)])
        adjacency = scipy.sparse.coo_array((np.ones(len(edges)), edges.T), shape=(n, n)).tocsr()
        adjacency.data[:] = 1
        neighbours = scipy.sparse.csr_array(
            adjacency.multiply(1 / adjacency.sum(axis=1)[:, None]), dtype=np.float32
        )
        result.append(
            Hemisphere(
                sphere=sphere.coordinates
                / np.linalg.norm(sphere.coordinates, axis=1, keepdims=True),
                white=meshes["white_matter"].parts[side].coordinates,
                neighbours=neighbours,
                medial_wall=wall,
            )
        )
    left, right = result
    return left, right


def grow_discs(
    sphere: Float[np.ndarray, "n 3"],
    centres: Float[np.ndarray, "k 3"],
    sizes: Int[np.ndarray, " k"],
    allowed: Bool[np.ndarray, " n"],
) -> Int[np.ndarray, " n"]:
    """Grows discs of given sizes around centres on the unit sphere, without overlap.

    Vertices are handed out in the order of distance over disc radius, each disc taking its size;
    crowded discs then give way, most of the way to their centroids, and again.

    Args:
        sphere: unit vectors of the vertices.
        centres: unit vectors of the wished centres.
        sizes: vertices of each disc.
        allowed: which vertices may be taken.

    Returns:
        Index of the disc per vertex; -1 where none.

    Raises:
        InputError: the discs do not fit.
    """
    wished = centres
    radii = np.arccos(1 - 2 * sizes / len(sphere))
    for _ in range(30):
        reach = np.arccos(np.clip(sphere @ centres.T, -1, 1)) / radii
        vertices, discs = np.nonzero((reach < 3) & allowed[:, None])
        owner = np.full(len(sphere), -1)
        left = sizes.copy()
        for pair in np.argsort(reach[vertices, discs], kind="stable"):
            v, k = vertices[pair], discs[pair]
            if owner[v] < 0 and left[k]:
                owner[v] = k
                left[k] -= 1
        if left.any():
            raise InputError(
                f"The discs find no room: {left.tolist()} vertices of sizes {sizes.tolist()} are "
                f"left over; take smaller discs or centres further apart."
            )
        centroids = np.stack([sphere[owner == k].mean(axis=0) for k in range(len(sizes))])
        moved = 0.3 * wished + 0.7 * centroids
        centres = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return owner


def _anatomical_axes(hemisphere: Hemisphere, members: np.ndarray) -> np.ndarray:
    """Anterior and dorsal coordinate of each vertex in the tangent plane at the members' centre."""
    centre = hemisphere.sphere[members].mean(axis=0)
    centre /= np.linalg.norm(centre)
    basis = np.linalg.svd(centre[None])[2][1:]
    plane = (hemisphere.sphere - centre) @ basis.T
    white = hemisphere.white[members] - hemisphere.white[members].mean(axis=0)
    slope = np.linalg.lstsq(plane[members] - plane[members].mean(axis=0), white, rcond=None)[0]
    anterior = slope[:, 1] / np.linalg.norm(slope[:, 1])
    dorsal = np.array([-anterior[1], anterior[0]])
    dorsal *= np.sign(dorsal @ slope[:, 2])
    return plane @ np.stack([anterior, dorsal], axis=1)


def _even_positions(across: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ranks in (0, 1) by `across`, and by `along` within bands of equal `across`.

    So the pairs fill the unit square evenly, whatever the shape of the ROI.
    """
    order = np.argsort(across, kind="stable")
    first, second = np.empty(len(order)), np.empty(len(order))
    first[order] = (np.arange(len(order)) + 0.5) / len(order)
    for band in np.array_split(order, max(1, round(np.sqrt(len(order) / 2)))):
        second[band[np.argsort(along[band], kind="stable")]] = (np.arange(len(band)) + 0.5) / len(
            band
        )
    return first, second


def place_hemisphere(
    hemisphere: Hemisphere, right: bool
) -> tuple[np.ndarray, Float[np.ndarray, "n 2"]]:
    """ROI name [n] and, for the retinotopic ROIs, eccentric and vertical position [n, 2].

    Positions are fractions: 0 the vertical midline to 1 the side of the image; 0 top to 1 bottom.

    Args:
        hemisphere: its mesh.
        right: whether it is the right one.
    """
    mirror = np.array([-1 if right else 1, 1, 1])
    seeds = [
        np.linalg.norm(hemisphere.white - mirror * disc.mni, axis=1).argmin()
        for disc in _DISCS.values()
    ]
    owner = grow_discs(
        hemisphere.sphere,
        hemisphere.sphere[seeds],
        np.array([disc.size for disc in _DISCS.values()]),
        ~hemisphere.medial_wall,
    )
    roi = np.full(len(owner), "", dtype=f"<U{max(map(len, ROIS))}")
    position = np.full((len(owner), 2), np.nan)
    for k, name in enumerate(_DISCS):
        roi[owner == k] = name

    early = np.flatnonzero(roi == "early")
    axes = _anatomical_axes(hemisphere, early)
    radius = np.linalg.norm(axes[early], axis=1)
    rings = np.split(early[np.argsort(radius)], np.cumsum(list(_EARLY_SIZES.values()))[:-1])
    for (name, _), ring in zip(_EARLY_SIZES.items(), rings, strict=True):
        for half, members in (("v", ring[axes[ring, 1] < 0]), ("d", ring[axes[ring, 1] >= 0])):
            from_inside = (
                np.abs(axes[members, 1]) if name == "V1" else np.linalg.norm(axes[members], axis=1)
            )
            # Distance from the horizontal meridian: it is V1's middle and the border of V2 and V3.
            meridian = -from_inside if name == "V2" else from_inside
            polar, eccentric = _even_positions(meridian, axes[members, 0])
            roi[members] = f"{name}{half}"
            position[members, 0] = eccentric
            position[members, 1] = 0.5 + (-0.5 if half == "v" else 0.5) * polar
    members = np.flatnonzero(roi == "hV4")
    axes = _anatomical_axes(hemisphere, members)
    position[members, 1], position[members, 0] = _even_positions(*axes[members].T[::-1])
    return roi, position
