"""One folder, one run."""

import errno
import inspect
import json
import os
import socket
import subprocess
import sys
import threading

import filelock
import jax
import pytest

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.locks import HOLDER, LOCK, locked, only_run, runs_alone
from neuroadapter_jax.pipeline import reconstruct_split, write_reconstructions
from neuroadapter_jax.pipeline.views_folder import interpret_split
from neuroadapter_jax.studies.ablation import run_ablation
from neuroadapter_jax.studies.attention_truth import run_attention_truth
from neuroadapter_jax.studies.decoders import run_decoders
from neuroadapter_jax.studies.demo import run_demo
from neuroadapter_jax.studies.interpretation import interpret
from neuroadapter_jax.training.brain_encoder import train_encoders
from neuroadapter_jax.training.joint_space import train_joint_space
from neuroadapter_jax.training.loop import fit
from neuroadapter_jax.training.spatial_adapter import train_spatial_adapter
from neuroadapter_jax.training.tiny_sd import pretrain
from neuroadapter_jax.training.tiny_vit import pretrain_vit
from neuroadapter_jax.training.train import train

HOLDING = """
import sys
from neuroadapter_jax.locks import only_run
with only_run(sys.argv[1], "a training"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path / "run"."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def in_thread(function):
    """What a function raises in another thread."""
    raised = []

    def call():
        try:
            function()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def enter(folder):
    with only_run(folder, "a reconstruction"):
        return sorted(path.name for path in folder.iterdir())


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path, holder):
    folder = tmp_path / "run"
    words = rf"run is in use: a training by process {holder.pid} on {socket.gethostname()} since "
    with pytest.raises(InputError, match=words):
        enter(folder)
    holder.kill()
    holder.wait()
    assert (folder / LOCK).exists()  # a killed process leaves its file, but no lock
    assert enter(folder) == [LOCK, HOLDER]
    assert list(folder.iterdir()) == []


def test_a_process_that_ends_leaves_the_folder_free_and_clean(tmp_path, holder):
    holder.communicate()
    assert not (tmp_path / "run").exists()
    with only_run(tmp_path, "a training"):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_call_inside_a_call_shares_the_lock_and_another_thread_does_not(tmp_path):
    with only_run(tmp_path, "a study"):
        with only_run(tmp_path / "." / "part" / "..", "its part"):
            assert "in use: a study" in str(in_thread(lambda: enter(tmp_path)))
        assert isinstance(in_thread(lambda: enter(tmp_path)), InputError)
    assert in_thread(lambda: enter(tmp_path)) is None


def test_the_work_of_a_refused_call_leaves_no_folder(tmp_path):
    with pytest.raises(KeyError), only_run(tmp_path / "a" / "b", "a training"):
        raise KeyError
    assert not (tmp_path / "a" / "b").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_a_file_stands_for_one(tmp_path, monkeypatch, number):
    def refuse(self, *args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with only_run(tmp_path, "a training"):
        words = f"where it is no more, delete {tmp_path / LOCK}"
        assert words in str(in_thread(lambda: enter(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_several_processes_of_one_run_locks_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with only_run(tmp_path, "a training"):
        assert isinstance(in_thread(lambda: enter(tmp_path)), InputError)
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        assert in_thread(lambda: enter(tmp_path)) is None
        monkeypatch.undo()


def test_a_lock_is_waited_for_and_what_is_raised_meanwhile_ends_the_waiting(tmp_path):
    class Enough(Exception):
        pass

    def wait(while_waiting):
        with locked(tmp_path / "unit.lock", while_waiting):
            found.append("held")

    def lose_patience():
        found.append("waits")
        raise Enough

    found = []
    with locked(tmp_path / "unit.lock"):
        assert isinstance(in_thread(lambda: wait(lose_patience)), Enough)
        waiting = threading.Thread(target=wait, args=(lambda: None,))
        waiting.start()
        assert found == ["waits"]
    waiting.join()
    assert found == ["waits", "held"] and list(tmp_path.iterdir()) == []


WORK = {
    "out": [
        reconstruct_split,
        write_reconstructions,
        interpret_split,
        interpret,
        run_decoders,
        run_ablation,
        run_attention_truth,
        run_demo,
    ],
    "workdir": [
        train,
        fit,
        train_encoders,
        pretrain,
        pretrain_vit,
        train_spatial_adapter,
        train_joint_space,
    ],
}


@pytest.mark.parametrize(
    ("argument", "work"),
    [(argument, work) for argument, all_work in WORK.items() for work in all_work],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_work_in_a_folder_that_is_in_use_is_refused_first(tmp_path, as_user, argument, work):
    arguments = dict.fromkeys(
        name
        for name, parameter in inspect.signature(work).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
    )
    with only_run(tmp_path, "a test"):
        raised = in_thread(lambda: work(**arguments | {argument: tmp_path}))
    assert isinstance(raised, InputError) and "is in use: a test by process" in str(raised)


def test_a_decorated_function_keeps_its_name_and_finds_its_folder_by_position(tmp_path):
    @runs_alone("folder", "a test")
    def work(number, folder):
        """Says."""
        return number, (folder / LOCK).exists()

    assert work(7, tmp_path) == (7, True) and work.__doc__ == "Says."
