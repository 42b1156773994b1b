"""Flags of one command, and how what is wrong is said."""

import errno
import os
import signal
import subprocess
import sys
import types

import pytest
from absl import flags

from neuroadapter_jax.commands import runner
from neuroadapter_jax.commands.errors import sentence_of
from neuroadapter_jax.commands.shared_flags import define_shared
from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.evaluation.features import MissingWeightsError
from neuroadapter_jax.interrupts import Interrupted


@pytest.fixture
def command():
    """A command whose work is to be set."""

    def define(values):
        flags.DEFINE_bool("dry_run", False, "Do nothing.", flag_values=values)
        define_shared(values, "out", "num_steps", required=("out",))

    module = types.ModuleType("work", "Work.")
    module.define, module.main = define, lambda values, arguments: None
    return module


def failing(command, error):
    def main(values, arguments):
        raise error

    command.main = main
    return command


def test_flags_reach_the_command_and_the_rest_follows(command):
    seen = {}
    command.ARGUMENTS = "FOLDER"
    command.main = lambda values, rest: seen.update(
        out=values.out, dry_run=values.dry_run, steps=values.num_steps, rest=rest
    )
    runner.run("work", command, ["a", "--dry-run", "--num-steps=7", "--out", "x-y", "b"])
    assert seen == {"out": "x-y", "dry_run": True, "steps": 7, "rest": ["a", "b"]}


def test_a_command_has_flags_of_its_own_only(command):
    values = runner.define_flags(command, [])
    assert set(values) == {"dry_run", "out", "num_steps", "traceback", "verbosity"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out=x", "--stepz=1"], "work: Unknown command line flag 'stepz'"),
        (["--num_steps=3"], "work: give --out (neuroadapter work --help"),
        (["--out=x", "--num_steps=0"], "work: flag --num_steps=0: 0 is not a positive integer"),
        (["--out=x", "y"], "work: found 'y', which belongs to no flag"),
    ],
)
def test_a_wrong_flag_is_one_sentence(command, arguments, sentence):
    with pytest.raises(SystemExit) as end:
        runner.run("work", command, arguments)
    assert str(end.value.code).startswith(sentence) and "\n" not in end.value.code
    assert end.value.code.endswith("--help lists the flags)")


@pytest.mark.parametrize(
    ("error", "sentence", "code"),
    [
        (InputError("the folder is empty."), "the folder is empty.", 1),
        (FileNotFoundError("a.npz does not exist."), "a.npz does not exist.", 1),
        (NotFiniteError("the loss is nan."), "the loss is nan.", 1),
        (MissingWeightsError("clip is not here"), "clip is not here", 1),
        (Interrupted(15, 3), "SIGTERM at step 3: the run is saved", 143),
        (Interrupted(2), "SIGINT: what was finished is kept; start it again to go on", 130),
        (KeyboardInterrupt(), "SIGINT: what was finished is kept", 130),
        (
            OSError(28, "No space left on device", "a.npz"),
            "a.npz: No space left on device; free",
            1,
        ),
        (OSError(30, "Read-only file system", "runs"), "runs: Read-only file system; name", 1),
        (PermissionError(13, "Permission denied", "b"), "b: Permission denied; change", 1),
        # As tensorstore and ArrayRecord say it, in exceptions of their own.
        (
            ValueError("RESOURCE_EXHAUSTED:\nNo space left on device"),
            "No space left on device (RESOURCE_",
            1,
        ),
        (ImportError("needs x: pip install x"), "needs x: pip install x", 1),
        (
            ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow"),
            "tensorflow is not installed; pip install 'neuroadapter-jax[prepare]'",
            1,
        ),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(command, error, sentence, code, capsys):
    with pytest.raises(SystemExit) as end:
        runner.run("work", failing(command, error), ["--out=x"])
    err = capsys.readouterr().err
    assert end.value.code == code
    assert err.startswith(f"work: {sentence}") and err.count("\n") == 1


def test_a_full_disk_is_told_from_behind_what_a_library_raised(command, capsys):
    def main(values, arguments):
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a")
        except OSError as error:
            raise RuntimeError("the writer failed") from error

    command.main = main
    with pytest.raises(SystemExit) as end:
        runner.run("work", command, ["--out=x"])
    assert end.value.code == 1
    assert capsys.readouterr().err.startswith("work: runs/a: No space left on device; free some")


def test_a_signal_to_a_command_ends_it_with_its_code(command, capsys):
    command.main = lambda values, arguments: signal.raise_signal(signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        runner.run("work", command, ["--out=x"])
    assert end.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert capsys.readouterr().err.startswith("work: SIGTERM: what was finished is kept")


def ended(*arguments, **streams):
    """A real command as a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "neuroadapter_jax", *arguments]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, **streams)


def test_output_that_nobody_reads_ends_as_by_sigpipe_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        process = ended("rois", "--help", stdout=pipe)
    assert (process.returncode, process.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_output_to_a_full_disk_is_one_sentence():
    with open("/dev/full", "wb") as full:
        process = ended("rois", "--help", stdout=full)
    assert process.returncode == 1
    assert process.stderr.startswith("rois: the output: No space left on device; free some space")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), ModuleNotFoundError("no own", name="own")]
)
def test_a_mistake_of_ours_keeps_its_traceback(command, error):
    assert sentence_of(error) is None
    with pytest.raises(type(error)):
        runner.run("work", failing(command, error), ["--out=x"])


def test_a_traceback_is_shown_on_demand(command):
    with pytest.raises(ValueError, match="empty"):
        runner.run("work", failing(command, ValueError("empty")), ["--out=x", "--traceback"])


def test_an_exit_code_of_the_work_is_kept(command):
    with pytest.raises(SystemExit) as end:
        runner.run("work", failing(command, SystemExit(3)), ["--out=x"])
    assert end.value.code == 3


def test_help_tells_choices_defaults_and_what_is_required(command, capsys):
    command.main = None
    runner.run("work", command, ["--help", "--wrong"])
    text = capsys.readouterr().out
    assert text.startswith("neuroadapter work [flags]\n\nWork.\n")
    _, required, *others = text[text.index("Work.") :].split("\n\n")
    assert required.startswith("Required:\n") and "Folder to write." in required
    assert "--[no]dry_run" in "".join(others)
