"""Any trial of a subject, normalised, straight from NSD's files."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Float32, Int64

from neuroadapter_jax.datasets.normalization import Scaling
from neuroadapter_jax.datasets.nsd.files import HEMISPHERES, MGH_HEADER_BYTES
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.prepared.work import do_units, thread_count
from neuroadapter_jax.datasets.repeats import to_half
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.fingerprints import of_file
from neuroadapter_jax.readers import read_npz

_SCALING = {"mean": "f2", "scale": "f2", "group": "iu1", "count": "iu1"}


class NSDTrials:
    """Random access to normalised trials; the files are not copied.

    One pass over each session's files gives its statistics, which are stored in `work`. A trial is
    then one run of bytes per hemisphere, so it is read where it lies: memory holds the statistics
    and one image's trials, whatever the number of sessions.

    Args:
        source: the subject.
        normalize: `"session"`, `"run"`, `"train-stats"` or `"none"`.
        training: which of the trials in use are for training.
        work: folder for the statistics; those found there are used, see `do_units`.
        done: see `do_units`; a unit is a session.

    Attributes:
        nan_vertices: per session (as text) that has any, its number of vertices without data.
        empty_vertices: vertices without data in any session.
        trials_per_session: of the z-scores that `read` gives.
    """

    def __init__(
        self,
        source: NSDSubject,
        normalize: str,
        training: Bool[np.ndarray, " trials"],
        work: Path,
        done: Callable[[str, bool], None] = lambda *_: None,
    ):
        self.trials_per_session = self._length = source.trials_per_session
        self._counts = source.num_vertices
        store_statistics(source, normalize, training, work, source.sessions, done)

        self._stored: list[Scaling | None] = []
        self._session: list[Scaling] = []
        self._empty: list[Int64[np.ndarray, " m"]] = []
        self._files = []
        self.nan_vertices: dict[str, int] = {}
        for session in source.sessions:
            arrays = read_npz(
                work / f"{_unit(session)}.npz",
                "the statistics of a session",
                {"nan_vertices": "iu1"}
                | {f"session_{key}": layout for key, layout in _SCALING.items()},
                f"delete {work}, and the same command makes it again",
            )
            parts = {
                prefix: Scaling(**{key: arrays[f"{prefix}_{key}"] for key in _SCALING})
                for prefix in ("session", "stored")
                if f"{prefix}_mean" in arrays
            }
            self._empty.append(arrays["nan_vertices"])
            if normalize == "session":  # one array, not two of the same values
                parts["stored"] = parts["session"]
            self._stored.append(parts.get("stored"))
            self._session.append(parts["session"])
            self._files.append([source.session_file(h, session).open("rb") for h in HEMISPHERES])
            if len(self._empty[-1]):
                self.nan_vertices[str(session)] = len(self._empty[-1])
        self.empty_vertices = np.unique(np.concatenate(self._empty))

    def read(
        self, positions: Int64[np.ndarray, " k"]
    ) -> tuple[Float16[np.ndarray, "k n"], Float32[np.ndarray, "k n"]]:
        """Trials by their position among those in use.

        Returns:
            The responses to store, and the same trials z-scored over their sessions (divisor N).

        Raises:
            InputError: a response that float16 cannot hold.
        """
        z = np.empty((len(positions), sum(self._counts)), np.float32)
        stored = np.empty(z.shape, np.float16)
        for row, half, position in zip(z, stored, positions, strict=True):
            session, trial = divmod(int(position), self._length)
            start = 0
            for file, count in zip(self._files[session], self._counts, strict=True):
                raw = os.pread(file.fileno(), 4 * count, MGH_HEADER_BYTES + 4 * count * trial)
                row[start : start + count] = np.frombuffer(raw, ">f4")
                start += count
            row[self._empty[session]] = 0
            scaling, own = self._session[session], self._stored[session]
            if own is not scaling:
                other = row.copy()
                if own is not None:
                    own.apply(other, trial)
                to_half(other, half)
            scaling.apply(row, trial)
            if own is scaling:
                to_half(row, half)
        return stored, z

    def close(self) -> None:
        """Closes the files."""
        for pair in self._files:
            for file in pair:
                file.close()


def store_statistics(
    source: NSDSubject,
    normalize: str,
    training: Bool[np.ndarray, " trials"],
    work: Path,
    sessions: Sequence[int],
    done: Callable[[str, bool], None] = lambda *_: None,
) -> None:
    """Stores what `NSDTrials` needs to know of some sessions; what is there is not read again.

    Args:
        source: the subject.
        normalize: `"session"`, `"run"`, `"train-stats"` or `"none"`.
        training: which of the trials in use are for training.
        work: folder for the statistics.
        sessions: of the subject's, those to read.
        done: see `do_units`; a unit is a session.
    """
    by_session = training.reshape(len(source.sessions), source.trials_per_session)
    used = dict(zip(source.sessions, by_session, strict=True))
    names = {_unit(s): s for s in sessions}

    def compute(unit: str) -> dict[str, Any]:
        session = names[unit]
        found = source.session_scaling(session, normalize, used[session])
        arrays = {f"session_{k}": v for k, v in vars(found.session).items()}
        if found.stored is not None and found.stored is not found.session:
            arrays |= {f"stored_{k}": v for k, v in vars(found.stored).items()}
        write_npz(work / f"{unit}.npz", nan_vertices=found.nan_vertices, **arrays)
        return {}

    keys = {}
    for unit, session in names.items():
        digest = hashlib.sha256(f"{normalize} ".encode())
        if normalize == "train-stats":
            digest.update(used[session].tobytes())
        for hemisphere in HEMISPHERES:
            path = source.session_file(hemisphere, session)
            digest.update(f"{path.name} {of_file(path)} ".encode())
        keys[unit] = digest.hexdigest()
    do_units(keys, work, compute, threads=thread_count(), done=done)


def _unit(session: int) -> str:
    return f"session{session:02d}"
