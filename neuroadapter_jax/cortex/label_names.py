"""What the names of labels and label files tell: which hemisphere, and what is no region."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDES = {"lh": "lh", "left": "lh", "rh": "rh", "right": "rh"}
_LETTERS = {"l": "lh", "r": "rh"}

_BESIDES = {*_SIDES, *_LETTERS, "ctx", "hemi", "networks", "label", "roi", "mask"}
_WALL = r"(?:freesurfer)?(?:defined)?medialwall"
_NO_REGION = re.compile(
    rf"(?:{_WALL}|unknown|background|none|noname|unassigned|notassigned|unlabell?ed|nolabel"
    rf"|unclassified|undefined|null|nan|corpuscallosum|\?+)+"
)


def is_background(name: str) -> bool:
    """Whether a label of this name stands for the medial wall or for no region at all.

    Case, punctuation, the hemisphere and "part 1" do not matter. A number is another matter:
    `None_1` is a region of an atlas whose network is called None (Gordon et al. 2016), and only the
    medial wall may be numbered. So is a place, as in `Unknown_cortex_1`.
    """
    words = re.findall(r"[a-z]+|\d+|\?+", name.lower())
    words = [word for word in words if word not in _BESIDES]
    if "part" in words:
        words = [word for word in words if word != "part" and not word.isdigit()]
    text = "".join(words)
    if re.fullmatch(_WALL, without := re.sub(r"\d+", "", text)):
        text = without
    return _NO_REGION.fullmatch(text) is not None


def hemisphere_of_regions(names: Sequence[str]) -> str | None:
    """The hemisphere, "lh" or "rh", that more than half of the names tell; None without such.

    Known are the words LH and RH, left and right in any place (`7Networks_LH_Vis_1`,
    `ctx-lh-cuneus`), and L and R at the beginning or the end (`L_V1_ROI`, `A8m_R`), in any case.
    """
    told = [_hemisphere_of_region(name) for name in names]
    return next((side for side in ("lh", "rh") if 2 * told.count(side) > len(told)), None)


def hemisphere_of_file(name: str) -> str | None:
    """The hemisphere that a file's name tells; None where it tells none, or both.

    Known are `lh.`, `_rh`, `left`, `hemi-L`, `.R.`, `L.` and the like.
    """
    words = _words(name)
    sides = {_SIDES[word.lower()] for word in words if word.lower() in _SIDES}
    sides |= {_LETTERS[word.lower()] for word in words if word in ("L", "R")}
    return sides.pop() if len(sides) == 1 else None


def _hemisphere_of_region(name: str) -> str | None:
    words = [word.lower() for word in _words(name)]
    sides = {_SIDES[word] for word in words if word in _SIDES}
    if len(words) > 1:
        sides |= {_LETTERS[word] for word in (words[0], words[-1]) if word in _LETTERS}
    return sides.pop() if len(sides) == 1 else None


def _words(name: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+", name)
