"""Parcellations of the cortical surface: read, make, keep and write them."""

from __future__ import annotations

import colorsys
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, SupportsIndex, get_args

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float, Int32, Integer
from scipy.spatial import cKDTree

HEMISPHERES = ("lh", "rh")
# Vertices per hemisphere of FreeSurfer's average surfaces.
MESHES = {"fsaverage5": 10_242, "fsaverage6": 40_962, "fsaverage": 163_842}
Parcels = Literal["own", "released"]
BOTH = "both"  # of a region whose features, such as voxels, are not told apart by hemisphere
BACKGROUND_NAME = "Background+FreeSurfer_Defined_Medial_Wall"
_BACKGROUND_NAMES = frozenset(
    {
        "unknown",
        "???",
        "background",
        "none",
        "medialwall",
        "corpuscallosum",
        BACKGROUND_NAME.lower().replace("_", "").replace(" ", ""),
    }
)
_SCHAEFER = re.compile(r"Schaefer2018_(\d+)Parcels_(?:Kong2022_)?(7|17)Networks")
_SCHAEFER_FOLDER = (
    "stable_projects/brain_parcellation/Schaefer2018_LocalGlobal/Parcellations/FreeSurfer5.3"
)


def is_background(name: str) -> bool:
    """Whether a label of this name stands for the medial wall or for no region at all."""
    return name.lower().replace("_", "").replace(" ", "").replace("-", "") in _BACKGROUND_NAMES


