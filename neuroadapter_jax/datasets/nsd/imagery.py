"""NSD-Imagery: what the subjects of NSD saw, and imagined, of 18 targets after the main experiment.

Kneeland et al. 2025 (arXiv 2506.06898) describe it as a benchmark of image reconstruction.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64, UInt8

from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.cortex.surface_files import open_mgh, read_mgh
from neuroadapter_jax.datasets.responses import fill_nan_vertices, mgh_shape, zscore
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.datasets.text_table import read_text_table
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.ranges import Count
from neuroadapter_jax.readers import read_rgb

NORMALIZATIONS = ("run", "session", "none")
# Runs in the order of acquisition, which is that of the columns, with the columns per trial: an
# attention trial has one for its cue and one for its detection.
RUNS = {
    "visA": 1,
    "attA": 2,
    "imgA_1": 1,
    "visB": 1,
    "attB": 2,
    "imgB_1": 1,
    "visC": 1,
    "attC": 2,
    "imgC_1": 1,
    "imgA_2": 1,
    "imgB_2": 1,
    "imgC_2": 1,
}
TRIALS_PER_RUN, REPEATS_PER_RUN = 48, 8
COLUMNS = TRIALS_PER_RUN * sum(RUNS.values())
# The letter of a condition and the file of its target. Set C are words, shown with pictures that
# change and imagined without any, so it has no target image.
TARGETS: dict[str, dict[str, str | None]] = {
    "A": {
        "H": "bar_000.0deg_450L_43W.png",
        "R": "bar_045.0deg_450L_43W.png",
        "V": "bar_090.0deg_450L_43W.png",
        "L": "bar_135.0deg_450L_43W.png",
        "P": "crs_000.0deg_450L_43W.png",
        "E": "crs_045.0deg_450L_43W.png",
    },
    "B": {
        "W": "shared0385_nsd28752.png",
        "K": "shared0413_nsd30857.png",
        "B": "shared0741_nsd53882.png",
        "C": "shared0842_nsd61178.png",
        "D": "shared0907_nsd65873.png",
        "T": "shared0000_nsd00000.png",
    },
    "C": dict.fromkeys("SZMYNF"),
}
# Stimulus ids count the conditions of the sets A, B, C in the order above.
CONDITIONS = tuple((name, letter) for name, letters in TARGETS.items() for letter in letters)
_BUCKET = "s3://natural-scenes-dataset"


class NSDImagery:
    """One subject of NSD-Imagery on a surface, as a `Source`: vision and imagery apart.

    The splits `vision` and `imagery` hold the 12 targets of the sets A and B, `vision_concepts`
    and `imagery_concepts` the 6 of set C, which have no image. A target was shown 8 times in one
    run and imagined 8 times in each of two; its repeats are in the order of acquisition. What a
    trial stands for is its CONDITION: in half of the vision trials the CUE names another target.
    Attention runs are left out.

    With `normalize="run"` each vertex is z-scored over the 48 trials of each run, the way of the
    benchmark; with `"session"` over all vision and imagery trials, as NSD's sessions are; with
    `"none"` responses stay percent signal change, as the released code's imagery loader takes
    them. A vertex that is NaN in a whole run becomes 0 and is counted.

    Args:
        root: folder in the layout of NSD's bucket.
        subject: 1 to 8.
        space: surface of the responses, such as `fsaverage`.
        beta_version: folder of the responses.
        normalize: `"run"`, `"session"` or `"none"`.

    Raises:
        MissingFileError: a file is missing.
        InputError: a file is not as published, or another `normalize`.
    """

    name = "nsd_imagery"
    regions = None

    def __init__(
        self,
        root: str | Path,
        subject: Count = 1,
        space: str = "fsaverage",
        beta_version: str = "nsdimagerybetas_fithrf_GLMdenoise_RR",
        normalize: str = "run",
    ):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self.root, self.subject, self._normalize = Path(root), subject, normalize
        self.settings = {"space": space, "beta_version": beta_version, "normalize": normalize}
        self.blocks = tuple(run for run in RUNS if not run.startswith("att"))
        self.stimulus_names = {i: f"{name}_{c}" for i, (name, c) in enumerate(CONDITIONS)}

        folder = Path("nsddata_betas", "ppdata", f"subj{subject:02d}", space)
        self._betas_files = [
            self._find(folder / beta_version / f"{h}.betas_nsdimagery.mgh") for h in HEMISPHERES
        ]
        main = self.root / folder / beta_version.removeprefix("nsdimagery")
        snr = [main / f"{h}.ncsnr.mgh" for h in HEMISPHERES]
        self._ncsnr_files = snr if all(path.exists() for path in snr) else []
        behaviour = Path("nsddata", "bdata", "nsdimagery")
        self._tables = {
            run: self._find(behaviour / f"nsdimagery_subj{subject:02d}_{run}.tsv")
            for run in self.blocks
        }
        targets = Path("nsddata", "experiments", "nsdimagery", "rawtargetimages")
        files = [(name, TARGETS[name][letter]) for name, letter in CONDITIONS]
        self._image_files = [
            None if file is None else self._find(targets / f"set{name}" / file)
            for name, file in files
        ]
        self.num_vertices = self._check_betas()
        self._trial_ids = np.concatenate([self._conditions(run) for run in self.blocks])
        self._session: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        images = [path for path in self._image_files if path]
        return [*self._betas_files, *self._ncsnr_files, *self._tables.values(), *images]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """Position in `CONDITIONS` of each vision and imagery trial, in order of acquisition."""
        return self._trial_ids

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """Vision and imagery, each of the targets with and of those without an image."""
        vision = np.repeat([run.startswith("vis") for run in self.blocks], TRIALS_PER_RUN)
        concept = np.isin(self._trial_ids, [i for i, f in enumerate(self._image_files) if not f])
        return {
            "vision": np.flatnonzero(vision & ~concept),
            "imagery": np.flatnonzero(~vision & ~concept),
            "vision_concepts": np.flatnonzero(vision & concept),
            "imagery_concepts": np.flatnonzero(~vision & concept),
        }

    def read_block(self, run: str) -> Betas:
        """The responses of a run's 48 trials; see the class for what `normalize` does."""
        betas, nan_vertices = self._read(run)
        if self._normalize == "run":
            zscore(betas)
        elif self._normalize == "session":
            mean, deviation = self._session_statistics()
            betas = ((betas - mean) / deviation).astype(np.float32)
            betas[:, nan_vertices] = 0
        return Betas(betas, nan_vertices)

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """The SNR of the main experiment, where its files are there; else NaN.

        Regions come from the checkpoint, so it only tells what it was.
        """
        if not self._ncsnr_files:
            return np.full(sum(self.num_vertices), np.nan, np.float32)
        parts = [read_mgh(path).reshape(-1) for path in self._ncsnr_files]
        return np.concatenate(parts).astype(np.float32)

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """The targets; None for set C."""
        files = [self._image_files[int(i)] for i in ids]
        return [None if file is None else read_rgb(file) for file in files]

    def _find(self, place: Path) -> Path:
        path = self.root / place
        if not path.exists():
            raise MissingFileError(
                f"{path} does not exist; it is {_BUCKET}/{place.as_posix()} (aws s3 cp "
                f"--no-sign-request), so download it to there or check the root and the subject."
            )
        return path

    def _check_betas(self) -> tuple[int, int]:
        counts = []
        for path in self._betas_files:
            shape = mgh_shape(path)
            if shape[1:] != (1, 1, COLUMNS):
                raise InputError(
                    f"{path} has shape {shape}; expected [vertices, 1, 1, {COLUMNS}], one column "
                    f"per trial of {len(RUNS)} runs and two per attention trial, so download it "
                    f"again."
                )
            counts.append(shape[0])
        for path, count in zip(self._ncsnr_files, counts, strict=False):
            if (found := int(np.prod(mgh_shape(path)))) != count:
                raise InputError(
                    f"{path} has {found} vertices, the responses of NSD-Imagery {count}; both "
                    f"must come from the same surface, so download them again."
                )
        return counts[0], counts[1]

    def _conditions(self, run: str) -> Int64[np.ndarray, " trials"]:
        path, letters = self._tables[run], TARGETS[run[3]]
        # As text: no letter may turn into a number or a missing value.
        table = read_text_table(
            path, "a run of NSD-Imagery", sep="\t", dtype=str, keep_default_na=False
        )
        if missing := {"TRIAL", "CONDITION"} - set(table):
            raise InputError(
                f"{path} has no column {min(missing)!r}; it has {', '.join(map(str, table))}, so "
                f"download "
                f"it again."
            )
        if table["TRIAL"].tolist() != [str(k + 1) for k in range(TRIALS_PER_RUN)]:
            raise InputError(
                f"{path} lists {len(table)} trials; expected the trials 1 to {TRIALS_PER_RUN} in "
                f"order, one for each column of the responses, so download it again."
            )
        counts = table["CONDITION"].value_counts().to_dict()
        if counts != dict.fromkeys(letters, REPEATS_PER_RUN):
            raise InputError(
                f"{path} has the conditions {dict(sorted(counts.items()))}; expected each of "
                f"{', '.join(letters)} {REPEATS_PER_RUN} times (set {run[3]}), so download it "
                f"again."
            )
        return np.array([CONDITIONS.index((run[3], c)) for c in table["CONDITION"]])

    def _read(self, run: str) -> tuple[Float32[np.ndarray, "trials n"], Int64[np.ndarray, " m"]]:
        names = list(RUNS)
        first = TRIALS_PER_RUN * sum(RUNS[name] for name in names[: names.index(run)])
        parts, empty, start = [], [], 0
        for path in self._betas_files:
            # Only the run's columns leave the disk.
            image = open_mgh(path)
            with reading(path, "the betas of NSD-Imagery"):
                columns = np.asarray(image.dataobj[..., first : first + TRIALS_PER_RUN])
            parts.append(columns.reshape(-1, TRIALS_PER_RUN, order="F").T.astype(np.float32))
            empty.append(start + fill_nan_vertices(parts[-1], path))
            start += parts[-1].shape[1]
        return np.concatenate(parts, axis=1), np.concatenate(empty)

    def _session_statistics(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Mean and standard deviation (divisor N) of all trials; 1 where the latter is 0."""
        if self._session is None:
            count = len(self._trial_ids)
            mean = sum(self._read(run)[0].sum(axis=0, dtype=np.float64) for run in self.blocks)
            mean = mean / count
            squares = sum(((self._read(run)[0] - mean) ** 2).sum(axis=0) for run in self.blocks)
            deviation = np.sqrt(squares / count)
            self._session = mean, np.where(deviation > 1e-12, deviation, 1)
        return self._session
