"""Processes that agree on the step they end at, here as threads with clocks of their own."""

import signal
import threading

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from neuroadapter_jax import interrupts
from neuroadapter_jax.interrupts import Interrupted
from neuroadapter_jax.training import agreement
from neuroadapter_jax.training.agreement import AgreedSignal, agreed_signal, end_if_asked


class Processes:
    """Three processes whose steps take `seconds`; process 1 gets SIGTERM before step `at`."""

    def __init__(self, monkeypatch, seconds, at):
        self.seconds, self.at, self.here = seconds, at, threading.local()
        self.meeting = threading.Barrier(3, timeout=20)
        self.table, self.asked = [None] * 3, [[], [], []]
        monkeypatch.setattr(jax, "process_count", lambda: 3)
        monkeypatch.setattr(multihost_utils, "process_allgather", self.gather)
        monkeypatch.setattr(interrupts, "received", self.received)
        monkeypatch.setattr(agreement.time, "monotonic", self.clock)

    def clock(self):
        return self.here.step * self.seconds[self.here.index]

    def received(self):
        came = self.here.index == 1 and self.here.step >= self.at
        return signal.SIGTERM if came else None

    def gather(self, own):
        self.asked[self.here.index].append(self.here.step)
        self.table[self.here.index] = np.array(own)
        self.meeting.wait()
        found = np.stack(self.table)
        self.meeting.wait()
        return found

    def run(self, num_steps):
        ends = [None] * 3

        def process(index):
            self.here.index, self.here.step = index, 0
            asked = AgreedSignal(0)
            for step in range(1, num_steps + 1):
                self.here.step = step
                if (stop := asked(step)) is not None:
                    ends[index] = step, stop
                    return

        threads = [threading.Thread(target=process, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ends


@pytest.mark.parametrize(
    ("seconds", "apart"),
    # Steps of a quarter of a second: eight are two seconds. Steps of three seconds: each one.
    [((0.25, 0.25, 0.25), 8), ((0.01, 0.25, 0.1), 8), ((0.25, 3.0, 0.25), 1)],
)
def test_all_processes_end_at_one_step_soon_after_the_signal(monkeypatch, seconds, apart):
    processes = Processes(monkeypatch, seconds, at=30)
    ends = processes.run(100)
    assert ends == [ends[0]] * 3
    step, stop = ends[0]
    assert stop == signal.SIGTERM
    assert 30 <= step < 30 + apart
    assert processes.asked == [list(range(1, step + 1, apart))] * 3


def test_without_a_signal_nobody_ends(monkeypatch):
    assert Processes(monkeypatch, (0.5, 0.5, 0.5), at=1000).run(41) == [None] * 3


def test_one_process_asks_nobody(monkeypatch):
    monkeypatch.setattr(multihost_utils, "process_allgather", None)
    asked = AgreedSignal(4)
    assert asked(5) is None
    assert agreed_signal() is None
    end_if_asked(5)
    monkeypatch.setattr(interrupts, "received", lambda: signal.SIGINT)
    assert asked(6) == agreed_signal() == signal.SIGINT
    with pytest.raises(Interrupted, match="SIGINT at step 6: the run is saved"):
        end_if_asked(6)
