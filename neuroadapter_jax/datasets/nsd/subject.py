"""The Natural Scenes Dataset as it lies on disk: betas on a surface, design, images."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import scipy.io
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.datasets.normalization import NORMALIZATIONS, Moments, Scaling
from neuroadapter_jax.datasets.nsd import files as nsd_files
from neuroadapter_jax.datasets.nsd.files import HEMISPHERES, MGH_HEADER_BYTES, where_from
from neuroadapter_jax.datasets.responses import mgh_shape, read_mgh
from neuroadapter_jax.datasets.source import Betas

_REPEATS = 3  # the design shows every image up to three times
_TRIAL_BLOCK = 25
# As MGH files hold it: big-endian, the vertices of a trial side by side.
_ON_DISK = np.dtype(">f4")


@dataclasses.dataclass(frozen=True)
class Design:
    """The experiment of all subjects, with ids from 0.

    Attributes:
        order: 10k id of each trial, one sequence for all subjects.
        image_of: 73k id of each subject's 10k ids.
        shared: 73k ids of the images chosen for all subjects, ascending.
    """

    order: Int64[np.ndarray, " trials"]
    image_of: Int64[np.ndarray, "subjects images"]
    shared: Int64[np.ndarray, " shared"]

    def images(self, subject: int) -> Int64[np.ndarray, " trials"]:
        """73k id of each trial of a subject (counted from 1), had it been through all sessions."""
        return self.image_of[subject - 1][self.order]


@dataclasses.dataclass(frozen=True)
class SessionScaling:
    """What one session's trials are normalised by.

    Attributes:
        stored: for the stored responses; None where they stay as measured.
        session: over all trials of the session, for the noise ceiling.
        nan_vertices: vertices without data in this session.
    """

    stored: Scaling | None
    session: Scaling
    nan_vertices: Int64[np.ndarray, " m"]


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

        self._betas = self.root / nsd_files.betas_folder(subject, space, beta_version)
        self._design_file = self.root / nsd_files.DESIGN
        self._table_file = self.root / nsd_files.TABLE
        self._responses_file = self.root / nsd_files.responses_path(subject)
        self._images_file = self.root / nsd_files.IMAGES
        for path in (
            self._design_file,
            self._table_file,
            self._responses_file,
            self._images_file,
            self._betas,
        ):
            _require(path)

        self.design = self._read_design()
        responses = _read_columns(
            self._responses_file, ["SESSION", "RUN", "73KID", "10KID"], separator="\t"
        )
        self.listed_sessions = tuple(int(s) for s in np.unique(responses["SESSION"]))
        self.sessions = self._choose_sessions(sessions)
        self.num_vertices, self.trials_per_session = self._check_betas()
        self.trial_numbers, self._runs = self._check_responses(responses)
        self._trial_ids = self.design.images(subject)[self.trial_numbers]
        self._check_table()
        self.num_images = self._check_images()

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        ncsnr = [self._ncsnr_file(h) for h in HEMISPHERES]
        tables = [self._design_file, self._table_file, self._responses_file]
        return [*self.betas_files, *ncsnr, *tables, self._images_file]

    @property
    def betas_files(self) -> list[Path]:
        """The files of the sessions in use."""
        return [self.session_file(h, s) for s in self.sessions for h in HEMISPHERES]

    @property
    def shared_ids(self) -> Int64[np.ndarray, " shared"]:
        """Images chosen to be shown to all subjects (0-based 73k ids, ascending)."""
        return self.design.shared

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

    def session_betas(
        self,
        session: int,
        normalize: str = "session",
        training: Bool[np.ndarray, " trials"] | None = None,
    ) -> Betas:
        """Reads one session, left then right hemisphere.

        Each vertex is z-scored, z = (x - mean) / std with divisor N, by the statistics that
        `session_scaling` names; with `"none"` the values stay percent signal change. A constant
        vertex becomes 0. A vertex that is NaN in the whole session (it lies outside the measured
        volume) becomes 0 and is reported.

        Args:
            session: counted from 1.
            normalize: one of `NORMALIZATIONS`.
            training: see `session_scaling`.

        Raises:
            ValueError: as `session_scaling`.
        """
        scaling = self.session_scaling(session, normalize, training)
        betas = np.empty((self.trials_per_session, sum(self.num_vertices)), np.float32)
        start = 0
        for hemisphere, count in zip(HEMISPHERES, self.num_vertices, strict=True):
            trial = 0
            for block in self._blocks(hemisphere, session):
                betas[trial : trial + len(block), start : start + count] = block
                trial += len(block)
            start += count
        if scaling.stored is not None:
            for trial, row in enumerate(betas):
                scaling.stored.apply(row, trial)
        betas[:, scaling.nan_vertices] = 0
        return Betas(betas, scaling.nan_vertices)

    def session_scaling(
        self,
        session: int,
        normalize: str = "session",
        training: Bool[np.ndarray, " trials"] | None = None,
    ) -> SessionScaling:
        """Statistics of one session, from one pass over its files.

        Args:
            session: counted from 1.
            normalize: `"session"`: over all trials of the session; `"run"`: over those of each
                run; `"train-stats"`: over the session's training trials; or `"none"`.
            training: the session's training trials, needed for `"train-stats"` only.

        Raises:
            ValueError: another `normalize`, a session that is not in use, a NaN that does not fill
                its vertex's session, or a session without training trials.
        """
        if normalize not in NORMALIZATIONS:
            raise ValueError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        if session not in self.sessions:
            raise ValueError(
                f"Session {session} is not among the sessions in use ({_span(self.sessions)})."
            )
        group = np.zeros(self.trials_per_session, np.int64)
        counted = np.ones(self.trials_per_session, bool)
        own = normalize in ("run", "train-stats")
        if normalize == "run":
            group = self._runs[self.sessions.index(session)]
        elif normalize == "train-stats":
            if training is None or not training.any():
                raise ValueError(
                    f"Session {session} of subject {self.subject} holds no training trial, so "
                    f"normalize='train-stats' has no statistics for it; choose another split, "
                    f"other sessions or another normalisation."
                )
            counted = training
        parts, nan_vertices, start = [], [], 0
        for hemisphere, count in zip(HEMISPHERES, self.num_vertices, strict=True):
            over_session = Moments(np.zeros_like(group), np.ones_like(counted), count)
            over_group = Moments(group, counted, count) if own else None
            for block in self._blocks(hemisphere, session):
                over_session.add(block)
                if over_group is not None:
                    over_group.add(block)
            scaling = over_session.scaling()
            empty = self._empty_vertices(scaling, hemisphere, session)
            nan_vertices.append(start + empty)
            other = (scaling if over_group is None else over_group.scaling()).without(empty)
            parts.append((scaling.without(empty), other))
            start += count
        of_session, of_group = (_join(pair) for pair in zip(*parts, strict=True))
        stored = {"none": None, "session": of_session}.get(normalize, of_group)
        return SessionScaling(stored, of_session, np.concatenate(nan_vertices))

    def _blocks(self, hemisphere: str, session: int) -> Iterator[Float32[np.ndarray, "trials n"]]:
        """A session's trials of one hemisphere, a few at a time, as native float32."""
        count = self.num_vertices[HEMISPHERES.index(hemisphere)]
        with self.session_file(hemisphere, session).open("rb", buffering=0) as file:
            file.seek(MGH_HEADER_BYTES)
            for start in range(0, self.trials_per_session, _TRIAL_BLOCK):
                rows = min(_TRIAL_BLOCK, self.trials_per_session - start)
                raw = np.fromfile(file, _ON_DISK, rows * count)
                yield raw.reshape(rows, count).astype(np.float32)

    def _empty_vertices(
        self, scaling: Scaling, hemisphere: str, session: int
    ) -> Int64[np.ndarray, " m"]:
        """Vertices of the hemisphere that are NaN in all trials of the session."""
        odd = np.flatnonzero(~np.isfinite(scaling.mean[0]) | ~np.isfinite(scaling.scale[0]))
        if not len(odd):
            return odd
        values = np.concatenate([b[:, odd] for b in self._blocks(hemisphere, session)])
        empty = np.isnan(values).all(axis=0)
        if not empty.all():
            broken = odd[~empty]
            trials = np.count_nonzero(~np.isfinite(values[:, ~empty][:, 0]))
            path = self.session_file(hemisphere, session)
            raise ValueError(
                f"{path} is NaN or infinite in {trials} of {len(values)} trials at vertex "
                f"{broken[0]} ({len(broken)} such vertices); only a vertex that is NaN in all "
                f"trials of a session is known to occur, so {where_from(path)}."
            )
        return odd

    def images(self, ids: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b y x 3"]:
        """Images by 0-based 73k id, in the order of `ids`."""
        return np.stack([self._brick[int(i)] for i in ids])

    @functools.cached_property
    def _brick(self) -> h5py.Dataset:
        """The images; kept open, as opening the file takes longer than reading one."""
        return h5py.File(self._images_file, "r")["imgBrick"]

    def session_file(self, hemisphere: str, session: int) -> Path:
        """Where the betas of one hemisphere and session are."""
        return self._betas / f"{hemisphere}.betas_session{session:02d}.mgh"

    def _ncsnr_file(self, hemisphere: str) -> Path:
        return self._betas / f"{hemisphere}.ncsnr.mgh"

    def _read_design(self) -> Design:
        path = self._design_file
        design = scipy.io.loadmat(path)
        for key in ("masterordering", "subjectim", "sharedix"):
            if key not in design:
                raise ValueError(
                    f"{path} has no {key!r}; it holds "
                    f"{', '.join(sorted(k for k in design if k[0] != '_'))}; {where_from(path)}."
                )
        found = Design(
            order=design["masterordering"].astype(np.int64).reshape(-1) - 1,
            image_of=design["subjectim"].astype(np.int64) - 1,
            shared=np.sort(design["sharedix"].astype(np.int64).reshape(-1)) - 1,
        )
        if not 1 <= self.subject <= len(found.image_of):
            raise ValueError(
                f"{path} describes subjects 1 to {len(found.image_of)}, not subject {self.subject}."
            )
        for key, values, most in (
            ("masterordering", found.order, found.image_of.shape[1]),
            ("subjectim", found.image_of, np.inf),
            ("sharedix", found.shared, np.inf),
        ):
            if values.min() < 0 or values.max() >= most:
                raise ValueError(
                    f"{key} of {path} holds the ids {values.min() + 1} to {values.max() + 1}; "
                    f"expected ids from 1"
                    + (f" to {most}" if most < np.inf else "")
                    + f", so {where_from(path)}."
                )
        return found

    def _choose_sessions(self, sessions: Sequence[int] | None) -> tuple[int, ...]:
        listed = self.listed_sessions
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
            count = int(np.prod(_betas_shape(ncsnr_file)))
            for session in self.sessions:
                path = self.session_file(hemisphere, session)
                if not path.exists():
                    raise FileNotFoundError(
                        f"Session {session} is missing: no {path}, although "
                        f"{self._responses_file.name} lists sessions "
                        f"{_span(self.listed_sessions)}; name the sessions to use, or "
                        f"{where_from(path)}."
                    )
                vertices, _, _, found = _betas_shape(path)
                if vertices != count:
                    raise ValueError(
                        f"{path} has {vertices} vertices but {ncsnr_file.name} beside it has "
                        f"{count}; both must come from the same surface, so {where_from(path)}."
                    )
                if trials is None:
                    trials = found, path
                if found != trials[0]:
                    raise ValueError(
                        f"{path} has {found} trials but {trials[1].name} has {trials[0]}; all "
                        f"sessions of both hemispheres must have the same number, so "
                        f"{where_from(path)}."
                    )
            num_vertices.append(count)
        return (num_vertices[0], num_vertices[1]), trials[0]

    def _check_responses(
        self, responses: pd.DataFrame
    ) -> tuple[Int64[np.ndarray, " trials"], list[Int64[np.ndarray, " _"]]]:
        """The 0-based number, in the whole experiment, of each trial in use; runs per session."""
        length, order = self.trials_per_session, self.design.order
        shown = self.design.images(self.subject)
        path, trials, runs = self._responses_file, [], []
        for session in self.sessions:
            rows = responses[responses["SESSION"] == session]
            if len(rows) != length:
                raise ValueError(
                    f"{path} lists {len(rows)} trials in session {session}, but "
                    f"{self.session_file('lh', session).name} holds {length}; one of the two is "
                    f"damaged, so download both again: {where_from(path)}."
                )
            numbers = np.arange(length) + (session - 1) * length
            if numbers[-1] >= len(order):
                raise ValueError(
                    f"{self._design_file} orders {len(order)} trials, but session {session} ends "
                    f"at trial {numbers[-1] + 1}; {where_from(self._design_file)}."
                )
            wrong = (rows["10KID"].to_numpy() - 1 != order[numbers]) | (
                rows["73KID"].to_numpy() - 1 != shown[numbers]
            )
            if wrong.any():
                first = int(np.argmax(wrong))
                raise ValueError(
                    f"{path} shows image {int(rows['73KID'].iloc[first])} in trial "
                    f"{first + 1} of session {session}, but {self._design_file.name} shows image "
                    f"{int(shown[numbers[first]] + 1)} (73k ids from 1); they must describe the "
                    f"same experiment, so download both again: {where_from(path)}."
                )
            trials.append(numbers)
            runs.append(np.unique(rows["RUN"].to_numpy(), return_inverse=True)[1].astype(np.int64))
        return np.concatenate(trials), runs

    def _check_table(self) -> None:
        path, trials = self._table_file, self.trial_numbers
        columns = [f"subject{self.subject}_rep{k}" for k in range(_REPEATS)]
        table = _read_columns(path, ["nsdId", "shared1000", *columns])
        ids = table["nsdId"].to_numpy()
        shared = np.sort(ids[table["shared1000"].to_numpy().astype(bool)])
        if not np.array_equal(shared, self.shared_ids):
            odd = np.setxor1d(shared, self.shared_ids)
            raise ValueError(
                f"{path} and {self._design_file.name} disagree on {len(odd)} shared "
                f"images, the first being nsdId {odd[0] if len(odd) else shared[0]}; download "
                f"both again: {where_from(path)}."
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
                f"{path} shows {'no image' if said < 0 else f'nsdId {said}'} in trial "
                f"{trials[first] + 1} of subject {self.subject}, but {self._design_file.name} "
                f"shows nsdId {self._trial_ids[first]}; download both again: {where_from(path)}."
            )

    def _check_images(self) -> int:
        """Returns how many images the file holds."""
        path = self._images_file
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is not an HDF5 file; {where_from(path)}.")
        with h5py.File(path, "r") as file:
            if "imgBrick" not in file:
                raise ValueError(
                    f"{path} has no dataset 'imgBrick'; it holds {list(file)}; {where_from(path)}."
                )
            brick = file["imgBrick"]
            if brick.ndim != 4 or brick.shape[-1] != 3 or brick.dtype != np.uint8:
                raise ValueError(
                    f"imgBrick of {path} is {brick.dtype} of shape {brick.shape}; expected uint8 "
                    f"images [image, y, x, 3], so {where_from(path)}."
                )
            held = len(brick)
        lacking = np.unique(self._trial_ids[self._trial_ids >= held])
        if len(lacking):
            raise ValueError(
                f"{path} holds {held} images, so it lacks "
                f"{len(lacking)} that subject {self.subject} was shown (the first is nsdId "
                f"{lacking[0]}); {where_from(path)}."
            )
        return held


def _join(hemispheres: Sequence[Scaling]) -> Scaling:
    """The statistics of both hemispheres, left then right."""
    mean, scale = (
        np.concatenate([getattr(h, key) for h in hemispheres], axis=1) for key in ("mean", "scale")
    )
    return dataclasses.replace(hemispheres[0], mean=mean, scale=scale)


def _require(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; expected NSD's own layout below the data root, so check the "
            f"root, the subject and the space, or {where_from(path)}."
        )


def _read_columns(path: Path, columns: list[str], separator: str = ",") -> pd.DataFrame:
    header = pd.read_csv(path, sep=separator, nrows=0).columns
    missing = [c for c in columns if c not in header]
    if missing:
        raise ValueError(
            f"{path} has no column {missing[0]!r}; it has {', '.join(map(str, header))}; "
            f"{where_from(path)}."
        )
    return pd.read_csv(path, sep=separator, usecols=columns)


def _betas_shape(path: Path) -> tuple[int, int, int, int]:
    """As `mgh_shape`, of a file that can be read trial by trial."""
    _require(path)
    shape, dtype = mgh_shape(path), nib.load(path).get_data_dtype()
    if dtype != _ON_DISK or shape[1:3] != (1, 1):
        raise ValueError(
            f"{path} holds {dtype} of shape {shape}; expected big-endian float32 (>f4) of shape "
            f"(vertices, 1, 1, trials), percent signal change on a surface, so {where_from(path)}."
        )
    return shape


def _span(sessions: Sequence[int]) -> str:
    contiguous = list(sessions) == list(range(sessions[0], sessions[-1] + 1))
    return f"{sessions[0]} to {sessions[-1]}" if contiguous else ", ".join(map(str, sessions))