@dataclass(frozen=True)
class Atlas:
    """Which parcellation regions come from.

    Attributes:
        name: of its files, without hemisphere and suffix.
        version: of its label names, where they tell it.
        vertices: SHA-256 of all its vertex sets, whatever their names and order.
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
    """

    names: tuple[str, ...]
    hemispheres: tuple[str, ...]
    vertices: tuple[Int32[np.ndarray, " _"], ...]
    num_vertices: tuple[int, int]
    atlas: Atlas | None = None

    def __post_init__(self):
        if not len(self.names) == len(self.hemispheres) == len(self.vertices):
            raise ValueError(
                f"A parcellation needs one name, hemisphere and vertex set per region; found "
                f"{len(self.names)} names, {len(self.hemispheres)} hemispheres and "
                f"{len(self.vertices)} vertex sets."
            )
        for name, hemisphere, vertices in zip(
            self.names, self.hemispheres, self.vertices, strict=True
        ):
            if hemisphere not in (*HEMISPHERES, BOTH):
                raise ValueError(
                    f"Region {name!r} has hemisphere {hemisphere!r}; use one of "
                    f"{(*HEMISPHERES, BOTH)}."
                )
            limit = dict(zip(HEMISPHERES, self.num_vertices, strict=True)).get(
                hemisphere, sum(self.num_vertices)
            )
            if not len(vertices) or vertices[0] < 0 or vertices[-1] >= limit:
                raise ValueError(
                    f"Region {name!r} ({hemisphere}) must hold at least one vertex, all between "
                    f"0 and {limit - 1}."
                )

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, indices: Iterable[SupportsIndex]) -> Parcellation:
        """The regions at `indices`, in that order."""
        indices = [int(i) for i in indices]
        return Parcellation(
            names=tuple(self.names[i] for i in indices),
            hemispheres=tuple(self.hemispheres[i] for i in indices),
            vertices=tuple(self.vertices[i] for i in indices),
            num_vertices=self.num_vertices,
            atlas=self.atlas,
        )

    def cortex_indices(self, region: int) -> Int32[np.ndarray, " _"]:
        """Indices of a region's vertices in the left-then-right concatenation of the cortex."""
        offset = self.num_vertices[0] if self.hemispheres[region] == "rh" else 0
        return (self.vertices[region] + offset).astype(np.int32)

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

    def save(self, path: str | os.PathLike) -> None:
        """Writes the parcellation to an .npz file, without pickle."""
        path = Path(path)
        partial = path.with_name(path.name + ".tmp")
        with open(partial, "wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names, dtype=str),
                hemispheres=np.array(self.hemispheres, dtype=str),
                vertices=np.concatenate([np.zeros(0, np.int32), *self.vertices]).astype(np.int32),
                sizes=np.array([len(v) for v in self.vertices], dtype=np.int32),
                num_vertices=np.array(self.num_vertices, dtype=np.int32),
                **_atlas_arrays(self.atlas),
            )
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Parcellation:
        """Reads what `save` wrote.

        Raises:
            ValueError: a key is missing from the file.
        """
        with np.load(path, allow_pickle=False) as file:
            missing = {"names", "hemispheres", "vertices", "sizes", "num_vertices"} - set(file)
            if missing:
                raise ValueError(
                    f"{path} is not a saved Parcellation: it lacks {sorted(missing)}; write it "
                    f"with Parcellation.save."
                )
            ends = np.cumsum(file["sizes"])
            return cls(
                names=tuple(str(n) for n in file["names"]),
                hemispheres=tuple(str(h) for h in file["hemispheres"]),
                vertices=tuple(np.split(file["vertices"], ends)[: len(ends)]),
                num_vertices=tuple(int(n) for n in file["num_vertices"]),
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
        wanted: p regions, such as those kept with a checkpoint.
        among: the parcellation to find them in.
        source: what `among` was read from, for the message.

    Raises:
        ValueError: another mesh, or a region whose vertices are none of the other's regions.
    """
    if wanted.num_vertices != among.num_vertices:
        raise ValueError(
            f"{source} is of {among.num_vertices[0]} + {among.num_vertices[1]} vertices, the "
            f"regions of {wanted.num_vertices[0]} + {wanted.num_vertices[1]}; use the "
            f"parcellation of their surface."
        )
    place = {key: i for i, key in enumerate(region_keys(among))}
    found = [place.get(key, -1) for key in region_keys(wanted)]
    if missing := [i for i, j in enumerate(found) if j < 0]:
        first = missing[0]
        raise ValueError(
            f"{source} ({among.atlas or 'unnamed'}) is another parcellation than the regions' "
            f"({wanted.atlas or 'unnamed'}): it lacks {len(missing)} of {len(wanted)} of them, "
            f"such as {wanted.names[first]!r} ({wanted.hemispheres[first]}, "
            f"{len(wanted.vertices[first])} vertices); use the files they were chosen from."
        )
    return np.array(found, dtype=np.int64)


def read_label_table(path: str | os.PathLike) -> dict[int, str]:
    """Reads a .ctab file: one "index name" pair a line, further columns ignored."""
    table = {}
    for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < 2 or not fields[0].lstrip("-").isdigit():
            raise ValueError(f"{path} line {number} is {line!r}; expected an index and a name.")
        value = int(fields[0])
        if value in table:
            raise ValueError(
                f"{path} line {number} names the value {value} again, {table[value]!r} before and "
                f"{fields[1]!r} now; keep one name per value."
            )
        table[value] = fields[1]
    return table


def find_label_table(path: str | os.PathLike) -> Path:
    """Finds the .ctab of a label file, with or without the hemisphere in its name.

    Raises:
        FileNotFoundError: none of the usual names exists.
    """
    path = Path(path)
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    candidates = [
        path.with_name(name)
        for stem in (path.name, bare)
        for name in (f"{stem}.ctab", f"{stem.removesuffix('.mgz').removesuffix('.mgh')}.ctab")
    ]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError(
        f"{path} has no table of label names beside it; expected one of "
        f"{', '.join(c.name for c in candidates)}."
    )


def read_surface_values(path: str | os.PathLike) -> np.ndarray:
    """Reads one value per vertex from an .mgz or .mgh file.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: it holds more than one value per vertex, or both hemispheres side by side.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"The surface file {path} does not exist; check its folder.")
    values = np.asanyarray(nib.load(path).dataobj)
    if values.size != max(values.shape):
        raise ValueError(
            f"{path} has shape {values.shape}; expected one value per vertex of one hemisphere."
        )
    values = values.reshape(-1)
    return values.astype(values.dtype.newbyteorder("="))


