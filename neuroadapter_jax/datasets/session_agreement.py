"""How far the sessions of a subject agree on the images that were shown in several of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.readers import read_npz

_VERTICES = 2_000  # of a hemisphere, those of the highest SNR
_FEWEST_VERTICES = 100
_FEWEST_TRIALS = 10


class SessionAgreement:
    """Agreement of each session's trials with the repeats of their images in other sessions.

        r(trial) = corr over v of (z[trial, v], mean of z[t, v] over t)

    over the trials t of the same image in other sessions and over a hemisphere's vertices v of the
    highest SNR; z is z-scored per vertex and session. A session of another hemisphere, subject or
    number agrees with none: its mean r is about 0.

    Args:
        ncsnr: SNR per vertex, left then right; NaN where unknown.
        num_vertices: of the left and of the right hemisphere.
        num_sessions: how many sessions there are.
    """

    def __init__(
        self, ncsnr: Float32[np.ndarray, " n"], num_vertices: tuple[int, int], num_sessions: int
    ):
        self._chosen: list[Int64[np.ndarray, " k"]] = []
        for start, count in zip((0, num_vertices[0]), num_vertices, strict=True):
            order = np.argsort(-np.nan_to_num(ncsnr[start : start + count]), kind="stable")
            self._chosen.append(start + order[:_VERTICES])
        # Number of trials, sum and sum of squares of r: [statistic, hemisphere, session].
        self._sums = np.zeros((3, 2, num_sessions))

    def add(self, z: Float32[np.ndarray, "k n"], sessions: Int64[np.ndarray, " k"]) -> None:
        """Adds the z-scored responses to all trials of one image, and their sessions from 0."""
        if len(np.unique(sessions)) < 2:
            return
        for side, chosen in enumerate(self._chosen):
            values = z[:, chosen].astype(np.float64)
            for trial, session in zip(values, sessions, strict=True):
                r = _correlation(trial, values[sessions != session].mean(axis=0))
                if r is not None:
                    self._sums[:, side, session] += (1, r, r**2)

    def save(self, path: Path) -> None:
        """Stores the sums."""
        write_npz(path, sums=self._sums)

    def load(self, path: Path) -> None:
        """Adds sums that were stored; without the file, of an older version's work, nothing."""
        if path.exists():
            remedy = f"delete {path.parent}, and it is made again"
            expected = "sums over the trials of sessions"
            stored = read_npz(path, expected, {"sums": "f3"}, remedy)["sums"]
            if stored.shape != self._sums.shape:
                raise InputError(
                    f"{path}: sums is of shape {stored.shape}; expected "
                    f"shape {self._sums.shape}; {remedy}."
                )
            self._sums += stored

    def means(self) -> Float64[np.ndarray, "hemispheres s"]:
        """Mean r of each hemisphere and session; NaN where there are too few trials to tell."""
        count, total, _ = self._sums
        known = count >= _FEWEST_TRIALS
        known &= np.array([[len(chosen) >= _FEWEST_VERTICES] for chosen in self._chosen])
        return np.where(known, total / np.maximum(count, 1), np.nan)

    def strangers(self) -> list[tuple[int, int]]:
        """Hemisphere and session, from 0, of those that do not belong to the others.

        Their mean r is less than a quarter of the median over sessions, and by more than five
        standard errors less than it. Fewer than three sessions are not judged.
        """
        count, _, squares = self._sums
        means = self.means()
        found = []
        for side, own in enumerate(means):
            if np.isfinite(own).sum() < 3:
                continue
            median = np.nanmedian(own)
            variance = np.maximum(squares[side] / np.maximum(count[side], 1) - own**2, 0)
            error = np.sqrt(variance / np.maximum(count[side], 1))
            strange = (own < median / 4) & (median - own > 5 * error)
            found += [(side, int(session)) for session in np.flatnonzero(strange)]
        return found


def _correlation(a: Float64[np.ndarray, " k"], b: Float64[np.ndarray, " k"]) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else None
