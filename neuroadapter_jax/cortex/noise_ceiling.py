"""Noise-ceiling SNR from repeated presentations, and what an average of repeats can explain."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer

from neuroadapter_jax.errors import InputError


def ncsnr_of_variance(variance: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Noise-ceiling SNR of responses of variance 1, by the variance v of their noise.

    ::

        ncsnr = sqrt(max(0, 1 - v)) / sqrt(v)

    Allen et al. (2022), Methods, noise ceiling estimation; the code that made NSD's ncsnr files.

    Args:
        variance: variance over the repeats of an image, averaged over images, at least 0; NaN stays
            NaN.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex.noise_ceiling import ncsnr_of_variance
        >>> ncsnr_of_variance(np.array([0.2, 0.5, 1.3])).tolist()
        [2.0, 1.0, 0.0]
    """
    variance = np.maximum(variance, 1e-12)
    return (np.sqrt(np.maximum(0, 1 - variance)) / np.sqrt(variance)).astype(np.float32)


def explainable_variance(
    ncsnr: Float[np.ndarray, " n"], repeats: Integer[np.ndarray, " images"]
) -> Float[np.ndarray, " n"]:
    """Share of the variance of averaged responses that the image explains: the noise ceiling.

    ::

        ncsnr^2 / (ncsnr^2 + mean over images of 1 / k)

    With k = 3 throughout it is 3 ncsnr^2 / (3 ncsnr^2 + 1); with A, B and C images of 3, 2 and 1
    repeats the mean is (A/3 + B/2 + C) / (A + B + C). (Allen et al. 2022, Methods; as published
    it is in percent.)

    Args:
        ncsnr: noise-ceiling SNR, at least 0; NaN stays NaN.
        repeats: k, how many trials each image's response is the average of; at least 1.

    Returns:
        Shares in [0, 1]; the published noise ceilings are 100 times as large.

    Raises:
        InputError: no image, or one without a trial.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex.noise_ceiling import explainable_variance
        >>> ceiling = explainable_variance(np.array([0.0, 0.5, 1.0]), repeats=np.array([3, 3, 3]))
        >>> ceiling.round(4).tolist()
        [0.0, 0.4286, 0.75]
    """
    if not len(repeats) or repeats.min() < 1:
        raise InputError(
            f"The noise ceiling needs images with at least one trial each; these have {repeats}."
        )
    signal = np.square(ncsnr.astype(np.float64))
    return signal / (signal + np.mean(1 / repeats))


class NoiseCeiling:
    """Noise-ceiling SNR per vertex, one session at a time.

    As NSD publishes it (Allen et al. 2022, Methods, noise ceiling estimation): each vertex is
    z-scored within each session (ddof 1), the variance over the repeats of an image (ddof 1) is
    averaged over the images shown `num_repeats` times, and ::

        noise sd = sqrt(mean variance),   ncsnr = sqrt(max(0, 1 - noise sd^2)) / noise sd.

    The variances need only the sum per image and one sum of squares per vertex, so the trials of
    past sessions are not stored. A vertex that is constant or NaN within a session becomes NaN.

    Args:
        trial_images: image shown in each trial of all sessions, in order.
        num_vertices: vertices per trial.
        num_repeats: only images shown exactly so often count; at least 2.

    Raises:
        InputError: no image was shown so often.

    Examples:
        Four images shown three times, in two sessions of six trials:

        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import NoiseCeiling
        >>> rng = np.random.default_rng(0)
        >>> images = np.array([0, 1, 2, 0, 1, 2, 3, 3, 3, 0, 1, 2])
        >>> signal = np.array([-1.0, 0.0, 1.0, 2.0])[images, None] * [1.0, 0.0]
        >>> betas = signal + 0.1 * rng.normal(size=(12, 2))  # the second vertex is noise alone
        >>> ceiling = NoiseCeiling(images, num_vertices=2)
        >>> for session in np.split(betas, 2):
        ...     ceiling.add(session)
        >>> first, second = ceiling.ncsnr()
        >>> bool(first > second)
        True
    """

    def __init__(
        self, trial_images: Integer[np.ndarray, " trials"], num_vertices: int, num_repeats: int = 3
    ):
        """Announces the trials."""
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
        """Adds the next session's responses, in any unit.

        Raises:
            InputError: more trials than are left of those announced.
        """
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
