"""Whether a run ends here: one answer of all its processes, whichever of them got the signal."""

import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from neuroadapter_jax import interrupts
from neuroadapter_jax.interrupts import Interrupted

# SLURM kills 30 seconds after SIGTERM as it comes, and the state is still to be written.
SECONDS_BETWEEN = 2.0


def agreed_signal() -> int | None:
    """The signal that ends the run, to any of its processes; all of them have to ask at once."""
    if jax.process_count() == 1:
        return interrupts.received()
    return _of_all(0.0)[0]


def end_if_asked(step: int) -> None:
    """End here where a signal asked any of the run's processes for it; all have to ask at once.

    Raises:
        Interrupted: so it is.
    """
    if (stop := agreed_signal()) is not None:
        raise Interrupted(stop, step)


class AgreedSignal:
    """`agreed_signal` at each step, without the cost of asking the others at each.

    A single process looks at every step. Several exchange one number each, at steps about two
    seconds apart: how many steps that is follows from the slowest one's time per step, which
    travels with it, so all of them ask at the same steps.

    Args:
        step: the one that the run begins at.
    """

    def __init__(self, step: int):
        self._due = step + 1
        self._asked = step, time.monotonic()

    def __call__(self, step: int) -> int | None:
        """The signal that ends the run after this step; None for none, or not asked."""
        if jax.process_count() == 1:
            return interrupts.received()
        if step < self._due:
            return None
        last, then = self._asked
        now = time.monotonic()
        stop, slowest = _of_all((now - then) / max(1, step - last))
        self._asked = step, now
        self._due = step + max(1, int(SECONDS_BETWEEN / max(slowest, 1e-3)))
        return stop


def _of_all(seconds: float) -> tuple[int | None, float]:
    """The signal that any process received, and the longest of their times."""
    own = np.array([interrupts.received() or 0, seconds], np.float32)
    signals, times = multihost_utils.process_allgather(own).reshape(-1, 2).T
    return int(signals.max()) or None, float(times.max())
