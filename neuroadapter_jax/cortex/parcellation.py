"""Parcellations of the cortical surface: named sets of vertices, and how regions are matched."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, SupportsIndex

import numpy as np
from jaxtyping import Float, Int32, Integer

from neuroadapter_jax.errors import InputError, reading
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.readers import read_npz

HEMISPHERES = ("lh", "rh")
# Vertices per hemisphere of FreeSurfer's average surfaces.
MESHES = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage": 163_842}
Parcels = Literal["own", "released"]
BOTH = "both"  # of a region whose features, such as voxels, are not told apart by hemisphere


@dataclass(frozen=True)
class Atlas:
    """Which parcellation regions come from.

    Attributes:
        name: of its files, without hemisphere and suffix.
        version: of its label names, where they tell it; "" where not.
        vertices: SHA-256 of all its vertex sets, whatever their names and order.

    Examples:
        >>> from neuroadapter_jax.cortex import Atlas
        >>> print(Atlas("Schaefer2018_1000Parcels_7Networks_order", "2019", "4f1c"))
        Schaefer2018_1000Parcels_7Networks_order (2019)
    """

    name: str
    version: str
    vertices: str

    def __str__(self) -> str:
        return f"{self.name} ({self.version})" if self.version else self.name


@dataclass(frozen=True)
class Parcellation:
    """Named sets of vertices of the two hemispheres, disjoint, or of any other features.

    A region is what its vertices are: two files may name and order the same sets differently (the
    7- and the 17-network files of Schaefer 2018, and those before and after September 2019). So
    regions are matched by `match_regions`, never by their place in a file.

    Attributes:
        names: one per region.
        hemispheres: "lh", "rh", or "both" for features that have no hemisphere, one per region.
        vertices: one sorted int32 array per region: indices within its own hemisphere; with "both"
            within all features.
        num_vertices: vertices of the left and of the right hemisphere, medial wall included; (n, 0)
            for n features that have no hemisphere.
        atlas: the parcellation that the regions come from, of which they may be a part; None
            where that is not known.

    Raises:
        InputError: names, hemispheres and vertex sets that are not equally many, an unknown
            hemisphere, or a region without a vertex or with one outside its surface.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax import Parcellation
        >>> regions = Parcellation(
        ...     names=("V1", "V1", "FFA"),
        ...     hemispheres=("lh", "rh", "rh"),
        ...     vertices=tuple(np.array(v, np.int32) for v in ([0, 1], [2, 3], [4])),
        ...     num_vertices=(5, 5),
        ... )
        >>> len(regions), regions.subset([2, 0]).names
        (3, ('FFA', 'V1'))
        >>> regions.cortex_indices(1).tolist()  # the right hemisphere follows the left one
        [7, 8]
    """

    names: tuple[str, ...]
    hemispheres: tuple[str, ...]
    vertices: tuple[Int32[np.ndarray, " _"], ...]
    num_vertices: tuple[int, int]
    atlas: Atlas | None = None

    def __post_init__(self):
        if not len(self.names) == len(self.hemispheres) == len(self.vertices):
            raise InputError(
                f"A parcellation needs one name, hemisphere and vertex set per region; found "
                f"{len(self.names)} names, {len(self.hemispheres)} hemispheres and "
                f"{len(self.vertices)} vertex sets."
            )
        for name, hemisphere, vertices in zip(
            self.names, self.hemispheres, self.vertices, strict=True
        ):
            if hemisphere not in (*HEMISPHERES, BOTH):
                raise InputError(
                    f"Region {name!r} has hemisphere {hemisphere!r}; use one of "
                    f"{(*HEMISPHERES, BOTH)}."
                )
            limit = dict(zip(HEMISPHERES, self.num_vertices, strict=True)).get(
                hemisphere, sum(self.num_vertices)
            )
            if not len(vertices) or vertices[0] < 0 or vertices[-1] >= limit:
                raise InputError(
                    f"Region {name!r} ({hemisphere}) must hold at least one vertex, all between "
                    f"0 and {limit - 1}."
                )

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_labels(
        cls, left: Integer[np.ndarray, " n"], right: Integer[np.ndarray, " m"]
    ) -> Parcellation:
        """A region for each label of two maps, such as those of `parcellate_sphere`.

        Args:
            left: label of each vertex of the left hemisphere; below 0 is in no region.
            right: the same of the right hemisphere; a label of both is a region in each.

        Raises:
            InputError: labels that are not whole numbers, or not one per vertex.
        """
        names, hemispheres, vertices = [], [], []
        for hemisphere, labels in zip(HEMISPHERES, (left, right), strict=True):
            if labels.ndim != 1 or labels.dtype.kind not in "iu":
                raise InputError(
                    f"The labels of {hemisphere} are {labels.dtype} of shape {labels.shape}; "
                    "expected a whole number per vertex, below 0 for no region."
                )
            for label in np.unique(labels[labels >= 0]):
                names.append(f"{hemisphere.upper()}_{label:03d}")
                hemispheres.append(hemisphere)
                vertices.append(np.flatnonzero(labels == label).astype(np.int32))
        return cls(tuple(names), tuple(hemispheres), tuple(vertices), (len(left), len(right)))

    def subset(self, indices: Iterable[SupportsIndex]) -> Parcellation:
        """The regions at `indices` (from 0), in that order, of the same surface and atlas."""
        indices = [int(i) for i in indices]
        return Parcellation(
            names=tuple(self.names[i] for i in indices),
            hemispheres=tuple(self.hemispheres[i] for i in indices),
            vertices=tuple(self.vertices[i] for i in indices),
            num_vertices=self.num_vertices,
            atlas=self.atlas,
        )

    def cortex_indices(self, region: int) -> Int32[np.ndarray, " _"]:
        """Indices of a region's vertices in the left-then-right concatenation of the cortex.

        Args:
            region: which region, from 0.
        """
        offset = self.num_vertices[0] if self.hemispheres[region] == "rh" else 0
        return (self.vertices[region] + offset).astype(np.int32)

    def on_vertices(self, values: Float[np.ndarray, " p"]) -> Float[np.ndarray, " n"]:
        """A number per region, spread over the region's vertices; NaN at those in no region.

        Args:
            values: one per region, any unit.
        """
        cortex = np.full(sum(self.num_vertices), np.nan)
        for i, value in enumerate(values):
            cortex[self.cortex_indices(i)] = value
        return cortex

    def fingerprint(self) -> str:
        """SHA-256 of names, hemispheres and vertex sets, in order."""
        digest = hashlib.sha256(repr(tuple(int(n) for n in self.num_vertices)).encode())
        for name, hemisphere, vertices in zip(
            self.names, self.hemispheres, self.vertices, strict=True
        ):
            digest.update(f"\n{hemisphere}\t{name}\t{len(vertices)}\n".encode())
            digest.update(np.ascontiguousarray(vertices, dtype="<i4").tobytes())
        return digest.hexdigest()

    def vertex_fingerprint(self) -> str:
        """SHA-256 of the vertex sets alone: names and order do not matter."""
        digest = hashlib.sha256(repr(tuple(int(n) for n in self.num_vertices)).encode())
        for key in sorted(region_keys(self)):
            digest.update(hashlib.sha256(repr(key).encode()).digest())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Writes the parcellation to an .npz file, without pickle; `load` reads it."""
        write_npz(
            path,
            compress=True,
            names=np.array(self.names, dtype=str),
            hemispheres=np.array(self.hemispheres, dtype=str),
            vertices=np.concatenate([np.zeros(0, np.int32), *self.vertices]).astype(np.int32),
            sizes=np.array([len(v) for v in self.vertices], dtype=np.int32),
            num_vertices=np.array(self.num_vertices, dtype=np.int32),
            **_atlas_arrays(self.atlas),
        )

    @classmethod
    def load(cls, path: str | os.PathLike) -> Parcellation:
        """Reads what `save` wrote.

        Raises:
            MissingFileError: there is no such file.
            InputError: it is no such file, lacks a key, or its arrays contradict one another.
        """
        keys = {"names": "U1", "hemispheres": "U1"}
        keys |= {"vertices": "iu1", "sizes": "iu1", "num_vertices": "iu1"}
        expected = "regions as Parcellation.save writes them"
        file = read_npz(path, expected, keys)
        with reading(path, expected):
            ends = np.cumsum(file["sizes"])
            if len(file["vertices"]) != ends[-1:].sum() or (file["sizes"] < 0).any():
                raise ValueError(f"sizes for {ends[-1:].sum()} of {len(file['vertices'])} vertices")
            return cls(
                names=tuple(str(n) for n in file["names"]),
                hemispheres=tuple(str(h) for h in file["hemispheres"]),
                vertices=tuple(np.split(file["vertices"], ends)[: len(ends)]),
                num_vertices=(int(file["num_vertices"][0]), int(file["num_vertices"][1])),
                # Files of older versions lack it.
                atlas=Atlas(*map(str, file["atlas"])) if "atlas" in file else None,
            )


