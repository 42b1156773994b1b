"""Stages of commands that consist of other commands."""

import json
import os
import signal
import sys
import threading
import time

import pytest

from neuroadapter_jax import interrupts
from neuroadapter_jax.commands import stages
from neuroadapter_jax.commands.stages import run_stage
from neuroadapter_jax.interrupts import Interrupted

# Makes the file that the last argument names, notes the call, or fails.
STAND_IN = """
import pathlib, sys
with open("calls", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if "--fail" in sys.argv:
    sys.exit(7)
pathlib.Path(sys.argv[-1]).touch()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "PROGRAM", (sys.executable, str(tmp_path / "stand_in.py")))
    return tmp_path


def test_a_stage_runs_once_and_its_seconds_are_recorded(folder, capsys):
    for _ in range(2):
        run_stage(folder / "seconds.json", folder / "made", "train", "--out", "made")
    assert (folder / "calls").read_text() == "train --out made\n"
    record = json.loads((folder / "seconds.json").read_text())
    assert list(record) == ["neuroadapter train --out made"]
    assert capsys.readouterr().out == (
        "[run]  neuroadapter train --out made\n[done] neuroadapter train --out made\n"
    )


def test_a_stage_that_has_to_have_ended_runs_again_where_it_was_killed(folder):
    (folder / "made").touch()
    run_stage(folder / "s.json", folder / "made", "train", "made", must_have_ended=True)
    run_stage(folder / "s.json", folder / "made", "train", "made", must_have_ended=True)
    assert (folder / "calls").read_text() == "train made\n"


def test_a_stage_that_version_0_1_0_recorded_is_done(folder):
    (folder / "made").touch()
    record = {"python launch/train_encoder.py --config c.py": 12}
    (folder / "s.json").write_text(json.dumps(record))
    arguments = ("train-encoder", "--config", "c.py")
    run_stage(folder / "s.json", folder / "made", *arguments, must_have_ended=True)
    assert not (folder / "calls").exists()


def test_a_stage_that_fails_ends_with_its_command_line(folder):
    words = r"`neuroadapter train --fail` ended with exit code 7; the same command goes on there"
    with pytest.raises(ValueError, match=words):
        run_stage(folder / "s.json", folder / "made", "train", "--fail")
    assert not (folder / "s.json").exists()


def test_the_sentence_of_a_command_that_fails_is_told_by_the_one_that_runs_it(tmp_path, capfd):
    missing = tmp_path / "absent"
    with pytest.raises(ValueError, match=r"failed: --model is .*absent, in which there is no conf"):
        run_stage(
            tmp_path / "s.json",
            tmp_path / "made",
            "convert",
            f"--model={missing}",
            f"--out={tmp_path / 'made'}",
        )
    assert capfd.readouterr().err == ""


# Notes that it is there; at a signal, notes it after a while, as one that saves its state.
PATIENT = """
import pathlib, signal, sys, time
def save(number, frame):
    time.sleep(0.3)
    with open("heard", "a") as file:
        file.write(f"{number}\\n")
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
pathlib.Path("ready").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_goes_on_to_the_stage_whose_end_is_waited_for(folder, number):
    (folder / "stand_in.py").write_text(PATIENT)

    def send():
        while not (folder / "ready").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    with pytest.raises(Interrupted) as end, interrupts.of_program():
        run_stage(folder / "s.json", folder / "made", "train")
    assert end.value.exit_code == 128 + number
    assert (folder / "heard").read_text() == f"{number}\n"


def test_the_program_of_a_stage_is_this_package(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neuroadapter_jax.py").write_text("raise SystemExit('the wrong module')")
    run_stage(tmp_path / "s.json", tmp_path / "made", "prepare", "--config=demo", "--dry-run")
    assert "Nothing to fetch: the subject is simulated" in capfd.readouterr().out
