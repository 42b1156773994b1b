"""The parcellation of Schaefer et al. (2018): what its file names promise, and where it is.

Schaefer et al. 2018 (Cerebral Cortex 28:3095), in the repository ThomasYeoLab/CBIG.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from neuroadapter_jax.cortex.parcellation import MESHES

_NAME = re.compile(r"Schaefer2018_(\d+)Parcels_(?:Kong2022_)?(7|17)Networks")
_FOLDER = "stable_projects/brain_parcellation/Schaefer2018_LocalGlobal/Parcellations/FreeSurfer5.3"


def is_schaefer(name: str) -> bool:
    """Whether a file or an atlas of this name is one of Schaefer 2018's."""
    return _NAME.search(name) is not None


def promised_parcels(name: str) -> int | None:
    """Parcels per hemisphere that a file's name promises; None for another parcellation."""
    found = _NAME.search(name)
    return int(found[1]) // 2 if found else None


def where_to_find(path: Path, num_vertices: int | None = None) -> str:
    """Where a file of this name is published, as the end of a sentence.

    Args:
        path: the file that is missing or damaged.
        num_vertices: vertices of its hemisphere, which tell the mesh, where they are known.
    """
    meshes = {n: mesh for mesh, n in MESHES.items()}
    mesh = meshes.get(num_vertices or 0, "{fsaverage,fsaverage5,fsaverage6}")
    return f"take {path.name} from the repository ThomasYeoLab/CBIG, folder {_FOLDER}/{mesh}/label"


def release_of(atlas: str, names: Sequence[str]) -> str:
    """The release of a Schaefer file, which its names tell for 17 networks.

    Until CBIG's release 0.14.3 (September 2019), which renamed and in part reordered the parcels,
    the 17-network files had one Limbic network; since then LimbicA and LimbicB.
    """
    if not is_schaefer(atlas):
        return ""
    if any(re.search(r"_Limbic[AB]_", name) for name in names):
        return "names since CBIG 0.14.3"
    if any(name.startswith("17Networks") and "_Limbic_" in name for name in names):
        return "names before CBIG 0.14.3"
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
    return f"names {digest[:8]}"
