"""BOLD5000's files below one folder, and where what is missing can be fetched."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.readers import read_text

BetaFiles = Literal["rois", "volumes"]
# Task sessions of each subject; the fourth left the study early.
SESSIONS = {1: 15, 2: 15, 3: 15, 4: 9}
ROIS = ("EarlyVis", "LOC", "OPA", "PPA", "RSC")
RECOMMENDED = "TYPED-FITHRF-GLMDENOISE-RR"
RELEASE = "https://figshare.com/articles/dataset/BOLD5000_Release_2_0/14456124"
WEBSITE = "https://bold5000-dataset.github.io/website/download.html"
MASKS = "s3://openneuro.org/ds001499/derivatives/spm"
ROI_ARCHIVE = "BOLD5000_GLMsingle_ROI_betas.zip"
STIMULI = "BOLD5000_Stimuli.zip"
PRESENTED = "Presented_Stimuli"
REPEATED = "repeated_stimuli_113_list.txt"
# Volumes of each subject's betas; a session has 333 or 370 of them, as float32.
_GRIDS = {1: (71, 89, 72), 2: (72, 92, 70), 3: (72, 88, 67), 4: (70, 89, 70)}
_MOST_TRIALS = 370
# Two subjects' masks and betas spell these otherwise.
_SPELLINGS = {"LO": "LOC", "RRSC": "RSC"}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run showed: its session and number from 1, the file, the names in order."""

    session: int
    number: int
    path: Path
    names: tuple[str, ...]


def image_key(name: str) -> str:
    """What the name of a stimulus is matched by, however a list writes it.

    Without folder, suffix, the mark `rep_` of a repeated image and `COCO_train2014_`: lists,
    image files and OpenNeuro's events differ in these.
    """
    stem = Path(name.strip()).name
    stem = stem.removeprefix("rep_").removeprefix("COCO_train2014_")
    return stem.rsplit(".", 1)[0] if Path(stem).suffix.lower() in _IMAGE_SUFFIXES else stem


class Folder:
    """The files below a folder by their names, whatever folders the archives unpack to.

    Args:
        root: the folder.
        subject: 1 to 4, of CSI1 to CSI4.

    Raises:
        InputError: another subject.
    """

    def __init__(self, root: str | Path, subject: int):
        if subject not in SESSIONS:
            raise InputError(
                f"subject is {subject}; BOLD5000 has subjects 1 to {len(SESSIONS)}, CSI1 to "
                f"CSI{len(SESSIONS)}, so choose one of these."
            )
        self.root, self.subject = Path(root), subject
        self.name = f"CSI{subject}"
        self._paths = sorted(
            path
            for path in self.root.rglob("*")
            # What macOS adds to an archive.
            if not path.name.startswith(".") and "__MACOSX" not in path.parts
        )

    def one(self, pattern: str, what: str) -> Path | None:
        """The only file whose name matches; None where there is none.

        Raises:
            InputError: there are several.
        """
        found = list(self._matching(pattern))
        if len(found) > 1:
            raise InputError(
                f"{self.root} holds {len(found)} files of {what}: {found[0][0]} and "
                f"{found[1][0]}; leave one of them."
            )
        return found[0][0] if found else None

    def roi_betas(self, version: str) -> dict[tuple[str, str], Path]:
        """(Side, ROI) -> file of the betas of one ROI; side is LH or RH."""
        pattern = rf"{self.name}_GLMbetas-{re.escape(version)}_allses_(LH|RH)(\w+)\.npy"
        return self._by_roi(pattern, "betas")

    def masks(self) -> dict[tuple[str, str], Path]:
        """(Side, ROI) -> file of the mask of one ROI."""
        return self._by_roi(rf"sub-{self.name}_mask-(LH|RH)(\w+)\.nii\.gz", "masks")

    def session_betas(self, version: str, session: int) -> Path | None:
        """The volumes of one session."""
        pattern = rf"{self.name}_GLMbetas-{re.escape(version)}_ses-{session:02d}\.nii\.gz"
        return self.one(pattern, f"session {session}")

    def runs(self) -> list[Run]:
        """What each run showed, in the order of acquisition, from the presentation lists.

        Raises:
            MissingFileError: there are none.
            InputError: a session or run is missing between others or there twice, or empty.
        """
        found: dict[tuple[int, int], Path] = {}
        for path, match in self._matching(r".*_run(\d+)\.txt"):
            parent = re.fullmatch(rf"{self.name}_sess(\d+)", path.parent.name)
            if parent is None:
                continue
            place = int(parent[1]), int(match[1])
            if place in found:
                raise InputError(
                    f"{path} and {found[place]} are both run {place[1]} of session {place[0]}; "
                    f"leave one of them."
                )
            found[place] = path
        if not found:
            raise MissingFileError(
                f"{self.root} holds no presentation lists of {self.name} "
                f"({self.name}/{self.name}_sess01/..._run01.txt); unpack {STIMULI} of {WEBSITE} "
                f"in it."
            )
        last = max(session for session, _ in found)
        for session in range(1, last + 1):
            numbers = sorted(run for own, run in found if own == session)
            if numbers != list(range(1, len(numbers) + 1)) or not numbers:
                raise InputError(
                    f"{self.root} holds the presentation lists of runs {numbers} of session "
                    f"{session} of {self.name}; expected all runs from 1 on, so unpack {STIMULI} "
                    f"again."
                )
        return [
            Run(session, run, path, read_names(path, "the presentation list of a run"))
            for (session, run), path in sorted(found.items())
        ]

    def images(self) -> dict[str, list[Path]]:
        """`image_key` -> the presented images of that name."""
        found: dict[str, list[Path]] = {}
        for path in self._paths:
            if PRESENTED in path.parts and path.suffix.lower() in _IMAGE_SUFFIXES:
                found.setdefault(image_key(path.name), []).append(path)
        return found

    def _by_roi(self, pattern: str, what: str) -> dict[tuple[str, str], Path]:
        found: dict[tuple[str, str], Path] = {}
        for path, match in self._matching(pattern):
            roi = match[1], _SPELLINGS.get(match[2], match[2])
            if roi in found:
                raise InputError(
                    f"{found[roi]} and {path} are both {what} of {''.join(roi)} of {self.name}; "
                    f"leave one of them."
                )
            found[roi] = path
        return found

    def _matching(self, pattern: str) -> Iterator[tuple[Path, re.Match[str]]]:
        for path in self._paths:
            if match := re.fullmatch(pattern, path.name):
                yield path, match


