"""How responses are brought to one scale before they are stored, and by which statistics."""

import dataclasses
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from neuroadapter_jax.errors import InputError

# Per vertex: over a session's trials, a run's trials, a session's training trials; or as measured.
Normalization = Literal["session", "run", "train-stats", "none"]
NORMALIZATIONS: tuple[str, ...] = get_args(Normalization)


@dataclasses.dataclass(frozen=True)
class Scaling:
    """x -> (x - mean) * scale, by group of trials.

    Attributes:
        mean: [g, n], in the unit of the responses.
        scale: [g, n], 1 / standard deviation (divisor N); 0 where a vertex is constant or holds no
            data, so that it becomes 0.
        group: group of each trial of the session.
        count: trials that the statistics of each group come from.
    """

    mean: Float32[np.ndarray, "g n"]
    scale: Float32[np.ndarray, "g n"]
    group: Int64[np.ndarray, " trials"]
    count: Int64[np.ndarray, " g"]

    def apply(self, row: Float32[np.ndarray, " n"], trial: int) -> None:
        """Scales the responses of one trial of the session, counted from 0, in place."""
        row -= self.mean[self.group[trial]]
        row *= self.scale[self.group[trial]]

    def without(self, vertices: Int64[np.ndarray, " m"]) -> "Scaling":
        """The same, but mean and scale of these vertices are 0."""
        mean, scale = self.mean.copy(), self.scale.copy()
        mean[:, vertices] = scale[:, vertices] = 0
        return dataclasses.replace(self, mean=mean, scale=scale)


class Moments:
    """Mean and standard deviation per vertex and group of trials, one block of trials at a time.

    Sums are of differences to the group's first trial, in float32 within a block and in float64
    over blocks: nothing cancels, and a constant vertex has a deviation of exactly 0.

    Args:
        group: group of each trial, counted from 0.
        counted: the trials that count; each group needs one.
        num_vertices: how many vertices a trial has.

    Raises:
        InputError: a group without a trial that counts.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.datasets.normalization import Moments
        >>> group = np.array([0, 0, 1, 1])  # two trials of each of two runs
        >>> moments = Moments(group, counted=np.ones(4, bool), num_vertices=1)
        >>> moments.add(np.array([[1.0], [3.0], [10.0], [14.0]], np.float32))
        >>> scaling = moments.scaling()
        >>> scaling.mean.tolist(), scaling.scale.tolist()
        ([[2.0], [12.0]], [[1.0], [0.5]])
    """

    def __init__(
        self,
        group: Int64[np.ndarray, " trials"],
        counted: Bool[np.ndarray, " trials"],
        num_vertices: int,
    ):
        self._group, self._counted = group, counted
        self._count = np.bincount(group[counted], minlength=int(group.max()) + 1)
        if not self._count.all():
            raise InputError(
                f"None of the trials of group {int(np.argmin(self._count))} (of "
                f"{len(self._count)}) counts, so they cannot be normalised; choose another "
                f"normalisation or another split."
            )
        self._first = np.zeros((len(self._count), num_vertices), np.float32)
        self._sums = np.zeros((len(self._count), num_vertices))
        self._squares = np.zeros_like(self._sums)
        self._begun = np.zeros(len(self._count), bool)
        self._seen = 0

    def add(self, block: Float32[np.ndarray, "trials n"]) -> None:
        """Adds the next trials."""
        rows = slice(self._seen, self._seen + len(block))
        self._seen += len(block)
        for g in np.unique(self._group[rows][self._counted[rows]]):
            chosen = (self._group[rows] == g) & self._counted[rows]
            part = block if chosen.all() else block[chosen]
            if not self._begun[g]:
                self._first[g] = part[0]
                self._begun[g] = True
            difference = part - self._first[g]
            self._sums[g] += difference.sum(axis=0)
            self._squares[g] += np.einsum("tn,tn->n", difference, difference)

    def scaling(self) -> Scaling:
        """The statistics, once every trial was added; NaN where a vertex is not finite."""
        mean = self._sums / self._count[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):  # infinite responses give NaN
            variance = np.maximum(self._squares / self._count[:, None] - mean**2, 0)
            scale = np.where(variance == 0, 0, 1 / np.sqrt(variance))
        return Scaling(
            (mean + self._first).astype(np.float32),
            scale.astype(np.float32),
            self._group,
            self._count,
        )
