"""BOLD5000: some 5,000 photographs of scenes, things and animals, seen by four subjects at 3 T.

Chang, Pyles, Marcus, Gupta, Tarr and Aminoff 2019 (Scientific Data 6:49; OpenNeuro ds001499), with
the single-trial betas of Release 2.0 (figshare 14456124, CC0). docs/howto/bold5000.md says which
public document or code each statement about the files comes from.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.datasets.bold5000_betas import Responses, ROIArrays, SessionVolumes
from neuroadapter_jax.datasets.bold5000_files import (
    RECOMMENDED,
    REPEATED,
    ROIS,
    STIMULI,
    WEBSITE,
    BetaFiles,
    Folder,
    Run,
    fetching_plan,
    image_key,
    read_names,
)
from neuroadapter_jax.datasets.responses import zscore
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.ranges import Count, Seed
from neuroadapter_jax.readers import read_rgb

NORMALIZATIONS = ("session", "run", "none")


class BOLD5000:
    """One subject of BOLD5000, as a `Source`.

    Features are the voxels of the ROIs EarlyVis, LOC, OPA, PPA and RSC, ROI by ROI, and a region is
    a ROI of one hemisphere, named as published: LHEarlyVis, RHEarlyVis, LHLOC, ... A voxel that two
    ROIs share is a feature of each. A trial is a single presentation; the 37 trials of a run and
    the runs of a session follow the order of acquisition.

    Splits: `test` holds the images of `repeated_stimuli_113_list.txt`, which were shown several
    times, `train` and `validation` all others; validation images are sampled by `seed`. CSI4 left
    after nine sessions and saw some of the 113 images once only.

    Args:
        root: folder below which the archives are unpacked, in whatever folders.
        subject: 1 to 4, of CSI1 to CSI4.
        betas: `"rois"` reads the ROIs' arrays (`..._allses_LHPPA.npy`), `"volumes"` the
            sessions' volumes (`..._ses-01.nii.gz`) within the masks of OpenNeuro's ds001499.
        beta_version: in the files' names; the authors recommend the default.
        rois: names without side, in the order of the tokens; None for all five.
        sessions: counted from 1; None for all that the presentation lists have.
        normalize: `"session"`, z-scored per voxel and session, as the authors recommend; `"run"`,
            per voxel and run; or `"none"`.
        num_validation: images set aside from the training images.
        seed: determines which.

    Raises:
        MissingFileError: a file, or the image of a stimulus, is missing.
        InputError: the files do not fit together, or an unknown ROI, session or normalisation.
    """

    name = "bold5000"

    def __init__(
        self,
        root: str | Path,
        subject: Count = 1,
        betas: BetaFiles = "rois",
        beta_version: str = RECOMMENDED,
        rois: Sequence[str] | None = None,
        sessions: tuple[Count, ...] | None = None,
        normalize: str = "session",
        num_validation: Count = 240,
        seed: Seed = 0,
    ):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self.root, self.subject = Path(root), subject
        self._folder = Folder(root, subject)
        self._normalize, self._num_validation, self._seed = normalize, num_validation, seed
        every = self._folder.runs()
        self._runs = _of_sessions(every, sessions, self._folder)
        self.blocks = tuple(dict.fromkeys(run.session for run in self._runs))
        chosen = tuple(rois) if rois is not None else ROIS
        self._responses: Responses = (
            ROIArrays(self._folder, beta_version, chosen, every)
            if betas == "rois"
            else SessionVolumes(self._folder, beta_version, chosen, self._runs)
        )
        self.regions = self._responses.regions
        self.num_vertices = self.regions.num_vertices

        shown = [image_key(name) for run in self._runs for name in run.names]
        self._list = self._read_list(every)
        self._repeated_file = self._file_of_repeated()
        repeated = {image_key(n) for n in read_names(self._repeated_file, "the repeated images")}
        images = self._find_images(shown)
        # The number of an image is its place among all presented images, so subjects agree.
        every_key = sorted(set(self._folder.images()) | set(shown))
        number = {key: i for i, key in enumerate(every_key)}
        self._trial_ids = np.array([number[key] for key in shown])
        self._images = {number[key]: path for key, path in images.items()}
        self._test_ids = np.array(sorted(number[key] for key in set(shown) & repeated), np.int64)
        if not len(self._test_ids):
            raise InputError(
                f"{self._repeated_file} lists {len(repeated)} images, none of which "
                f"{self._folder.name} was shown; expected the repeated images of the presentation "
                f"lists, so unpack {STIMULI} again."
            )
        self.stimulus_names = {i: path.stem for i, path in self._images.items()}
        self.settings = {
            "space": "voxels",
            "beta_version": beta_version,
            "betas": betas,
            "rois": list(chosen),
            "sessions": list(self.blocks),
            "normalize": normalize,
            "num_validation": num_validation,
            "seed": seed,
        }

    @staticmethod
    def fetching_plan(
        root: str | Path,
        subject: Count = 1,
        betas: BetaFiles = "rois",
        beta_version: str = RECOMMENDED,
        rois: Sequence[str] | None = None,
        sessions: tuple[Count, ...] | None = None,
        **_: object,
    ) -> tuple[list[str], bool]:
        """What of a subject is below `root`, what is missing and where it can be fetched.

        Args:
            root: as for the class; need not exist.
            subject: 1 to 4.
            betas: which files of betas.
            beta_version: in the files' names.
            rois: names without side; None for all five.
            sessions: of the volumes; None for all.

        Returns:
            Lines to print, and whether everything that is needed is there.

        Raises:
            InputError: another subject, or files that are there twice.
        """
        return fetching_plan(Folder(root, subject), betas, beta_version, rois or ROIS, sessions)

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        lists = [run.path for run in self._runs] + ([self._list] if self._list else [])
        return [*self._responses.files, *lists, self._repeated_file, *self._images.values()]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """The stimulus of each trial: its place among all presented images, by their names."""
        return self._trial_ids

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """The trials of the repeated images, and all others in two splits, by image."""
        test = np.isin(self._trial_ids, self._test_ids)
        others = np.unique(self._trial_ids[~test])
        if not 0 < self._num_validation < len(others):
            raise InputError(
                f"num_validation is {self._num_validation}, but {self._folder.name} saw "
                f"{len(others)} images that are not among the repeated ones; it must be at least "
                f"1 and leave images for training."
            )
        held_out = np.random.default_rng(self._seed).permutation(others)[: self._num_validation]
        validation = np.isin(self._trial_ids, held_out)
        return {
            "train": np.flatnonzero(~test & ~validation),
            "validation": np.flatnonzero(validation),
            "test": np.flatnonzero(test),
        }

    def read_block(self, block: int) -> Betas:
        """The responses of one session."""
        betas, nan_voxels = self._responses.read(block)
        if self._normalize == "session":
            zscore(betas)
        elif self._normalize == "run":
            start = 0
            for run in self._runs:
                if run.session == block:
                    zscore(betas[start : start + len(run.names)])
                    start += len(run.names)
        return Betas(betas, nan_voxels)

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """SNR from the repeats of the test images, z-scored within each session.

        See `NoiseCeiling`; over the images that were shown the most common number of times, four
        for CSI1 to CSI3, as the authors' own code does it. NaN where no image was repeated.
        """
        test = np.isin(self._trial_ids, self._test_ids)
        repeats = Counter(np.unique(self._trial_ids[test], return_counts=True)[1].tolist())
        repeats.pop(1, None)
        if not repeats:
            return np.full(sum(self.num_vertices), np.nan, np.float32)
        common = max(repeats, key=lambda k: (repeats[k], k))
        # Training images get numbers of their own: a repeat among them does not count.
        ids = np.where(test, self._trial_ids, -1 - np.arange(len(test)))
        ceiling = NoiseCeiling(ids, sum(self.num_vertices), common)
        for session in self.blocks:
            ceiling.add(self._responses.read(session)[0].astype(np.float64))
        return ceiling.ncsnr()

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """The images as they were presented."""
        return [read_rgb(self._images[int(i)]) for i in ids]

    def _read_list(self, every: Sequence[Run]) -> Path | None:
        """The release's own list of all trials, once it agrees with the presentation lists."""
        name = f"{self._folder.name}_imgnames.txt"
        path = self._folder.one(re.escape(name), name)
        if path is None:
            return None
        listed = [image_key(n) for n in read_names(path, "the stimulus of each trial")]
        shown = [image_key(name) for run in every for name in run.names]
        if len(listed) != len(shown):
            raise InputError(
                f"{path} names {len(listed)} stimuli, but the presentation lists have "
                f"{len(shown)} trials; expected one name per trial, so get both again."
            )
        for i, (one, other) in enumerate(zip(listed, shown, strict=True)):
            if one != other:
                raise InputError(
                    f"{path} names {one} in line {i + 1}, the presentation lists {other}; expected "
                    f"the same order of trials, so take both of the same subject."
                )
        return path

    def _file_of_repeated(self) -> Path:
        path = self._folder.one(re.escape(REPEATED), REPEATED)
        if path is None:
            raise MissingFileError(
                f"{self.root} holds no {REPEATED}, the list of the test images; unpack {STIMULI} "
                f"of {WEBSITE} in it."
            )
        return path

    def _find_images(self, shown: Sequence[str]) -> dict[str, Path]:
        found, wanted = self._folder.images(), sorted(set(shown))
        if missing := [key for key in wanted if key not in found]:
            raise MissingFileError(
                f"{self.root} lacks the images of {len(missing)} of {len(wanted)} stimuli, the "
                f"first being {missing[0]}; expected them in a folder Presented_Stimuli, so unpack "
                f"{STIMULI} of {WEBSITE} in it."
            )
        for key in wanted:
            if len(found[key]) > 1:
                raise InputError(
                    f"{found[key][0]} and {found[key][1]} are both the image {key}; leave one."
                )
        return {key: found[key][0] for key in wanted}


def _of_sessions(every: Sequence[Run], sessions: Sequence[int] | None, folder: Folder) -> list[Run]:
    last = every[-1].session
    if sessions is None:
        return list(every)
    if unknown := [s for s in sessions if s > last]:
        raise InputError(
            f"sessions is {tuple(sessions)}, but {folder.name} has no session {unknown[0]}; name "
            f"some of 1 to {last}."
        )
    return [run for run in every if run.session in set(sessions)]
