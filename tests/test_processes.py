"""Processes of one run, and the GPUs that SLURM's tasks take."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.processes import slurm_devices, start_processes, visible_gpus


def test_slurm_without_srun_is_told_a_way_out(monkeypatch):
    joined = []
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *given, **options: joined.append((given, options))
    )
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    with pytest.raises(InputError, match=r"SLURM_NTASKS is 4, but srun .* give --num_processes=1"):
        start_processes()
    start_processes(num_processes=1)
    assert joined == []
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[1-4]")
    start_processes()
    assert joined == [((), {"local_device_ids": None})]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setenv("SLURM_STEP_TASKS_PER_NODE", "1(x4)")
    start_processes()
    assert joined[1] == ((), {"local_device_ids": [0, 1, 2, 3]})

    def fails(*given, **options):
        raise RuntimeError("DEADLINE_EXCEEDED:\nno answer")

    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(InputError, match="one another \\(DEADLINE_EXCEEDED: no answer\\); check"):
        start_processes("127.0.0.1:1", 2, 1)


@pytest.mark.parametrize(
    ("variables", "visible", "devices"),
    [
        # One task per host of eight: all eight, where JAX itself takes one.
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x4)", "SLURM_NODEID": "2", "SLURM_LOCALID": "0"}, 8,
         range(8)),
        # One task per GPU, all of them visible to each.
        ({"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5"}, 8, [5]),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x3),4", "SLURM_NODEID": "3", "SLURM_LOCALID": "1"}, 8,
         [2, 3]),
        # --gpus-per-task=1: each task sees its own GPU only, under number 0.
        ({"SLURM_STEP_TASKS_PER_NODE": "8", "SLURM_LOCALID": "5", "SLURM_GPUS_ON_NODE": "8"}, 1,
         [0]),
        ({"SLURM_TASKS_PER_NODE": "2", "SLURM_LOCALID": "1", "SLURM_GPUS_ON_NODE": "4"}, 4, [2, 3]),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_LOCALID": "0"}, 0, None),
    ],
)  # fmt: skip
def test_a_task_of_slurm_takes_its_share_of_the_hosts_gpus(variables, visible, devices):
    found = slurm_devices(variables, visible)
    assert found == (None if devices is None else list(devices))


def test_tasks_that_cannot_share_the_gpus_are_told_how_to_start():
    with pytest.raises(InputError, match="3 tasks of SLURM share this host and its 8 GPUs"):
        slurm_devices({"SLURM_STEP_TASKS_PER_NODE": "3", "SLURM_LOCALID": "0"}, 8)
    with pytest.raises(InputError, match="SLURM_STEP_TASKS_PER_NODE is 'many'"):
        slurm_devices({"SLURM_STEP_TASKS_PER_NODE": "many", "SLURM_LOCALID": "0"}, 8)


@pytest.mark.parametrize(
    ("listed", "count"), [("0,1,2", 3), ("", 0), ("-1", 0), ("GPU-8932f937,GPU-47a1b2c3", 2)]
)
def test_visible_gpus_are_those_that_cuda_is_told(listed, count):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": listed}) == count


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("localhost", 2, 0), "coordinator is 'localhost'; expected the host and port"),
        (("localhost:1", 2, 2), "process_id is 2; expected a number from 0 to 1"),
        (("localhost:1", 2, -1), "process_id is -1; expected a number from 0 to 1"),
        (("localhost:1", 0, 0), "num_processes is 0; expected a whole number of at least 1"),
    ],
)
def test_processes_that_could_never_meet_are_refused_at_once(monkeypatch, given, words):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_: pytest.fail("it would wait"))
    with pytest.raises(InputError, match=words):
        start_processes(*given)


def test_a_shell_of_salloc_is_told_that_srun_is_lacking(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    for name in ("SLURM_PROCID", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="put srun before the command"):
        start_processes()


def in_one_of_two(folder, index, port):
    """One of two processes: work that ends well, then work that does not."""
    from jax.experimental import multihost_utils

    from neuroadapter_jax import interrupts
    from neuroadapter_jax.processes import on_first_process, start_processes

    broadcast = multihost_utils.broadcast_one_to_all

    def devices_meet(*arguments):
        assert (folder / "done").exists()  # never before the work is done
        return broadcast(*arguments)

    def work():
        while not (folder / "waits").exists():
            time.sleep(0.1)
        (folder / "done").write_text("")

    def fail():
        raise InputError("no such folder; name another.")

    multihost_utils.broadcast_one_to_all = devices_meet
    start_processes(f"127.0.0.1:{port}", 2, index)
    if index:  # which looks for signals while it waits
        interrupts.check = lambda: (folder / "waits").write_text("")
    on_first_process(work, "prepare the records")
    try:
        on_first_process(fail, "read the map")
    except InputError as error:
        print(error)


def test_the_others_wait_for_process_0_without_their_devices_and_are_told_if_it_fails(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    both = [
        subprocess.Popen(
            [sys.executable, __file__, str(tmp_path), str(index), str(port)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    (first, errors), (second, waited) = (process.communicate(timeout=300) for process in both)
    assert [process.returncode for process in both] == [0, 0], errors + waited
    assert first.endswith("no such folder; name another.\n")
    assert "Process 0 of this run, which had to read the map, ended before" in second
    assert "Process 1 waits for process 0 to prepare the records." in waited


if __name__ == "__main__":
    in_one_of_two(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
