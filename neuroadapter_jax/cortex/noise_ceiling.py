"""Noise-ceiling SNR from repeated presentations, and what an average of repeats can explain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer

from neuroadapter_jax.errors import InputError


def ncsnr_of_variance(variance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """sqrt(max(0, 1 - v)) / sqrt(v) for the noise variance v of responses of variance 1.

    Allen et al. (2022), Methods, noise ceiling estimation; the code that made NSD's ncsnr files.

    Args:
        variance: variance over the repeats of an image, averaged over images; NaN stays NaN.
    """
    variance = np.maximum(variance, 1e-12)
    return (np.sqrt(np.maximum(0, 1 - variance)) / np.sqrt(variance)).astype(np.float32)


def explainable_variance(
    ncsnr: Float[np.ndarray, " n"], repeats: Integer[np.ndarray, " images"]
) -> Float[np.ndarray, " n"]:
    """Share of the variance of averaged responses that the image explains: the noise ceiling.

        ncsnr^2 / (ncsnr^2 + mean over images of 1 / k)

    With k = 3 throughout it is 3 ncsnr^2 / (3 ncsnr^2 + 1); with A, B and C images of 3, 2 and 1
    repeats the mean is (A/3 + B/2 + C) / (A + B + C). (Allen et al. 2022, Methods; as published
    it is in percent.)

    Args:
        ncsnr: noise-ceiling SNR, at least 0; NaN stays NaN.
        repeats: k, how many trials each image's response is the average of; at least 1.

    Raises:
        InputError: no image, or one without a trial.
    """
    if not len(repeats) or repeats.min() < 1:
        raise InputError(
            f"The noise ceiling needs images with at least one trial each; these have {repeats}."
        )
    signal = np.square(ncsnr.astype(np.float64))
    return signal / (signal + np.mean(1 / repeats))


class NoiseCeiling:
    """Noise-ceiling SNR per vertex, one session at a time.

    As NSD publishes it: each vertex is z-scored within each session (ddof 1), the variance over
    the repeats of an image (ddof 1) is averaged over the images shown `num_repeats` times, and

        noise sd = sqrt(mean variance),   ncsnr = sqrt(max(0, 1 - noise sd^2)) / noise sd.

    The variances need only the sum per image and one sum of squares per vertex, so the trials of
    past sessions are not stored. A vertex that is constant or NaN within a session becomes NaN.
    """

    def __init__(
        self, trial_images: Integer[np.ndarray, " trials"], num_vertices: int, num_repeats: int = 3
    ):
        """Announces the trials.

        Args:
            trial_images: image shown in each trial of all sessions, in order.
            num_vertices: vertices per trial.
            num_repeats: only images shown exactly so often count; at least 2.

        Raises:
            InputError: no image was shown so often.
        """
        _, index, counts = np.unique(trial_images, return_inverse=True, return_counts=True)
        repeated = counts == num_repeats
        if num_repeats < 2 or not repeated.any():
            raise InputError(
                f"The noise ceiling needs images shown {num_repeats} times (at least 2); the "
                f"image shown most often was shown {counts.max()} times."
            )
        row = np.where(repeated, np.cumsum(repeated) - 1, -1)
        self._rows = row[index]
        self._num_repeats = num_repeats
        self._sums = np.zeros((int(repeated.sum()), num_vertices), dtype=np.float32)
        self._squares = np.zeros(num_vertices)
        self._seen = 0

    def add(self, betas: Float[np.ndarray, "trials n"]) -> None:
        """Adds the next session's responses, in any unit."""
        rows = self._rows[self._seen : self._seen + len(betas)]
        if len(rows) != len(betas):
            raise InputError(
                f"This session has {len(betas)} trials, but only {len(rows)} are left of the "
                f"{len(self._rows)} announced."
            )
        mean, sd = betas.mean(axis=0), betas.std(axis=0, ddof=1)
        z = (betas - mean) / np.where(sd > 0, sd, np.nan).astype(betas.dtype)
        repeated = rows >= 0
        np.add.at(self._sums, rows[repeated], z[repeated].astype(np.float32))
        self._squares += np.einsum("tn,tn->n", z[repeated], z[repeated], dtype=np.float64)
        self._seen += len(betas)

    def ncsnr(self) -> Float[np.ndarray, " n"]:
        """The noise-ceiling SNR per vertex, at least 0.

        Raises:
            InputError: not all trials were added.
        """
        if self._seen != len(self._rows):
            raise InputError(
                f"Only {self._seen} of {len(self._rows)} trials were added; add every session."
            )
        images = len(self._sums)
        within = self._squares - (
            np.einsum("in,in->n", self._sums, self._sums, dtype=np.float64) / self._num_repeats
        )
        return ncsnr_of_variance(within / (images * (self._num_repeats - 1)))
