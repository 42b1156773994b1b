"""The Natural Scenes Dataset as it lies on disk: betas on a surface, design, images."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.surface_files import read_mgh
from neuroadapter_jax.datasets.hdf5 import hdf5_dataset
from neuroadapter_jax.datasets.normalization import NORMALIZATIONS, Moments, Scaling
from neuroadapter_jax.datasets.nsd.agreement import (
    ON_DISK,
    SubjectPaths,
    check_betas,
    check_images,
    check_responses,
    check_table,
    choose_sessions,
    read_columns,
    read_design,
    require,
    span,
)
from neuroadapter_jax.datasets.nsd.files import HEMISPHERES, MGH_HEADER_BYTES, where_from
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError, reading

_TRIAL_BLOCK = 25


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
        MissingFileError: a file is missing.
        InputError: a file is truncated, or two files disagree.
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

        self._paths = paths = SubjectPaths(self.root, subject, space, beta_version)
        for path in (paths.design, paths.table, paths.responses, paths.images, paths.betas):
            require(path)

        self.design = read_design(paths)
        responses = read_columns(
            paths.responses, ["SESSION", "RUN", "73KID", "10KID"], separator="\t"
        )
        self.listed_sessions = tuple(int(s) for s in np.unique(responses["SESSION"]))
        self.sessions = choose_sessions(paths, self.listed_sessions, sessions)
        self.num_vertices, self.trials_per_session = check_betas(
            paths, self.sessions, self.listed_sessions
        )
        self.trial_numbers, self._runs = check_responses(
            paths, self.design, responses, self.sessions, self.trials_per_session
        )
        self._trial_ids = self.design.images(subject)[self.trial_numbers]
        check_table(paths, self.design, self.trial_numbers, self._trial_ids)
        self.num_images = check_images(paths, self._trial_ids)

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        paths = self._paths
        ncsnr = [paths.ncsnr_file(h) for h in HEMISPHERES]
        tables = [paths.design, paths.table, paths.responses]
        return [*self.betas_files, *ncsnr, *tables, paths.images]

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
        files = [self._paths.ncsnr_file(h) for h in HEMISPHERES]
        parts = [read_mgh(file, remedy=where_from(file)).reshape(-1) for file in files]
        for file, part in zip(files, parts, strict=True):
            if np.isinf(part).any():  # NaN is what is not known
                raise InputError(
                    f"{file} is infinite at {np.isinf(part).sum()} vertices; expected numbers from "
                    f"0 on, so {where_from(file)}."
                )
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
            normalize: `"session"`, `"run"`, `"train-stats"` or `"none"`.
            training: the session's training trials, needed for `"train-stats"` only.

        Raises:
            InputError: another `normalize`, a session that is not in use, a NaN that does not fill
                its vertex's session, or a session without training trials.
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
            InputError: another `normalize`, a session that is not in use, a NaN that does not fill
                its vertex's session, or a session without training trials.
        """
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        if session not in self.sessions:
            raise InputError(
                f"Session {session} is not among the sessions in use ({span(self.sessions)})."
            )
        group = np.zeros(self.trials_per_session, np.int64)
        counted = np.ones(self.trials_per_session, bool)
        own = normalize in ("run", "train-stats")
        if normalize == "run":
            group = self._runs[self.sessions.index(session)]
        elif normalize == "train-stats":
            if training is None or not training.any():
                raise InputError(
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
                raw = np.fromfile(file, ON_DISK, rows * count)
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
            raise InputError(
                f"{path} is NaN or infinite in {trials} of {len(values)} trials at vertex "
                f"{broken[0]} ({len(broken)} such vertices); only a vertex that is NaN in all "
                f"trials of a session is known to occur, so {where_from(path)}."
            )
        return odd

    def session_file(self, hemisphere: str, session: int) -> Path:
        """Where the betas of one hemisphere and session are."""
        return self._paths.session_file(hemisphere, session)

    def images(self, ids: Int[np.ndarray, " b"]) -> UInt8[np.ndarray, "b y x 3"]:
        """Images by 0-based 73k id, in the order of `ids`.

        Args:
            ids: 0-based 73k ids, any order.
        """
        path = self._paths.images
        with reading(path, "NSD's images", where_from(path)):
            return np.stack([self._brick[int(i)] for i in ids])

    @functools.cached_property
    def _brick(self) -> h5py.Dataset:
        """The images; the file stays open, as opening the file takes longer than reading one."""
        return hdf5_dataset(h5py.File(self._paths.images, "r"), "imgBrick", sparse=True)


def _join(hemispheres: Sequence[Scaling]) -> Scaling:
    """The statistics of both hemispheres, left then right."""
    mean, scale = (
        np.concatenate([getattr(h, key) for h in hemispheres], axis=1) for key in ("mean", "scale")
    )
    return dataclasses.replace(hemispheres[0], mean=mean, scale=scale)
