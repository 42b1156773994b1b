"""Bars: lines now and then in a log file, and places where a signal ends the work."""

import io
import re
import signal

import pytest

from neuroadapter_jax import progress
from neuroadapter_jax.interrupts import Interrupted
from neuroadapter_jax.progress import Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def shown(monkeypatch, clock, file, seconds, updates=1000):
    """What a bar writes to a file during so many seconds."""
    monkeypatch.setattr(progress.sys, "stderr", file)
    with Bar(total=updates, desc="Work", unit="image") as bar:
        for i in range(updates):
            clock[0] += seconds / updates
            bar.set_postfix_str(f"number {i}")
            bar.update()
    return file.getvalue()


def test_a_log_file_gets_a_line_every_ten_seconds_and_the_last_state(monkeypatch, clock):
    lines = shown(monkeypatch, clock, io.StringIO(), 95).split("\n")
    assert lines.pop() == ""
    assert len(lines) == 10 and all(line.startswith("Work:") for line in lines)
    assert not any(set("\r\x1b") & set(line) for line in lines)
    counts = [int(re.search(r"(\d+)/1000", line)[1]) for line in lines]
    assert counts == [pytest.approx(k * 1000 / 9.5, abs=12) for k in range(1, 10)] + [1000]


def test_what_is_soon_done_leaves_no_line_in_a_log_file(monkeypatch, clock):
    assert shown(monkeypatch, clock, io.StringIO(), 9) == ""


def test_a_terminal_gets_a_line_that_moves(monkeypatch, clock):
    text = shown(monkeypatch, clock, Terminal(), 9, updates=7)
    assert text.count("\r") > 5 and text.count("\n") == 1 and "7/7" in text


def test_a_bar_that_is_switched_off_writes_nothing(monkeypatch, clock):
    for file in (io.StringIO(), Terminal()):
        monkeypatch.setattr(progress.sys, "stderr", file)
        with Bar([1, 2, 3], disable=True) as bar:
            for _ in bar:
                clock[0] += 100
        assert file.getvalue() == ""


@pytest.mark.parametrize("disable", [True, False])
def test_a_signal_ends_the_work_at_the_next_update(disable):
    done = []
    with pytest.raises(Interrupted), Bar(total=5, disable=disable) as bar:
        for i in range(5):
            if i == 2:
                signal.raise_signal(signal.SIGTERM)
            done.append(i)
            bar.update()
    assert done == [0, 1, 2]


def test_a_bar_whose_loop_looks_for_signals_itself_raises_none_on_the_way():
    done = []
    with pytest.raises(Interrupted), Bar(total=2, disable=True, ends_on_signal=False) as bar:
        signal.raise_signal(signal.SIGTERM)
        for i in range(2):
            bar.update()
            done.append(i)
    assert done == [0, 1]