def _atlas_arrays(atlas: Atlas | None) -> dict[str, np.ndarray]:
    if atlas is None:
        return {}
    return {"atlas": np.array([atlas.name, atlas.version, atlas.vertices], dtype=str)}


def region_keys(regions: Parcellation) -> list[tuple[str, bytes]]:
    """What a region is, however it is called: its hemisphere and its vertices."""
    return [
        (h, np.ascontiguousarray(v, dtype="<i4").tobytes())
        for h, v in zip(regions.hemispheres, regions.vertices, strict=True)
    ]


def match_regions(
    wanted: Parcellation, among: Parcellation, source: str | os.PathLike = "the parcellation"
) -> Integer[np.ndarray, " p"]:
    """Where each wanted region stands in another parcellation: by vertex sets, not by index.

    `among.subset(match_regions(wanted, among))` has the wanted regions in the wanted order, under
    the names of the other file.

    Args:
        wanted: p regions, such as those saved with a checkpoint.
        among: the parcellation to find them in.
        source: what `among` was read from, for the message.

    Returns:
        For each wanted region its index in `among`.

    Raises:
        InputError: another mesh, or a region whose vertices are none of the other's regions.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, match_regions
        >>> a, b = np.array([0, 1], np.int32), np.array([2], np.int32)
        >>> wanted = Parcellation(("A", "B"), ("lh", "lh"), (a, b), (4, 4))
        >>> other_file = Parcellation(("second", "first"), ("lh", "lh"), (b, a), (4, 4))
        >>> match_regions(wanted, among=other_file).tolist()
        [1, 0]
    """
    if wanted.num_vertices != among.num_vertices:
        raise InputError(
            f"{source} is of {among.num_vertices[0]} + {among.num_vertices[1]} vertices, the "
            f"regions of {wanted.num_vertices[0]} + {wanted.num_vertices[1]}; use the "
            f"parcellation of their surface."
        )
    place = {key: i for i, key in enumerate(region_keys(among))}
    found = [place.get(key, -1) for key in region_keys(wanted)]
    if missing := [i for i, j in enumerate(found) if j < 0]:
        first = missing[0]
        raise InputError(
            f"{source} ({among.atlas or 'unnamed'}) is another parcellation than the regions' "
            f"({wanted.atlas or 'unnamed'}): it lacks {len(missing)} of {len(wanted)} of them, "
            f"such as {wanted.names[first]!r} ({wanted.hemispheres[first]}, "
            f"{len(wanted.vertices[first])} vertices); use the files they were chosen from."
        )
    return np.array(found, dtype=np.int64)
