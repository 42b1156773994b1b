"""Parcellations made from nothing but a mesh: compact regions of about equal area."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy.spatial import cKDTree

from neuroadapter_jax.errors import InputError


def parcellate_sphere(
    coords: Float[np.ndarray, "n 3"],
    num_regions: int,
    mask: Bool[np.ndarray, " n"] | None = None,
    seed: int = 0,
) -> Int32[np.ndarray, " n"]:
    """Cuts one hemisphere into compact regions of about equal area.

    Farthest-point seeds, then Lloyd's k-means on the unit sphere: on a sphere of even vertex
    density, as FreeSurfer's, the cells are about equally large.

    Args:
        coords: vertex coordinates on a sphere centred at the origin, any radius.
        num_regions: how many regions.
        mask: True where a vertex may belong to a region (False on the medial wall); all when None.
        seed: chooses the first seed vertex.

    Returns:
        The region of each vertex, 0 to num_regions - 1, and -1 outside the mask.

    Raises:
        InputError: fewer vertices than regions.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import parcellate_sphere
        >>> coords = np.random.default_rng(0).normal(size=(200, 3))
        >>> labels = parcellate_sphere(coords, num_regions=4, mask=coords[:, 0] > -1.0)
        >>> np.unique(labels).tolist()  # -1 is outside the mask
        [-1, 0, 1, 2, 3]
    """
    keep = np.arange(len(coords)) if mask is None else np.flatnonzero(mask)
    if not 1 <= num_regions <= len(keep):
        raise InputError(
            f"Cannot cut {len(keep)} vertices into {num_regions} regions; choose between 1 and "
            f"{len(keep)} regions."
        )
    points = np.asarray(coords, dtype=np.float64)[keep]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    centres = np.empty((num_regions, 3))
    centres[0] = points[np.random.default_rng(seed).integers(len(points))]
    distance = np.full(len(points), np.inf)
    for k in range(1, num_regions):
        distance = np.minimum(distance, ((points - centres[k - 1]) ** 2).sum(axis=1))
        centres[k] = points[distance.argmax()]
    for _ in range(40):
        _, labels = cKDTree(centres).query(points)
        sums = np.stack([np.bincount(labels, points[:, a], num_regions) for a in range(3)], axis=1)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        moved = np.where(norms > 1e-9, sums / np.maximum(norms, 1e-9), centres)
        # A seed vertex is nearest to itself, so cells start filled; keep the last filled state.
        if len(np.unique(cKDTree(moved).query(points)[1])) < num_regions:
            break
        centres = moved
    _, labels = cKDTree(centres).query(points)
    result = np.full(len(coords), -1, dtype=np.int32)
    result[keep] = labels
    return result


def fsaverage5_sphere() -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Places of fsaverage5's vertices on FreeSurfer's sphere of radius 100 mm, left then right.

    Finer average surfaces begin with these vertices.
    """
    from nilearn.datasets import load_fsaverage  # takes a second or two

    parts = load_fsaverage("fsaverage5")["sphere"].parts
    left, right = (np.asarray(parts[side].coordinates, np.float64) for side in ("left", "right"))
    return left, right
