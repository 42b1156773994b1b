"""Which mesh shows the values of a surface: one that nilearn ships, or the surface's own files."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.spatial import cKDTree

from neuroadapter_jax.cortex.meshes import Mesh, read_mesh, sulcal_depth_beside, thinned
from neuroadapter_jax.cortex.parcellation import MESHES
from neuroadapter_jax.cortex.sphere import fsaverage5_sphere
from neuroadapter_jax.errors import InputError

SHOWN = "fsaverage5"
# Vertices per hemisphere. Each mesh holds the vertices of all coarser ones, in their order.
AVERAGE_SURFACES = {"fsaverage3": 642, "fsaverage4": 2_562} | MESHES
MOST_SHOWN = MESHES[SHOWN]  # of each hemisphere of meshes given as files, which turns smoothly


@dataclass(frozen=True)
class ShownHemisphere:
    """What one hemisphere looks like.

    Attributes:
        mesh: usually inflated.
        depth: of the sulci at its vertices, above 0, and of gyri, below; None where not known.
        flat: the same vertices laid flat, or None.
    """

    mesh: Mesh
    depth: Float[np.ndarray, " m"] | None = None
    flat: Mesh | None = None


@dataclass(frozen=True)
class ShownSurface:
    """Which vertex of a surface each vertex of the shown mesh shows.

    FreeSurfer's average surfaces are icosahedra cut ever finer and shown on fsaverage5: a finer one
    at those of its vertices that fsaverage5 has, without averaging, and of a coarser one each
    vertex of fsaverage5 shows the nearest on the sphere. Any other surface is shown on meshes of
    its own, see `from_files`.

    Attributes:
        name: of the surface that the values are on.
        sizes: vertices of its left and right hemisphere.
        vertices: for each vertex of the shown mesh, left hemisphere then right, which vertex of the
            surface it shows, in the same order.
        own: the shown hemispheres; None for fsaverage5.

    Examples:
        >>> from neuroadapter_jax.cortex.shown_surface import ShownSurface
        >>> surface = ShownSurface.of((163842, 163842))
        >>> surface.name, len(surface.vertices)
        ('fsaverage', 20484)
    """

    name: str
    sizes: tuple[int, int]
    vertices: Int[np.ndarray, " m"]
    own: tuple[ShownHemisphere, ShownHemisphere] | None = field(default=None, repr=False)

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
                f"average surfaces, {known} per hemisphere; prepare the responses on one of them, "
                "or give the meshes of the surface."
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
                f"average surfaces, left hemisphere then right: {known}; or give the surface's own "
                "meshes."
            )
        return cls.of(halves)

    @classmethod
    def from_files(cls, files: Sequence[str | os.PathLike]) -> ShownSurface:
        """A surface shown on its own meshes, thinned to at most 10,242 vertices per hemisphere.

        Args:
            files: of the left and of the right hemisphere: FreeSurfer's (lh.inflated, rh.inflated;
                lh.sulc and rh.sulc beside them shade the sulci) or GIFTI's (.surf.gii).

        Raises:
            MissingFileError: there is no such file.
            InputError: not two files, or one is damaged or no mesh.
        """
        if len(files) != 2:
            raise InputError(
                f"The meshes are {', '.join(map(str, files)) or 'none'}; expected two files, of "
                "the left and of the right hemisphere."
            )
        sizes: list[int] = []
        vertices, shown = [], []
        for file in files:
            whole = read_mesh(file)
            depth = sulcal_depth_beside(file, len(whole))
            mesh, taken = thinned(whole, MOST_SHOWN)
            shown.append(ShownHemisphere(mesh, None if depth is None else depth[taken]))
            vertices.append(taken + sum(sizes))
            sizes.append(len(whole))
        name = f"the meshes {' and '.join(os.path.basename(file) for file in files)}"
        return cls(name, (sizes[0], sizes[1]), np.concatenate(vertices), (shown[0], shown[1]))

    def require_of(self, num_vertices: tuple[int, int], what: str) -> None:
        """Refuse what is of another surface.

        Args:
            num_vertices: of the left and of the right hemisphere.
            what: has so many, for the message.

        Raises:
            InputError: the surface has other numbers of vertices.
        """
        if tuple(num_vertices) != self.sizes:
            raise InputError(
                f"{self.name[0].upper()}{self.name[1:]} have {self.sizes[0]} and {self.sizes[1]} "
                f"vertices, {what} {num_vertices[0]} and {num_vertices[1]}; give the meshes of the "
                "same surface, the left hemisphere's first."
            )

    @classmethod
    def known(cls, num_vertices: tuple[int, int]) -> bool:
        """Whether a surface can be shown."""
        return num_vertices[0] == num_vertices[1] and num_vertices[0] in AVERAGE_SURFACES.values()

    @property
    def hemispheres(self) -> tuple[ShownHemisphere, ShownHemisphere]:
        """What is shown, the left hemisphere and the right one."""
        return _fsaverage5() if self.own is None else self.own

    @property
    def flat(self) -> bool:
        """Whether the cortex can be laid flat."""
        return self.own is None  # which saves reading nilearn's meshes

    def __call__(self, values: Shaped[np.ndarray, "... n"]) -> Shaped[np.ndarray, "... m"]:
        """Values of the surface's vertices, left hemisphere then right, on those that are shown."""
        return values[..., self.vertices]

    def sentence(self) -> str:
        """What a reader of a map has to know of how it is shown; "" where nothing is lost."""
        if self.own is not None:
            counts = [len(side.mesh) for side in self.own]
            if counts == list(self.sizes):
                return ""
            return (
                f"The data is on {self.sizes[0]} and {self.sizes[1]} vertices ({self.name}); shown "
                f"are {counts[0]} and {counts[1]} of them, evenly spread."
            )
        own = f"The data is on {self.name}, {self.sizes[0]} vertices per hemisphere; "
        if self.sizes[0] > MESHES[SHOWN]:
            return f"{own}shown are those {MESHES[SHOWN]} of them that {SHOWN} has."
        if self.sizes[0] < MESHES[SHOWN]:
            return f"{own}each vertex of {SHOWN} shows the nearest of them."
        return ""


@functools.cache
def _fsaverage5() -> tuple[ShownHemisphere, ShownHemisphere]:
    from nilearn.datasets import load_fsaverage, load_fsaverage_data  # takes a second or two

    meshes, sulci = load_fsaverage(SHOWN), load_fsaverage_data(SHOWN, data_type="sulcal")

    def mesh(kind: str, side: str) -> Mesh:
        part = meshes[kind].parts[side]
        return Mesh(np.asarray(part.coordinates, np.float64), np.asarray(part.faces, np.int64))

    left, right = (
        ShownHemisphere(
            mesh("inflated", side),
            np.asarray(sulci.data.parts[side], np.float64).ravel(),
            mesh("flat", side),
        )
        for side in ("left", "right")
    )
    return left, right


def _vertices(count: int) -> Int[np.ndarray, "2 _"]:
    """For each vertex of fsaverage5's hemispheres, the one that it shows of a mesh's `count`."""
    shown = MESHES[SHOWN]
    if count >= shown:
        return np.tile(np.arange(shown), (2, 1))
    return np.stack([cKDTree(own[:count]).query(own)[1] for own in fsaverage5_sphere()])
