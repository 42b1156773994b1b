"""Signals: raised at once, or where the work says so; a second one acts without us."""

import gc
import os
import signal
import subprocess
import sys
import time

import pytest

from neuroadapter_jax import interrupts
from neuroadapter_jax.interrupts import SIGNALS, Interrupted


@pytest.fixture(autouse=True)
def handlers():
    """Whatever happens in a test, the handlers are afterwards as they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert interrupts.received() is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_a_program_is_raised_at_once(number):
    passed = False
    words = f"{number.name}: what was finished is kept"
    with pytest.raises(Interrupted, match=words) as caught, interrupts.of_program():
        signal.raise_signal(number)
        passed = True
    assert not passed and caught.value.exit_code == 128 + number


def test_inside_a_section_a_signal_waits_for_the_check():
    done = []
    with pytest.raises(Interrupted), interrupts.deferred():
        signal.raise_signal(signal.SIGINT)
        done.append("the rest of the unit")
        interrupts.check()
        done.append("the next unit")
    assert done == ["the rest of the unit"]


def test_a_section_that_never_asks_ends_with_the_signal():
    with pytest.raises(Interrupted), interrupts.deferred():
        with interrupts.deferred():
            signal.raise_signal(signal.SIGTERM)
        done = True
    assert done


def test_an_error_inside_a_section_is_told_and_not_the_signal():
    with pytest.raises(KeyError), interrupts.deferred():
        signal.raise_signal(signal.SIGTERM)
        raise KeyError


def test_what_a_callback_of_the_garbage_collector_swallowed_is_raised_at_the_next_check():
    def interrupt(phase, info):
        gc.callbacks.remove(interrupt)
        signal.raise_signal(signal.SIGINT)

    heard = []
    hook, sys.unraisablehook = sys.unraisablehook, heard.append
    try:
        with pytest.raises(Interrupted), interrupts.of_program():
            gc.callbacks.append(interrupt)
            gc.collect()
            assert isinstance(heard[0].exc_value, Interrupted)  # swallowed there
            interrupts.check()
    finally:
        sys.unraisablehook = hook
        heard.clear()


def test_signals_that_come_together_are_one_and_a_later_one_finds_the_earlier_handler(monkeypatch):
    clock, heard = [100.0], []
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: clock[0])
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(Interrupted), interrupts.deferred():
            for seconds in (0.0, interrupts.TOGETHER, 1.5 * interrupts.TOGETHER):
                clock[0] = 100 + seconds
                assert heard == []
                signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, earlier)


def test_a_signal_that_is_ignored_stays_ignored():
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.of_program(), interrupts.deferred():
            signal.raise_signal(signal.SIGHUP)
            interrupts.check()
    finally:
        signal.signal(signal.SIGHUP, earlier)


# Python's own handlers wait until this long computation returns.
BUSY = """
import hashlib
from neuroadapter_jax import interrupts
with interrupts.of_program(), interrupts.deferred():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", (1 << 31) - 1)
"""


def test_a_second_signal_ends_a_long_computation_at_once():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "\n"
        said = process.stderr.readline()
        time.sleep(1.2 * interrupts.TOGETHER)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert said == "SIGINT: ending as soon as this part is saved; once more ends at once.\n"
