"""Noise variance from an image's repeats, and responses as they are stored."""

from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32

from neuroadapter_jax.cortex.noise_ceiling import ncsnr_of_variance
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.readers import read_npz

_REPEATS = 3  # what NSD's ncsnr is computed from


class RepeatVariance:
    """Noise variance from images shown three times: the reader's own ncsnr, image by image.

    Args:
        num_vertices: how many vertices a trial has.
    """

    def __init__(self, num_vertices: int):
        self.sums = np.zeros(num_vertices)
        self.images = 0

    def add(self, z: Float32[np.ndarray, "k n"]) -> None:
        """Adds the z-scored responses to all trials of one image; other than three are ignored."""
        if len(z) == _REPEATS:
            difference = z - z.mean(axis=0)
            self.sums += np.einsum("kn,kn->n", difference, difference)
            self.images += 1

    def save(self, path: Path) -> None:
        """Stores the sums."""
        write_npz(path, sums=self.sums, images=self.images)

    def load(self, path: Path) -> None:
        """Adds the sums that were stored."""
        stored = read_npz(
            path, "sums over images of this preparation", {"sums": "f1", "images": "iu0"}
        )
        sums, images = stored["sums"], stored["images"]
        if sums.shape != self.sums.shape:
            raise InputError(
                f"{path}: holds sums of shape {sums.shape}; expected {self.sums.shape}; delete the "
                "folder and prepare it again."
            )
        self.sums += sums
        self.images += int(images)

    def ncsnr(self, trials_per_session: int) -> Float32[np.ndarray, " n"]:
        """As NSD publishes it, see `ncsnr_of_variance`; NaN where no image was shown three times.

        NSD z-scores with divisor N - 1, the trials here with N.
        """
        if not self.images:
            return np.full(len(self.sums), np.nan, np.float32)
        variance = self.sums / (self.images * (_REPEATS - 1))
        # A vertex without signal and noise, constant or without data, has no ratio.
        variance = np.where(self.sums > 0, variance, np.nan)
        return ncsnr_of_variance(variance * (trials_per_session - 1) / trials_per_session)


def to_half(row: Float32[np.ndarray, " n"], half: Float16[np.ndarray, " n"]) -> None:
    """Casts one trial.

    Raises:
        InputError: a number that float16 cannot hold.
    """
    try:
        with np.errstate(over="raise"):
            half[...] = row
    except FloatingPointError:
        raise InputError(
            f"A response of {np.abs(row).max():.3g} is more than float16 can hold (65504), so it "
            f"cannot be stored; choose a normalisation, or look for what is wrong in the files."
        ) from None
