"""The Natural Scenes Dataset as it lies on disk: betas on a surface, design, images."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.io
from jaxtyping import Float32, Int, Int64, UInt8

from neuroadapter_jax.datasets.records import SPLITS
from neuroadapter_jax.datasets.responses import fill_nan_vertices, mgh_shape, read_mgh, zscore
from neuroadapter_jax.datasets.source import Betas

HEMISPHERES = ("lh", "rh")
NORMALIZATIONS = ("session", "none")
_REPEATS = 3  # the design shows every image up to three times


class NSDSubject:
    """Reads one subject of NSD and checks that its files agree with one another.

    Everything but the betas' values is checked here, from headers and tables, so that a wrong
    folder is answered before any work begins.

    Args:
        root: folder with `nsddata`, `nsddata_betas` and `nsddata_stimuli`, as in NSD's bucket.
        subject: 1 to 8.
        space: surface whose betas are read, such as `fsaverage`.
        beta_version: one of NSD's three sets of betas.
        sessions: sessions to use, counted from 1; by default all that `responses.tsv` lists.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated, or two files disagree.
    """

    def __init__(
        self,
        root: str | Path,
        subject: int = 1,
        space: str = "fsaverage",
        beta_version: str = "betas_fithrf_GLMdenoise_RR",
        sessions: Sequence[int] | None = None,
    ):
        self.root = Path(root)
        self.subject = subject
        self.space = space
        self.beta_version = beta_version

        name = f"subj{subject:02d}"
        self._betas = self.root / "nsddata_betas" / "ppdata" / name / space / beta_version
        experiment = self.root / "nsddata" / "experiments" / "nsd"
        self._design_file = experiment / "nsd_expdesign.mat"
        self._table_file = experiment / "nsd_stim_info_merged.csv"
        self._responses_file = self.root / "nsddata" / "ppdata" / name / "behav" / "responses.tsv"
        self._images_file = self.root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"
        for path in (
            self._design_file,
            self._table_file,
            self._responses_file,
            self._images_file,
            self._betas,
        ):
            _require(path)

        order, image_of, self._shared = self._read_design()
        responses = _read_columns(
            self._responses_file, ["SESSION", "73KID", "10KID"], separator="\t"
        )
        self.sessions = self._choose_sessions(responses, sessions)
        self.num_vertices, self.trials_per_session = self._check_betas()
        trials = self._check_responses(responses, order, image_of)
        self._trial_ids = image_of[order[trials] - 1] - 1
        self._check_table(trials)
        self._check_images()

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        betas = [self._session_file(h, s) for s in self.sessions for h in HEMISPHERES]
        ncsnr = [self._ncsnr_file(h) for h in HEMISPHERES]
        tables = [self._design_file, self._table_file, self._responses_file]
        return [*betas, *ncsnr, *tables, self._images_file]

    @property
    def shared_ids(self) -> Int64[np.ndarray, " shared"]:
        """Images chosen to be shown to all subjects (0-based 73k ids, ascending)."""
        return self._shared

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """Image shown in each trial of the used sessions, in order (0-based 73k id)."""
        return self._trial_ids

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """Noise-ceiling signal-to-noise ratio per vertex, left then right hemisphere."""
        parts = [read_mgh(self._ncsnr_file(h)).reshape(-1) for h in HEMISPHERES]
        return np.concatenate(parts).astype(np.float32)

    def read_session(
        self, session: int, normalize: str = "session"
    ) -> Float32[np.ndarray, "trials n"]:
        """Betas of one session; see `session_betas`."""
        return self.session_betas(session, normalize).betas

    def session_betas(self, session: int, normalize: str = "session") -> Betas:
        """Reads one session, left then right hemisphere.

        With `normalize="session"` each vertex is z-scored over the session's trials:
        z = (x - mean(x)) / std(x), std with divisor N; a constant vertex becomes 0. With
        `"none"` the values stay percent signal change. A vertex that is NaN in the whole
        session (it lies outside the measured volume) becomes 0 and is reported.

        Args:
            session: counted from 1.
            normalize: `"session"` or `"none"`.

        Raises:
            ValueError: another `normalize`, or a NaN that does not fill its vertex's session.
        """
        if normalize not in NORMALIZATIONS:
            raise ValueError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        if session not in self.sessions:
            raise ValueError(
                f"Session {session} is not among the sessions in use ({_span(self.sessions)})."
            )
        betas = np.empty((self.trials_per_session, sum(self.num_vertices)), np.float32)
        nan_vertices = []
        start = 0
        for hemisphere, count in zip(HEMISPHERES, self.num_vertices, strict=True):
            path = self._session_file(hemisphere, session)
            part = betas[:, start : start + count]
            part[...] = read_mgh(path).reshape((count, self.trials_per_session), order="F").T
            nan_vertices.append(start + fill_nan_vertices(part, path))
            if normalize == "session":
                zscore(part)
            start += count
        return Betas(betas, np.concatenate(nan_vertices))

    def images(self, ids: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b y x 3"]:
        """Images by 0-based 73k id, in the order of `ids`."""
        with h5py.File(self._images_file, "r") as file:
            return np.stack([file["imgBrick"][int(i)] for i in ids])

    def _session_file(self, hemisphere: str, session: int) -> Path:
        return self._betas / f"{hemisphere}.betas_session{session:02d}.mgh"

    def _ncsnr_file(self, hemisphere: str) -> Path:
        return self._betas / f"{hemisphere}.ncsnr.mgh"

    def _read_design(self):
        design = scipy.io.loadmat(self._design_file)
        for key in ("masterordering", "subjectim", "sharedix"):
            if key not in design:
                raise ValueError(
                    f"{self._design_file} has no {key!r}; it holds "
                    f"{', '.join(sorted(k for k in design if k[0] != '_'))}. Download it again."
                )
        image_of = design["subjectim"].astype(np.int64)
        if not 1 <= self.subject <= len(image_of):
            raise ValueError(
                f"{self._design_file} describes subjects 1 to {len(image_of)}, not subject "
                f"{self.subject}."
            )
        shared = np.sort(design["sharedix"].astype(np.int64).reshape(-1)) - 1
        order = design["masterordering"].astype(np.int64).reshape(-1)
        return order, image_of[self.subject - 1], shared

    def _choose_sessions(self, responses: pd.DataFrame, sessions: Sequence[int] | None):
        listed = tuple(int(s) for s in np.unique(responses["SESSION"]))
        if sessions is None:
            return listed
        chosen = tuple(sorted({int(s) for s in sessions}))
        unknown = sorted(set(chosen) - set(listed))
        if unknown or not chosen:
            raise ValueError(
                f"Sessions {list(sessions)} were asked for, but {self._responses_file} lists "
                f"{_span(listed)}; choose among those."
            )
        return chosen

    def _check_betas(self) -> tuple[tuple[int, int], int]:
        trials: tuple[int, Path] | None = None
        num_vertices = []
        for hemisphere in HEMISPHERES:
            ncsnr_file = self._ncsnr_file(hemisphere)
            count = int(np.prod(mgh_shape(ncsnr_file)))
            for session in self.sessions:
                path = self._session_file(hemisphere, session)
                if not path.exists():
                    raise FileNotFoundError(
                        f"Session {session} is missing: no {path}, although "
                        f"{self._responses_file.name} lists sessions {_span(self.sessions)}; "
                        f"download it, or name the sessions to use."
                    )
                vertices, _, _, found = mgh_shape(path)
                if vertices != count:
                    raise ValueError(
                        f"{path} has {vertices} vertices but {ncsnr_file.name} beside it has "
                        f"{count}; both must come from the same surface, so download them again."
                    )
                if trials is None:
                    trials = found, path
                if found != trials[0]:
                    raise ValueError(
                        f"{path} has {found} trials but {trials[1].name} has {trials[0]}; all "
                        f"sessions of both hemispheres must have the same number, so download "
                        f"it again."
                    )
            num_vertices.append(count)
        return (num_vertices[0], num_vertices[1]), trials[0]

    def _check_responses(self, responses, order, image_of) -> Int64[np.ndarray, " trials"]:
        """Returns the 0-based number, in the whole experiment, of each trial in use."""
        length = self.trials_per_session
        trials = []
        for session in self.sessions:
            rows = responses[responses["SESSION"] == session]
            if len(rows) != length:
                raise ValueError(
                    f"{self._responses_file} lists {len(rows)} trials in session {session}, but "
                    f"{self._session_file('lh', session).name} holds {length}; one of the two is "
                    f"damaged, so download both again."
                )
            numbers = np.arange(length) + (session - 1) * length
            if numbers[-1] >= len(order):
                raise ValueError(
                    f"{self._design_file} orders {len(order)} trials, but session {session} ends "
                    f"at trial {numbers[-1] + 1}; download it again."
                )
            expected = image_of[order[numbers] - 1]
            wrong = (rows["10KID"].to_numpy() != order[numbers]) | (
                rows["73KID"].to_numpy() != expected
            )
            if wrong.any():
                first = int(np.argmax(wrong))
                raise ValueError(
                    f"{self._responses_file} shows image {int(rows['73KID'].iloc[first])} in trial "
                    f"{first + 1} of session {session}, but {self._design_file.name} shows image "
                    f"{int(expected[first])} (73k ids from 1); they must describe the same "
                    f"experiment, so download both again."
                )
            trials.append(numbers)
        return np.concatenate(trials)

    def _check_table(self, trials: Int64[np.ndarray, " trials"]) -> None:
        columns = [f"subject{self.subject}_rep{k}" for k in range(_REPEATS)]
        table = _read_columns(self._table_file, ["nsdId", "shared1000", *columns])
        ids = table["nsdId"].to_numpy()
        shared = np.sort(ids[table["shared1000"].to_numpy().astype(bool)])
        if not np.array_equal(shared, self._shared):
            odd = np.setxor1d(shared, self._shared)
            raise ValueError(
                f"{self._table_file} and {self._design_file.name} disagree on {len(odd)} shared "
                f"images, the first being nsdId {odd[0] if len(odd) else shared[0]}; download "
                f"both again."
            )
        shown = np.full(trials.max() + 1, -1)
        for column in columns:
            trial = table[column].to_numpy().astype(np.int64) - 1
            used = (trial >= 0) & (trial < len(shown))
            shown[trial[used]] = ids[used]
        wrong = shown[trials] != self._trial_ids
        if wrong.any():
            first = int(np.argmax(wrong))
            said = shown[trials[first]]
            raise ValueError(
                f"{self._table_file} shows {'no image' if said < 0 else f'nsdId {said}'} in trial "
                f"{trials[first] + 1} of subject {self.subject}, but {self._design_file.name} "
                f"shows nsdId {self._trial_ids[first]}; download both again."
            )

    def _check_images(self) -> None:
        path = self._images_file
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not an HDF5 file; download it again.")
        with h5py.File(path, "r") as file:
            if "imgBrick" not in file:
                raise ValueError(f"{path} has no dataset 'imgBrick'; it holds {list(file)}.")
            brick = file["imgBrick"]
            if brick.ndim != 4 or brick.shape[-1] != 3 or brick.dtype != np.uint8:
                raise ValueError(
                    f"imgBrick of {path} is {brick.dtype} of shape {brick.shape}; expected uint8 "
                    f"images [image, y, x, 3]."
                )
            held = len(brick)
        lacking = np.unique(self._trial_ids[self._trial_ids >= held])
        if len(lacking):
            raise ValueError(
                f"{path} holds {held} images, so it lacks "
                f"{len(lacking)} that subject {self.subject} was shown (the first is nsdId "
                f"{lacking[0]}); download the whole file."
            )


class NSDSource:
    """A subject of NSD with a normalisation and splits, as a `Source`.

    Args:
        subject: the reader.
        normalize: see `NSDSubject.session_betas`.
        num_validation: number of validation images.
        seed: determines which images those are.
    """

    name = "nsd"
    regions = None

    def __init__(self, subject: NSDSubject, normalize: str, num_validation: int, seed: int):
        self._reader, self._normalize = subject, normalize
        self._num_validation, self._seed = num_validation, seed
        self.root, self.subject = subject.root, subject.subject
        self.num_vertices, self.blocks = subject.num_vertices, subject.sessions
        self.stimulus_names: dict[int, str] = {}
        self.settings = {
            "space": subject.space,
            "beta_version": subject.beta_version,
            "sessions": list(subject.sessions),
            "normalize": normalize,
            "num_validation": num_validation,
            "seed": seed,
        }
        self.trial_image_ids, self.ncsnr = subject.trial_image_ids, subject.ncsnr
        self.images = subject.images

    @property
    def files(self) -> list[Path]:
        """See `NSDSubject.files`."""
        return self._reader.files

    def read_block(self, session: int) -> Betas:
        """See `NSDSubject.session_betas`."""
        return self._reader.session_betas(session, self._normalize)

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """All trials of an image are in one split; see `prepare.prepare_subject`."""
        shown = np.unique(self.trial_image_ids())
        test = np.intersect1d(shown, self._reader.shared_ids)
        others = np.setdiff1d(shown, test)
        if not 0 < self._num_validation < len(others) or not len(test):
            raise ValueError(
                f"Subject {self.subject} saw {len(test)} shared and {len(others)} other images; "
                f"num_validation is {self._num_validation}, which must be at least 1 and leave "
                f"images for training, and there must be shared images for the test."
            )
        order = np.random.default_rng(self._seed).permutation(others)
        images = (order[self._num_validation :], order[: self._num_validation], test)
        return {
            name: np.flatnonzero(np.isin(self.trial_image_ids(), ids))
            for name, ids in zip(SPLITS, images, strict=True)
        }


def _require(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected NSD's own layout below the data root, so check the "
            f"root, the subject and the space, or download it."
        )


def _read_columns(path: Path, columns: list[str], separator: str = ",") -> pd.DataFrame:
    header = pd.read_csv(path, sep=separator, nrows=0).columns
    missing = [c for c in columns if c not in header]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; download it again.")
    return pd.read_csv(path, sep=separator, usecols=columns)


def _span(sessions: Sequence[int]) -> str:
    contiguous = list(sessions) == list(range(sessions[0], sessions[-1] + 1))
    return f"{sessions[0]} to {sessions[-1]}" if contiguous else ", ".join(map(str, sessions))
