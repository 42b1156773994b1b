"""Signals that ask a command to end: noted at once, obeyed where nothing gets lost."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

# Ctrl-C, the end that a scheduler announces, and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A scheduler signals every process of a job, and a parent passes the signal on to its child: what
# comes within so many seconds is one request.
TOGETHER = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; what was finished before is saved.

    Args:
        number: the signal's.
        step: of a training, the last one that is saved.

    Attributes:
        number: the signal's.
        step: as given.
        exit_code: 128 + the signal's number.
    """

    def __init__(self, number: int, step: int | None = None):
        name = signal.Signals(number).name
        super().__init__(
            f"{name}: what was finished is kept; start it again to go on."
            if step is None
            else f"{name} at step {step}: the run is saved; start it again to go on."
        )
        self.number, self.step, self.exit_code = number, step, 128 + number


class _State:
    """What this process knows of its signals; only the main thread changes it."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.since = 0.0  # when it came
        self.sections = 0  # of `deferred`, one in another
        self.earlier: dict[int, Any] = {}  # the handlers before ours; empty where ours are not set

    def install(self) -> None:
        """Set our handlers, also where a library has replaced them since."""
        if self.received is not None:
            return
        for number in SIGNALS:
            # What starts a program in the background may have it ignore a signal, as nohup does.
            if signal.getsignal(number) is not signal.SIG_IGN:
                earlier = signal.signal(number, self.receive)
                self.earlier.setdefault(number, earlier)

    def restore(self) -> None:
        """Put the earlier handlers back."""
        while self.earlier:
            signal.signal(*self.earlier.popitem())

    def receive(self, number: int, frame: object) -> None:
        """Note the first signal; a later one does what it would do without us."""
        now = time.monotonic()
        if self.received is None:
            self.received, self.since = number, now
            if not self.sections:
                raise Interrupted(number)
        elif now - self.since > TOGETHER:
            self.restore()
            signal.raise_signal(number)


_state = _State()


def received() -> int | None:
    """The signal that asked this process to end; None as long as none came."""
    return _state.received


def check() -> None:
    """End here where a signal asked for it.

    Besides inside `deferred` this is of use wherever work goes on for long: what a handler raises
    is lost if the interpreter happens to be inside a callback, such as JAX's of the garbage
    collector.

    Raises:
        Interrupted: a signal came.
    """
    if _state.received is not None:
        raise Interrupted(_state.received)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Inside, the first signal waits for `check` or for the end; a second one acts at once.

    In other threads than the main one, which get no signals, it changes nothing.

    Raises:
        Interrupted: a signal came before, or inside without being asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    check()
    outermost = not _state.earlier
    _state.sections += 1
    try:
        _state.install()
        yield
        if _state.sections == 1:
            check()
    finally:
        _state.sections -= 1
        if outermost:
            _state.restore()
            _state.received = None


@contextlib.contextmanager
def of_program() -> Iterator[None]:
    """Inside, a signal raises `Interrupted`, or waits where the work says so; a second one ends.

    A thread reads the signals as they come, since Python's handlers wait until a long computation
    returns: it says that the first was heard, and ends the process at the second.

    Raises:
        Interrupted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread() or _state.earlier:
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    try:
        _state.install()
        yield
    finally:
        _state.restore()
        _state.received = None
        signal.set_wakeup_fd(former)
        os.close(writer)
        watcher.join()
        os.close(reader)


def _watch(reader: int) -> None:
    """Speaks at the first signal where it has to wait, and ends the process at the second."""
    since: float | None = None
    while numbers := os.read(reader, 1):
        number, now = numbers[0], time.monotonic()
        if number not in SIGNALS or (since is not None and now - since <= TOGETHER):
            continue
        if since is not None:
            os._exit(128 + number)
        since = now
        if _state.sections:
            name = signal.Signals(number).name
            text = f"{name}: ending as soon as this part is saved; once more ends at once."
            print(f"\n{text}", file=sys.stderr, flush=True)
