"""MOSAIC: eight public fMRI datasets, preprocessed alike, as single-trial betas on fsLR.

Lahner, Deb, Ratan Murty and Oliva 2025 (bioRxiv 2025.11.28.690060). The layout is that of
`create_hdf5_pkl.py` in github.com/blahner/mosaic-preprocessing, which wrote the files; names and
places are those of `mosaic/constants.py` in github.com/murtylab/mosaic-dataset, which fetches them.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.surface_files import read_gifti
from neuroadapter_jax.datasets.bold5000_files import image_key
from neuroadapter_jax.datasets.hdf5 import hdf5_dataset, open_hdf5
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.ranges import Count, Seed
from neuroadapter_jax.readers import read_rgb

Name = Literal["BMD", "BOLD5000", "deeprecon", "GOD", "HAD", "NOD", "NSD", "THINGS"]
# Of a trial; of them the cortex's first, left then right; vertices of a whole hemisphere.
GRAYORDINATES, CORTEX, VERTICES = 91_282, (29_696, 29_716), 32_492
BUCKET = "s3://mosaicfmri/fMRIPrepv23_2_0/task_fMRI/betas/GLMsinglev1_2"
_EXPECTED = "a subject's file of MOSAIC (.hdf5)"
_BLOCK = 400  # trials read at once
# In the bucket; subjects; where the stimuli come from, which MOSAIC does not hand out.
_DATASETS = {
    "BMD": ("BOLDMomentsDataset", 10, "github.com/blahner/BOLDMomentsDataset"),
    "BOLD5000": ("BOLD5000", 4, "bold5000-dataset.github.io/website/download.html"),
    "deeprecon": ("deeprecon", 3, "github.com/KamitaniLab/DeepImageReconstruction"),
    "GOD": ("GenericObjectDecoding", 5, "github.com/KamitaniLab/GenericObjectDecoding"),
    "HAD": ("HumanActionsDataset", 30, "openneuro.org/datasets/ds004488"),
    "NOD": ("NaturalObjectDataset", 30, "openneuro.org/datasets/ds004496"),
    "NSD": ("NaturalScenesDataset", 8, "naturalscenesdataset.org"),
    "THINGS": ("THINGS", 3, "osf.io/jum2f"),
}
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


@dataclasses.dataclass(frozen=True)
class _Trial:
    """One dataset of the file: its key, the stimulus without suffix, train or test, the repeat."""

    key: str
    stimulus: str
    phase: str
    repeat: int


class Mosaic:
    """One subject of one dataset of MOSAIC, as a `Source` over both hemispheres of fsLR.

    A trial is one array of 91,282 grayordinates: the vertices of the left cortex, those of the
    right, both without the medial wall, then voxels, which are not read. fMRIPrep took the vertices
    that TemplateFlow's labels `nomedialwall` of fsLR mark, so these two files give every vertex its
    place; a parcellation of the whole surface (32,492 vertices per hemisphere) then applies.

    The responses are used as they are stored: each vertex was scaled by mean and standard deviation
    (divisor N - 1) of the training trials of a group of sessions. What is NaN or infinite in a
    trial, and is listed as such in the file, becomes 0.

    Splits: `test` is the phase `test` of the file, `train` and `validation` the phase `train`;
    validation stimuli are sampled by `seed`.

    Args:
        root: folder below which the file lies, `sub-01_BOLD5000.hdf5`.
        subject: from 1.
        dataset: as the file's name has it.
        cortex: the left and the right label file of fsLR with 32k vertices, not 0 on the cortex:
            `tpl-fsLR_den-32k_hemi-L_desc-nomedialwall_dparc.label.gii` and hemi-R.
        images: folder with the stimuli, anywhere below it, named as in the file; None without.
        num_validation: stimuli set aside from the training stimuli.
        seed: determines which.

    Raises:
        MissingFileError: a file, or the image of a training stimulus, is missing.
        InputError: the files do not fit together, or there is no such subject.
    """

    regions = None

    def __init__(
        self,
        root: str | Path,
        cortex: Sequence[str | Path],
        subject: Count = 1,
        dataset: Name = "BOLD5000",
        images: str | Path | None = None,
        num_validation: Count = 240,
        seed: Seed = 0,
    ):
        self.root, self.subject = Path(root), subject
        self.name = f"mosaic_{dataset.lower()}"
        self._num_validation, self._seed = num_validation, seed
        self._path = _find(self.root, subject, dataset)
        self._cortex = [Path(path) for path in cortex]
        if len(self._cortex) != 2:
            raise InputError(
                f"cortex names {len(self._cortex)} files; expected two, the left hemisphere's and "
                f"the right's."
            )
        masks = [_mask(path, count) for path, count in zip(self._cortex, CORTEX, strict=True)]
        self.num_vertices = (VERTICES, VERTICES)
        self._places = np.flatnonzero(np.concatenate(masks))
        self._trials = _trials(self._path, subject, dataset)
        names = sorted({trial.stimulus for trial in self._trials})
        self.stimulus_names = dict(enumerate(names))
        number = {name: i for i, name in self.stimulus_names.items()}
        self._trial_ids = np.array([number[trial.stimulus] for trial in self._trials])
        self._test = np.array([trial.phase == "test" for trial in self._trials])
        both = np.intersect1d(self._trial_ids[self._test], self._trial_ids[~self._test])
        if len(both) or not self._test.any() or self._test.all():
            raise InputError(
                f"{self._path} has {self._test.sum()} trials of the test and {(~self._test).sum()} "
                f"of training, and {len(both)} stimuli in both; expected some of each and no "
                f"stimulus in both, so download it again."
            )
        self.blocks = tuple(range(0, len(self._trials), _BLOCK))
        self._images = self._find_images(images)
        self.settings = {
            "space": "fsLR32k",
            "normalize": "as_stored",
            "mosaic": dataset,
            "num_validation": num_validation,
            "seed": seed,
        }

    @staticmethod
    def fetching_plan(
        root: str | Path,
        cortex: Sequence[str | Path],
        subject: Count = 1,
        dataset: Name = "BOLD5000",
        images: str | Path | None = None,
        **_: object,
    ) -> tuple[list[str], bool]:
        """What is missing and where it can be fetched.

        Args:
            root: as for the class; need not exist.
            cortex: the two label files.
            subject: from 1.
            dataset: as the file's name has it.
            images: folder with the stimuli; None without.

        Returns:
            Lines to print, and whether everything that is needed is there.

        Raises:
            InputError: there is no such subject, or its file is there twice.
        """
        folder, _count, source = _DATASETS[dataset]
        file = f"sub-{subject:02d}_{dataset}.hdf5"
        steps = []
        try:
            _find(Path(root), subject, dataset)
        except MissingFileError:
            place = f"{BUCKET}/{folder}/{file} {Path(root) / file}"
            steps.append(f"aws s3 cp --no-sign-request {place}")
        lacking = [path for path in cortex if not Path(path).exists()]
        steps += [
            f"{path}, from TemplateFlow (templateflow.org), template fsLR" for path in lacking
        ]
        if images is not None and not Path(images).is_dir():
            steps.append(f"{images}, a folder of the stimuli, from {source}")
        count = 3 - (images is None)
        missing = (len(steps) - len(lacking)) + bool(lacking)
        lines = [f"{count - missing} of {count} parts of {file.removesuffix('.hdf5')} are there."]
        if steps:
            lines += ["To fetch:", *(f"  {step}" for step in steps)]
            lines.append(
                "What a download's size is, its page says. Each dataset keeps the terms of its "
                "authors; NSD's have to be accepted first."
            )
        return lines, not steps

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        return [self._path, *self._cortex, *self._images.values()]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """The stimulus of each trial, a key of `stimulus_names`; trials are sorted by stimulus."""
        return self._trial_ids

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """The trials of the phase test, and those of the phase train in two splits, by stimulus."""
        others = np.unique(self._trial_ids[~self._test])
        if not 0 < self._num_validation < len(others):
            raise InputError(
                f"num_validation is {self._num_validation}, but {self._path} has {len(others)} "
                f"training stimuli; it must be at least 1 and leave stimuli for training."
            )
        held_out = np.random.default_rng(self._seed).permutation(others)[: self._num_validation]
        validation = np.isin(self._trial_ids, held_out)
        return {
            "train": np.flatnonzero(~self._test & ~validation),
            "validation": np.flatnonzero(validation),
            "test": np.flatnonzero(self._test),
        }

    def read_block(self, block: int) -> Betas:
        """Some hundred trials on the whole surface, 0 in the medial wall."""
        trials = self._trials[block : block + _BLOCK]
        betas = np.zeros((len(trials), sum(self.num_vertices)), np.float32)
        empty = np.ones(len(self._places), bool)
        with open_hdf5(self._path, _EXPECTED) as file:
            for row, trial in zip(betas, trials, strict=True):
                values, broken = _cortical(file, trial.key, len(self._places))
                values[broken] = 0
                empty &= broken
                row[self._places] = values
        return Betas(betas, self._places[np.flatnonzero(empty)])

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """SNR from the file's noise ceiling of single test trials; NaN where it has none.

        noise ceiling = 100 ncsnr^2 / (ncsnr^2 + 1),   so   ncsnr = sqrt(c / (100 - c))
        """
        result = np.full(sum(self.num_vertices), np.nan, np.float32)
        with open_hdf5(self._path, _EXPECTED) as file:
            found = [key for key in file.get("noiseceilings", {}) if "phase-test_n-1_" in key]
            if not found:
                return result
            ceiling = _values(hdf5_dataset(file, f"noiseceilings/{found[0]}"))
        share = np.where((ceiling >= 0) & (ceiling < 100), ceiling, np.nan)
        result[self._places] = np.sqrt(share / (100 - share))[: len(self._places)]
        return result

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """The stimuli; None where the folder has none of that name."""
        files = [self._images.get(int(i)) for i in ids]
        return [None if file is None else read_rgb(file) for file in files]

    def _find_images(self, folder: str | Path | None) -> dict[int, Path]:
        if folder is None:
            return {}
        found: dict[str, list[Path]] = {}
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith("."):
                found.setdefault(image_key(path.name), []).append(path)
        keys = {i: image_key(name) for i, name in self.stimulus_names.items()}
        trained = {keys[i] for i in self._trial_ids[~self._test]}
        if missing := sorted(trained - found.keys()):
            raise MissingFileError(
                f"{folder} lacks the images of {len(missing)} of {len(trained)} training stimuli, "
                f"the first being {missing[0]}; it holds {len(found)} images, so name the folder "
                f"of the dataset's own stimuli, or set images to None."
            )
        for key in keys.values():
            if len(found.get(key, ())) > 1:
                raise InputError(
                    f"{found[key][0]} and {found[key][1]} are both the image {key}; leave one, or "
                    f"name the folder of one of them."
                )
        return {i: found[key][0] for i, key in keys.items() if key in found}


def _find(root: Path, subject: int, dataset: str) -> Path:
    folder, count, _source = _DATASETS[dataset]
    name = f"sub-{subject:02d}_{dataset}"
    if subject > count:
        raise InputError(
            f"subject is {subject}, but MOSAIC has {count} subjects of {dataset}; choose one of 1 "
            f"to {count}."
        )
    # The bucket's name, or the portal's, which has a checksum behind it.
    pattern = rf"{name}(_crc32-\w+)?\.hdf5"
    found = [path for path in sorted(root.rglob("*.hdf5")) if re.fullmatch(pattern, path.name)]
    if not found:
        raise MissingFileError(
            f"{root} holds no {name}.hdf5; get it by `aws s3 cp --no-sign-request "
            f"{BUCKET}/{folder}/{name}.hdf5 {root / f'{name}.hdf5'}`."
        )
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} are both of subject {subject}; leave one.")
    return found[0]


def _mask(path: Path, count: int) -> Bool[np.ndarray, " vertices"]:
    """Where a hemisphere has cortex; the number of vertices tells the hemispheres apart."""
    image = read_gifti(path)
    with reading(path, "TemplateFlow's labels nomedialwall of fsLR with 32k vertices (.label.gii)"):
        (array,) = image.darrays
        mask: np.ndarray = np.asarray(array.data).reshape(-1) != 0
    if len(mask) != VERTICES or mask.sum() != count:
        raise InputError(
            f"{path} marks {mask.sum()} of {len(mask)} vertices; expected {count} of {VERTICES}, "
            f"as TemplateFlow's labels nomedialwall of fsLR do, the left file first."
        )
    return mask


def _trials(path: Path, subject: int, dataset: str) -> list[_Trial]:
    """The trials of a file, by stimulus and repeat, whatever order they are stored in."""
    form = re.compile(
        rf"sub-{subject:02d}_{dataset}_stimulus-(.+)_phase-(train|test)_rep-(\d+)", re.DOTALL
    )
    with open_hdf5(path, _EXPECTED) as file:
        own = str(file.attrs.get("subjectID", ""))
        group = file.get("betas")
        if not isinstance(group, h5py.Group) or own != f"sub-{subject:02d}":
            raise ValueError(
                f"it says that it is of subject {own!r}, and has the parts "
                f"{', '.join(sorted(file))}; a file of sub-{subject:02d} has betas"
            )
        trials = []
        for key in group:
            match = form.fullmatch(key)
            if match is None:
                raise ValueError(f"a trial is called {key!r}")
            trials.append(_Trial(f"betas/{key}", match[1], match[2], int(match[3])))
    return sorted(trials, key=lambda trial: (trial.stimulus, trial.phase, trial.repeat))


def _values(found: h5py.Dataset) -> Float32[np.ndarray, " grayordinates"]:
    if found.shape != (GRAYORDINATES,) or found.dtype.kind != "f":
        raise ValueError(
            f"{found.name} holds {found.dtype} of shape {found.shape}, not {GRAYORDINATES} numbers"
        )
    with np.errstate(over="ignore"):  # what becomes infinite is compared with the file's own list
        values: np.ndarray = found[()].astype(np.float32)
    return values


def _cortical(file: h5py.File, key: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The values of one trial on the cortex, and which of them are NaN or infinite."""
    found = hdf5_dataset(file, key)
    values = _values(found)
    broken = ~np.isfinite(values)
    listed = np.zeros(GRAYORDINATES, bool)
    indices = np.asarray(found.attrs.get("nan_indices", ()))
    if indices.size:
        if indices.dtype.kind not in "iu" or indices.min() < 0 or indices.max() >= GRAYORDINATES:
            raise ValueError(f"{key} lists what is NaN as {indices.dtype}")
        listed[indices] = True
    if (broken != listed).any():
        raise ValueError(
            f"{key} has {broken.sum()} values that are NaN or infinite, but lists {listed.sum()}"
        )
    return values[:count], broken[:count]
