"""Progress bars: on a terminal a moving line, in a log file a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm

from neuroadapter_jax import interrupts

SECONDS_IN_LOGS = 10.0


class Bar(tqdm):
    """A bar at whose every update work may end that a signal asked to end.

    In a `with` statement a signal waits for the next update, see `interrupts.deferred`. Where
    standard error is no terminal, a bar prints lines: none in the first ten seconds, then at most
    one every ten seconds, and one at its end.

    Args:
        iterable: what is counted; None where `update` counts.
        total: how many there are.
        ends_on_signal: whether an update may raise `Interrupted`; False where the loop itself
            looks for signals.
        options: tqdm's, such as `desc`, `unit`, `initial` and `disable`.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        total: int | None = None,
        *,
        ends_on_signal: bool = True,
        **options: Any,
    ):
        self._ends_on_signal = ends_on_signal
        self._section = ExitStack()
        self._lines = not sys.stderr.isatty()
        self._start = self._last_line = time.monotonic()
        super().__init__(iterable, total=total, file=sys.stderr, **options)

    def __enter__(self) -> "Bar":
        self._section.enter_context(interrupts.deferred())
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self._section.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            yield one
            self._check()

    def update(self, n: Any = 1) -> bool | None:
        """Count n more; ends here where a signal asked for it."""
        shown = super().update(n)
        self._check()
        return shown

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Show the state, in a log file at most every ten seconds."""
        if not self._lines:
            super().display(msg, pos)
        elif msg is None and time.monotonic() - self._last_line >= SECONDS_IN_LOGS:
            self._print_line()

    def close(self) -> None:
        """Show the last state and end the bar; in a log file only where it lasted long."""
        if self._lines and not self.disable:
            if time.monotonic() - self._start >= SECONDS_IN_LOGS:
                self._print_line()
            self.leave = False
        super().close()

    def _print_line(self) -> None:
        self._last_line = time.monotonic()
        print(self, file=self.fp, flush=True)

    def _check(self) -> None:
        if self._ends_on_signal:
            interrupts.check()