def read_names(path: Path, expected: str) -> tuple[str, ...]:
    """The names in a list of one name per line.

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no text, or names nothing.
    """
    text = read_text(path, expected)
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not names:
        raise InputError(f"{path} names no stimulus; expected {expected}; unpack {STIMULI} again.")
    return names


def fetching_plan(
    folder: Folder,
    betas: BetaFiles,
    version: str,
    rois: Sequence[str],
    sessions: Sequence[int] | None,
) -> tuple[list[str], bool]:
    """What is here, what is missing and where it can be fetched, as lines to print.

    Args:
        folder: of the subject; need not exist.
        betas: the ROIs' arrays or the sessions' volumes.
        version: of the betas.
        rois: names without side.
        sessions: of the volumes; None for all.

    Returns:
        The lines, and whether everything that is needed is here.
    """
    name = folder.name
    have: dict[str, bool] = {}
    steps: list[str] = []
    regions = [(side, roi) for roi in rois for side in ("LH", "RH")]
    if betas == "rois":
        arrays = folder.roi_betas(version)
        lacking = ["".join(region) for region in regions if region not in arrays]
        have[f"the betas of {name}'s ROIs"] = not lacking
        if lacking:
            steps.append(
                f"{ROI_ARCHIVE} (of all subjects; lacking here: {', '.join(lacking)}), from "
                f"{RELEASE}"
            )
    else:
        wanted = sessions or range(1, SESSIONS[folder.subject] + 1)
        lacking = [f"{s:02d}" for s in wanted if folder.session_betas(version, s) is None]
        have[f"the betas of {len(wanted)} sessions of {name}"] = not lacking
        if lacking:
            size = 4 * math.prod(_GRIDS[folder.subject]) * _MOST_TRIALS
            steps.append(
                f"{name}_GLMbetas-{version}_ses-NN.nii.gz of {len(lacking)} sessions "
                f"({', '.join(lacking)}; up to {size / 1e9:.2f} GB each before compression), from "
                f"{RELEASE}"
            )
        masks = folder.masks()
        lacking = ["".join(region) for region in regions if region not in masks]
        have[f"the masks of {name}'s ROIs"] = not lacking
        if lacking:
            place = folder.root / f"sub-{name}"
            steps.append(
                f"the masks of {', '.join(lacking)}, by `aws s3 sync --no-sign-request "
                f"{MASKS}/sub-{name} {place}`"
            )
    have |= _stimuli(folder)
    if not all(have[what] for what in _stimuli(folder)):
        steps.append(
            f"{STIMULI} with the images, from {WEBSITE} (the archive of this name in figshare's "
            f"record 6459449 has the lists without the images)"
        )
    lines = [f"{sum(have.values())} of {len(have)} parts of {name} are in {folder.root}."]
    lines += [f"  {'here' if found else 'missing'}: {what}" for what, found in have.items()]
    if steps:
        lines.append(f"To fetch, and to unpack anywhere below {folder.root}:")
        lines += [f"  {step}" for step in steps]
        lines.append(
            "What a download's size is, its page says. The fMRI data are CC0; the images keep the "
            "terms of ImageNet, COCO and SUN."
        )
    return lines, not steps


def _stimuli(folder: Folder) -> Mapping[str, bool]:
    try:
        lists = bool(folder.runs())
    except MissingFileError:
        lists = False
    return {
        f"the presentation lists of {folder.name}": lists,
        "the list of the 113 repeated images": folder.one(re.escape(REPEATED), REPEATED)
        is not None,
        "the presented images": bool(folder.images()),
    }
