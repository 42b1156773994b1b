"""The parcellation of Schaefer et al. (2018): what its file names promise, and where it is.

Schaefer et al. 2018 (Cerebral Cortex 28:3095), in the repository ThomasYeoLab/CBIG. Its files are
also passed on under names as TemplateFlow has them (`atlas-Schaefer2018_seg-7n_scale-1000`,
`atlas-Schaefer2018_desc-1000Parcels7Networks`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from neuroadapter_jax.cortex.label_names import hemisphere_of_file
from neuroadapter_jax.cortex.parcellation import MESHES

_CBIG = re.compile(r"Schaefer2018_(\d+)Parcels_(Kong2022_)?(7|17)Networks")
_DESCRIBED = re.compile(r"desc-(\d+)Parcels(Kong2022)?(7|17)Networks")
_SEGMENTED, _SCALE = re.compile(r"seg-(kong)?(7|17)n(?![a-z0-9])"), re.compile(r"scale-(\d+)")
_FOLDER = "stable_projects/brain_parcellation/Schaefer2018_LocalGlobal/Parcellations/FreeSurfer5.3"


class _Named(NamedTuple):
    """What a name tells: parcels of both hemispheres, networks, and whose order of them."""

    parcels: int
    networks: int
    kong: bool


def _parse(name: str) -> _Named | None:
    if found := _CBIG.search(name):
        return _Named(int(found[1]), int(found[3]), bool(found[2]))
    if "atlas-Schaefer2018" not in name:
        return None
    if found := _DESCRIBED.search(name):
        return _Named(int(found[1]), int(found[3]), bool(found[2]))
    if (found := _SEGMENTED.search(name)) and (scale := _SCALE.search(name)):
        return _Named(int(scale[1]), int(found[2]), bool(found[1]))
    return None


def is_schaefer(name: str) -> bool:
    """Whether a file or an atlas of this name is one of Schaefer 2018's.

    Args:
        name: of a file or an atlas, as CBIG or as TemplateFlow writes it.

    Examples:
        >>> from neuroadapter_jax.cortex.schaefer import is_schaefer
        >>> is_schaefer("lh.Schaefer2018_1000Parcels_7Networks_order.annot")
        True
        >>> is_schaefer("lh.HCP-MMP1.annot")
        False
    """
    return _parse(name) is not None


def promised_parcels(name: str) -> int | None:
    """Parcels per hemisphere that a file's name promises; None for another parcellation.

    Args:
        name: of a file, as CBIG or as TemplateFlow writes it.

    Examples:
        >>> from neuroadapter_jax.cortex.schaefer import promised_parcels
        >>> promised_parcels("lh.Schaefer2018_1000Parcels_7Networks_order.annot")
        500
    """
    found = _parse(name)
    return found.parcels // 2 if found else None


def where_to_find(path: Path, num_vertices: int | None = None) -> str:
    """Where a file of this name is published, as the end of a sentence.

    Args:
        path: the file that is missing or damaged.
        num_vertices: vertices of its hemisphere, which tell the mesh, where they are known.
    """
    meshes = {n: mesh for mesh, n in MESHES.items()}
    mesh = meshes.get(num_vertices or 0, "{fsaverage,fsaverage5,fsaverage6}")
    name, found = path.name, _parse(path.name)
    if found and not _CBIG.search(name):
        side = hemisphere_of_file(name) or "{lh,rh}"
        kong = "Kong2022_" if found.kong else ""
        name = (
            f"{side}.Schaefer2018_{found.parcels}Parcels_{kong}{found.networks}Networks_order.annot"
        )
    return f"take {name} from the repository ThomasYeoLab/CBIG, folder {_FOLDER}/{mesh}/label"


def release_of(atlas: str, names: Sequence[str]) -> str:
    """The release of a Schaefer file, which its names tell for 17 networks.

    Until CBIG's release 0.14.3 (September 2019), which renamed and in part reordered the parcels,
    the 17-network files had one Limbic network; since then LimbicA and LimbicB.

    Args:
        atlas: name of the atlas.
        names: of its parcels.

    Returns:
        The release in words, or where the names do not tell it, the beginning of their SHA-256;
        "" for another parcellation.

    Examples:
        >>> from neuroadapter_jax.cortex.schaefer import release_of
        >>> names = ["17Networks_LH_LimbicA_TempPole_1"]
        >>> release_of("Schaefer2018_400Parcels_17Networks_order", names)
        'names since CBIG 0.14.3'
    """
    if not is_schaefer(atlas):
        return ""
    if any(re.search(r"_Limbic[AB]_", name) for name in names):
        return "names since CBIG 0.14.3"
    if any(name.startswith("17Networks") and "_Limbic_" in name for name in names):
        return "names before CBIG 0.14.3"
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"names {digest[:8]}"
