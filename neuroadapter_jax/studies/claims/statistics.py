"""Means over seeds and images with intervals that know of both, and families of tests."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from neuroadapter_jax.errors import InputError

LEVEL, POWER = 0.95, 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images.

    Attributes:
        value: the mean.
        error: its standard error.
        freedom: degrees of freedom of the error.
        num_seeds: trainings.
        num_images: images of each.
    """

    value: float
    error: float
    freedom: float
    num_seeds: int
    num_images: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, value -+ t error."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def p_value(self, against: float = 0.0) -> float:
        """Two-sided p of a mean that is `against`."""
        if self.error == 0:
            return 1.0 if self.value == against else 0.0
        return float(2 * stats.t.sf(abs(self.value - against) / self.error, self.freedom))

    @property
    def detectable(self) -> float:
        """The smallest effect that a test at 5 % (two-sided) finds four times of five."""
        quantiles = stats.t.ppf([(1 + LEVEL) / 2, POWER], self.freedom)
        return float(quantiles.sum()) * self.error


def crossed_mean(values: Float[np.ndarray, "k b"]) -> Estimate:
    """The mean of a table of seeds and images, both of them random.

    With MS_k, MS_b and MS_e the mean squares of seeds, images and what is left::

        error^2 = (MS_k + MS_b - MS_e) / (k b)
        freedom = (MS_k + MS_b - MS_e)^2 / (MS_k^2 / (k-1) + MS_b^2 / (b-1) + MS_e^2 / ((k-1)(b-1)))

    (the two-way random model without repeats; Satterthwaite 1946, Biometrics Bulletin 2, 110). The
    bracket is not taken below MS_b, the value without any spread of trainings. A percentile
    bootstrap over three seeds would be too narrow, since three have ten samples alone. One seed
    gives the images' own error, which says nothing about other trainings.

    Args:
        values: of seed k and image b, at least two images.

    Raises:
        InputError: fewer than two images, or numbers that are not finite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.studies.claims.statistics import crossed_mean
        >>> found = crossed_mean(np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]))
        >>> found.value, round(found.error, 3)
        (2.5, 0.764)
    """
    k, b = values.shape
    if b < 2 or not np.isfinite(values).all():
        raise InputError(
            f"A mean over seeds and images needs finite numbers of at least two images, found {k} "
            f"x {b} of which {int(np.isfinite(values).sum())} are finite."
        )
    if k == 1:
        error = float(values.std(ddof=1) / b**0.5)
        return Estimate(float(values.mean()), error, b - 1.0, 1, b)
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    left = values - rows[:, None] - columns + values.mean()
    freedoms = np.array([k - 1, b - 1, (k - 1) * (b - 1)], float)
    squares = np.array([b * rows.var() * k, k * columns.var() * b, (left**2).sum()]) / freedoms
    total = max(squares[0] + squares[1] - squares[2], squares[1])
    below = float((squares**2 / freedoms).sum())
    freedom = total**2 / below if below > 0 else float(b - 1)
    return Estimate(float(values.mean()), float((total / (k * b)) ** 0.5), freedom, k, b)
