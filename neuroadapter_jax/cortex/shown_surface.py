"""Values of any of FreeSurfer's average surfaces, shown on fsaverage5, which nilearn ships."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Shaped
from scipy.spatial import cKDTree

from neuroadapter_jax.cortex.parcellation import MESHES
from neuroadapter_jax.errors import InputError

SHOWN = "fsaverage5"
# Vertices per hemisphere. Each mesh holds the vertices of all coarser ones, in their order.
AVERAGE_SURFACES = {"fsaverage3": 642, "fsaverage4": 2_562} | MESHES


@dataclass(frozen=True)
class ShownSurface:
    """Which vertex of a surface each vertex of fsaverage5 shows.

    FreeSurfer's average surfaces are icosahedra cut ever finer, so a finer one is shown at those of
    its vertices that fsaverage5 has, without averaging, and of a coarser one each vertex of
    fsaverage5 shows the nearest on the sphere.

    Attributes:
        name: of the surface that the values are on.
        sizes: vertices of its left and right hemisphere.
        vertices: for each vertex of fsaverage5, left hemisphere then right, which vertex of the
            surface it shows, in the same order.

    Examples:
        >>> from neuroadapter_jax.cortex.shown_surface import ShownSurface
        >>> surface = ShownSurface.of((163842, 163842))
        >>> surface.name, len(surface.vertices)
        ('fsaverage', 20484)
    """

    name: str
    sizes: tuple[int, int]
    vertices: Int[np.ndarray, " m"]

    @classmethod
    def of(cls, num_vertices: tuple[int, int]) -> ShownSurface:
        """The average surface of so many vertices.

        Args:
            num_vertices: of the left and of the right hemisphere.

        Raises:
            InputError: no average surface has so many.
        """
        left, right = num_vertices
        if not cls.known(num_vertices):
            known = ", ".join(f"{n} ({k})" for k, n in AVERAGE_SURFACES.items())
            raise InputError(
                f"The surface has {left} and {right} vertices; expected one of FreeSurfer's "
                f"average surfaces, {known} per hemisphere; prepare the responses on one of them."
            )
        name = next(k for k, n in AVERAGE_SURFACES.items() if n == left)
        offset = np.arange(2)[:, None] * left
        return cls(name, (left, right), (_vertices(left) + offset).ravel())

    @classmethod
    def of_cortex(cls, total: int) -> ShownSurface:
        """The average surface whose two hemispheres have so many vertices together.

        Args:
            total: vertices of both hemispheres.

        Raises:
            InputError: no average surface has so many.
        """
        halves = (total // 2, total - total // 2)
        if not cls.known(halves):
            known = ", ".join(f"{2 * n} ({k})" for k, n in AVERAGE_SURFACES.items())
            raise InputError(
                f"A map has {total} vertices; expected one entry per vertex of one of FreeSurfer's "
                f"average surfaces, left hemisphere then right: {known}."
            )
        return cls.of(halves)

    @classmethod
    def known(cls, num_vertices: tuple[int, int]) -> bool:
        """Whether a surface can be shown."""
        return num_vertices[0] == num_vertices[1] and num_vertices[0] in AVERAGE_SURFACES.values()

    def __call__(self, values: Shaped[np.ndarray, "... n"]) -> Shaped[np.ndarray, "... m"]:
        """Values of the surface's vertices, left hemisphere then right, on those of fsaverage5."""
        return values[..., self.vertices]

    def sentence(self) -> str:
        """What a reader of a map has to know of how it is shown; "" where nothing is lost."""
        own = f"The data is on {self.name}, {self.sizes[0]} vertices per hemisphere; "
        if self.sizes[0] > MESHES[SHOWN]:
            return f"{own}shown are those {MESHES[SHOWN]} of them that {SHOWN} has."
        if self.sizes[0] < MESHES[SHOWN]:
            return f"{own}each vertex of {SHOWN} shows the nearest of them."
        return ""


def _vertices(count: int) -> Int[np.ndarray, "2 _"]:
    """For each vertex of fsaverage5's hemispheres, the one that it shows of a mesh's `count`."""
    shown = MESHES[SHOWN]
    if count >= shown:
        return np.tile(np.arange(shown), (2, 1))
    from nilearn.datasets import load_fsaverage  # takes a second or two

    sphere = load_fsaverage(SHOWN)["sphere"]
    points = [np.asarray(sphere.parts[side].coordinates) for side in ("left", "right")]
    return np.stack([cKDTree(own[:count]).query(own)[1] for own in points])