def _read_annot(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    # nibabel maps a colour that the table lacks to a neighbouring label, and merges equal
    # colours, so the identifiers are matched here.
    values, table, names = nib.freesurfer.read_annot(path, orig_ids=True)
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    ids = table[:, 0] + (table[:, 1] << 8) + (table[:, 2] << 16)
    labels, owner = {0: "unknown"}, {}
    for identifier, name in zip(ids.tolist(), names, strict=True):
        if identifier in owner and not (is_background(name) and is_background(owner[identifier])):
            raise ValueError(
                f"{path} gives the labels {owner[identifier]!r} and {name!r} the same colour, so "
                f"their vertices cannot be told apart; write it again with one colour per label."
            )
        if identifier == 0 and not is_background(name):
            raise ValueError(
                f"{path} gives the label {name!r} the colour (0, 0, 0), which means 'no label'; "
                f"write it again with another colour."
            )
        labels[identifier] = owner[identifier] = name
    return values, labels


def _refuse_merged(path: Path, values: np.ndarray, table: dict[int, str]) -> None:
    """Refuses a name given to two labels, and a Schaefer file without all of its parcels."""
    used = set(np.unique(values).tolist())
    names = [name for value, name in table.items() if value in used and not is_background(name)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{path} gives {len(twice)} name(s) to more than one label, such as {twice[0]!r}; "
            f"write it again with one name per label."
        )
    if not (found := _SCHAEFER.search(path.name)) or not path.name.endswith(".annot"):
        return
    expected = int(found[1]) // 2
    if len(names) != expected:
        raise ValueError(
            f"{path} labels {len(names)} parcels, but its name promises {expected} in a "
            f"hemisphere: labels are missing or were merged, as resampling does; "
            f"{_where_schaefer_is(path)}."
        )


def _where_schaefer_is(path: Path, num_vertices: int | None = None) -> str:
    meshes = {n: mesh for mesh, n in MESHES.items()}
    mesh = meshes.get(num_vertices, "{fsaverage,fsaverage5,fsaverage6}")
    return (
        f"take {path.name} from the repository ThomasYeoLab/CBIG, folder "
        f"{_SCHAEFER_FOLDER}/{mesh}/label"
    )


def _atlas_name(path: Path) -> str:
    bare = path.name.removeprefix("lh.").removeprefix("rh.")
    for suffix in (".annot", ".label.gii", ".gii", ".mgz", ".mgh"):
        bare = bare.removesuffix(suffix)
    return bare


def _version(atlas: str, names: Sequence[str]) -> str:
    """The release of a Schaefer file, which its names tell for 17 networks.

    Until CBIG's release 0.14.3 (September 2019), which renamed and in part reordered the parcels,
    the 17-network files had one Limbic network; since then LimbicA and LimbicB.
    """
    if not _SCHAEFER.search(atlas):
        return ""
    if any(re.search(r"_Limbic[AB]_", name) for name in names):
        return "names since CBIG 0.14.3"
    if any(name.startswith("17Networks") and "_Limbic_" in name for name in names):
        return "names before CBIG 0.14.3"
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"names {digest[:8]}"


def _read_gifti(path: Path) -> tuple[np.ndarray, dict[int, str]]:
    image = nib.load(path)
    if len(image.darrays) != 1:
        raise ValueError(
            f"{path} holds {len(image.darrays)} data arrays; expected one array of labels."
        )
    table = {int(k): str(v) for k, v in image.labeltable.get_labels_as_dict().items()}
    return np.asarray(image.darrays[0].data).reshape(-1), table


def _read_labels(path: Path, expected: int | None = None) -> tuple[np.ndarray, dict[int, str]]:
    if not path.exists():
        advice = ""
        if _SCHAEFER.search(path.name):
            advice = f" Name its folder, or {_where_schaefer_is(path, expected)}."
        raise FileNotFoundError(f"The parcellation file {path} does not exist.{advice}")
    if path.name.endswith(".annot"):
        values, table = _read_annot(path)
    elif path.name.endswith(".gii"):
        values, table = _read_gifti(path)
    elif path.name.endswith((".mgz", ".mgh")):
        values, table = read_surface_values(path), read_label_table(find_label_table(path))
    else:
        raise ValueError(
            f"{path} is not a parcellation this reads; give .annot, .label.gii, or .mgz with a "
            f".ctab beside it."
        )
    table.setdefault(0, "unknown")
    table[-1] = "unknown"
    unnamed = sorted(set(np.unique(values).tolist()) - set(table))
    if unnamed:
        raise ValueError(
            f"{path} uses the label value {unnamed[0]} ({len(unnamed)} such in all), which its "
            f"table of names does not list."
        )
    _refuse_merged(path, values, table)
    return values, table


def read_parcellation(
    lh_path: str | os.PathLike,
    rh_path: str | os.PathLike,
    num_vertices: tuple[int, int] | None = None,
    parcels: Parcels = "own",
) -> Parcellation:
    """Reads a parcellation from one label file per hemisphere.

    Formats: FreeSurfer .annot, GIFTI .label.gii, and .mgz with a .ctab beside it. Vertices without
    label (-1, or 0 where the table does not name it), the medial wall and names that
    `is_background` knows are left out, and so are labels without a vertex; a Schaefer .annot has
    to hold all of its parcels. The order is the left hemisphere's, then the right's, each by the
    order of its table, and means nothing; see `match_regions`.

    Args:
        lh_path: the left hemisphere's file.
        rh_path: the right hemisphere's file.
        num_vertices: expected vertices of each hemisphere; unchecked when None.
        parcels: "own" for each hemisphere's own file; "released" for the left file's vertex sets
            in both hemispheres, as the released code has them: its right-hemisphere regions are
            then no parcels of the right cortex. The right file is not opened.

    Raises:
        FileNotFoundError: a file, or the table of a .mgz file, is missing.
        ValueError: another number of vertices, two labels of one colour or one name, a label
            without name, a Schaefer file without all its parcels or of the other hemisphere, the
            same vertex sets in both files, a .mgz of both hemispheres, or an unknown format.
    """
    if parcels not in get_args(Parcels):
        raise ValueError(f"parcels is {parcels!r}; expected one of {list(get_args(Parcels))}.")
    paths = (Path(lh_path), Path(lh_path if parcels == "released" else rh_path))
    names, hemispheres, vertices, counts = [], [], [], []
    for hemisphere, path in zip(HEMISPHERES, paths, strict=True):
        expected = None if num_vertices is None else num_vertices[HEMISPHERES.index(hemisphere)]
        values, table = _read_labels(path, expected)
        if expected is not None and len(values) != expected:
            mesh = {n: f" ({name})" for name, n in MESHES.items()}
            raise ValueError(
                f"{path} labels {len(values)} vertices{mesh.get(len(values), '')}, but the "
                f"{hemisphere} surface has {expected}{mesh.get(expected, '')}; use the "
                f"parcellation of that mesh."
            )
        other = "Networks_RH_" if hemisphere == "lh" else "Networks_LH_"
        if parcels == "own" and any(other in name for name in table.values()):
            raise ValueError(
                f"{path} was given for {hemisphere}, but it names parcels of the other hemisphere "
                f"(...{other}...); give the left file first, then the right one."
            )
        for value, name in table.items():
            members = np.flatnonzero(values == value).astype(np.int32)
            if len(members) and not is_background(name):
                names.append(name)
                hemispheres.append(hemisphere)
                vertices.append(members)
        counts.append(len(values))
    found = Parcellation(tuple(names), tuple(hemispheres), tuple(vertices), (counts[0], counts[1]))
    if parcels == "own":
        _refuse_one_hemisphere_twice(found, *paths)
    name = _atlas_name(paths[0])
    return replace(
        found,
        atlas=Atlas(
            name if parcels == "own" else f"{name}, the left's for both hemispheres",
            _version(name, names),
            found.vertex_fingerprint(),
        ),
    )


def _refuse_one_hemisphere_twice(found: Parcellation, lh_path: Path, rh_path: Path) -> None:
    sides = {
        h: {key for side, key in region_keys(found) if side == h} for h in HEMISPHERES
    }  # fmt: skip
    shared = len(sides["lh"] & sides["rh"])
    fewest = min(map(len, sides.values()))
    if shared and 2 * shared >= fewest:
        raise ValueError(
            f"{lh_path} and {rh_path} hold the same vertex sets ({shared} of {fewest} regions), so "
            f"one hemisphere's parcels stand for both, as in the released code's files; give each "
            f"hemisphere's own file, or parcels='released' to do as that code did."
        )


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
        ValueError: fewer vertices than regions.
    """
    keep = np.arange(len(coords)) if mask is None else np.flatnonzero(mask)
    if not 1 <= num_regions <= len(keep):
        raise ValueError(
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


def write_annot(
    path: str | os.PathLike, labels: Integer[np.ndarray, " n"], names: Sequence[str]
) -> None:
    """Writes one hemisphere's parcellation as a FreeSurfer .annot file.

    Every label has a colour of its own, none of them black, and -1 becomes the background label
    that Schaefer's files carry first.

    Args:
        path: the file to write.
        labels: index into `names` per vertex, or -1.
        names: one per label.

    Raises:
        ValueError: a label has no name.
    """
    path = Path(path)
    if labels.min() < -1 or labels.max() >= len(names):
        raise ValueError(
            f"Cannot write {path}: labels run from {labels.min()} to {labels.max()}, but there are "
            f"{len(names)} names; use -1 for no region."
        )
    colours, stimuli = [(1, 1, 1)], {(1, 1, 1), (0, 0, 0)}
    hue = 0
    while len(colours) <= len(names):
        value = 0.95 - 0.15 * (hue % 3)
        rgb = colorsys.hsv_to_rgb(hue * 0.61803398875 % 1, 0.45 + 0.1 * (hue % 5), value)
        colour = tuple(round(255 * c) for c in rgb)
        if colour not in stimuli:
            stimuli.add(colour)
            colours.append(colour)
        hue += 1
    table = np.zeros((len(colours), 5), dtype=np.int64)
    table[:, :3] = colours
    partial = path.with_name(path.name + ".tmp")
    nib.freesurfer.write_annot(
        partial, labels.astype(np.int32) + 1, table, [BACKGROUND_NAME, *names], fill_ctab=True
    )
    os.replace(partial, path)
