"""The processes of one run: how they find one another, and which GPUs each takes."""

import itertools
import os
import platform
import re
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from neuroadapter_jax import interrupts
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, SettingError, check

# Milliseconds to wait for the others: as long as work may take; and where they may have left.
_WEEK, _SECONDS = 7 * 24 * 3600 * 1000, 15_000
_meetings = itertools.count()  # which tells one from another, in every process alike


def start_processes(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the processes of one run; call it before JAX computes anything.

    With an address the three arguments say who is who. Without one, SLURM's variables do, when
    there is more than one task, and a task takes the GPUs of its host that `slurm_devices` gives;
    else this is a run of one process and nothing happens. With
    num_processes = 1 alone SLURM's variables are not looked at.

    Args:
        coordinator: "host:port" of process 0.
        num_processes: of the whole run.
        process_id: 0 ... num_processes - 1.

    Raises:
        SettingError: an address without a port, or a number that is out of its range.
        InputError: an address without the two numbers, or the reverse; SLURM's variables in a
            process that srun did not start, or tasks that cannot share a host's GPUs evenly; or
            the processes do not find one another.
    """
    given = [coordinator, num_processes, process_id]
    if given == [None, 1, None]:
        return
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise InputError(
                f"coordinator, num_processes and process_id are {given}; give all three, or none "
                "under SLURM or with one process."
            )
        _check_processes(coordinator, num_processes, process_id)
        _initialize(coordinator, num_processes, process_id, **_own_gpus())
    elif (tasks := int(os.environ.get("SLURM_NTASKS") or 1)) > 1:
        # sbatch and salloc set the number too, but start one process only.
        if not {"SLURM_PROCID", "SLURM_STEP_NODELIST"} <= os.environ.keys():
            raise InputError(
                f"SLURM_NTASKS is {tasks}, but srun did not start this process, so the others are "
                "not there; put srun before the command, or give --num_processes=1 to run it alone."
            )
        _initialize(**_own_gpus())


def _own_gpus() -> dict[str, list[int] | None]:
    """What JAX is told of this process's GPUs under SLURM; nothing elsewhere."""
    if "SLURM_LOCALID" not in os.environ:
        return {}
    return {"local_device_ids": slurm_devices(os.environ, visible_gpus(os.environ))}


def visible_gpus(environment: Mapping[str, str]) -> int:
    """How many NVIDIA GPUs this process may use, asked of no driver; 0 where there is none."""
    if (listed := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([name for name in listed.split(",") if name.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def slurm_devices(environment: Mapping[str, str], visible: int) -> list[int] | None:
    """Which of its host's GPUs a task of SLURM takes; JAX's own choice is one per task.

    A task alone on its host takes all that it sees. Tasks that share a host and see all of its
    GPUs take equal runs of them, by SLURM_LOCALID; a task that SLURM has bound to some of them
    takes those.

    Args:
        environment: SLURM's variables.
        visible: GPUs that the process sees.

    Returns:
        Places among the visible ones; None where there is no GPU, for JAX to decide.

    Raises:
        InputError: tasks that share a host cannot share its GPUs evenly.
    """
    if not visible:
        return None
    counts = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE")
    node = int(environment.get("SLURM_NODEID") or 0)
    tasks = _tasks_per_node(counts or "1")[node]
    on_host = environment.get("SLURM_GPUS_ON_NODE", "")
    bound = on_host.isdecimal() and visible < int(on_host)
    if tasks == 1 or bound:
        return list(range(visible))
    if visible % tasks:
        raise InputError(
            f"{tasks} tasks of SLURM share this host and its {visible} GPUs, which do not divide; "
            f"start one task per host (--ntasks-per-node=1), or one per GPU."
        )
    share = visible // tasks
    first = int(environment["SLURM_LOCALID"]) * share
    return list(range(first, first + share))


def _tasks_per_node(counts: str) -> list[int]:
    """SLURM's "2(x3),1" as [2, 2, 2, 1]."""
    found = []
    for part in counts.split(","):
        if (match := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())) is None:
            raise InputError(
                f"SLURM_STEP_TASKS_PER_NODE is {counts!r}; expected numbers of tasks such as "
                f"2(x3),1, so start the run through srun."
            )
        found += [int(match[1])] * int(match[2] or 1)
    return found


def describe_processes() -> str:
    """Which process of a run this is, and how many of its host's devices it uses."""
    own, kind = jax.local_device_count(), jax.local_devices()[0].platform
    gpus = visible_gpus(os.environ)
    of = f" of {gpus}" if kind in ("gpu", "cuda") and gpus else ""
    return (
        f"Process {jax.process_index()} of {jax.process_count()} on {platform.node()}: uses "
        f"{own}{of} {kind} devices; the run has {jax.device_count()}."
    )


def on_first_process(work: Callable[[], object], task: str) -> None:
    """Work that process 0 does for all, while the others wait, however long it takes.

    They wait for the run's coordinator, and no device computes: a collective of the devices gives
    up after some minutes. A signal ends the waiting.

    Args:
        work: what process 0 does; no other calls it.
        task: what it is, such as "prepare the records", for the messages of the others.

    Raises:
        Exception: in process 0, what `work` raises.
        InputError: in the others, where `work` raised, or where a process has ended.
    """
    first = jax.process_index() == 0
    error: BaseException | None = None
    if first:
        try:
            work()
        except BaseException as raised:  # the others are told first
            error = raised
    if jax.process_count() > 1:
        # A signal goes to all processes, of which none may be waiting any more.
        failed = _meet(task, _SECONDS if isinstance(error, KeyboardInterrupt) else _WEEK)
        if not failed:
            failed = not multihost_utils.broadcast_one_to_all(np.array(error is None))
        if failed and not first:
            raise InputError(
                f"Process 0 of this run, which had to {task}, ended before that was done; its own "
                f"message says why, so mend that and start all processes again."
            )
    if error is not None:
        raise error


def _meet(task: str, patience: int) -> bool:
    """Waits until all processes are here; returns whether one of them has ended."""
    from orbax.checkpoint import multihost  # which takes seconds to import

    barrier = multihost.get_barrier_sync_fn()
    failed: list[Exception] = []

    def wait() -> None:
        try:
            barrier(key=f"{next(_meetings)} {task}", timeout_ms=patience)
        except Exception as error:  # JAX has no class of its own for it
            failed.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    waiting.join(1)
    if waiting.is_alive():
        said = f"Process {jax.process_index()} waits for process 0 to {task}."
        print(said, file=sys.stderr, flush=True)
    while waiting.is_alive():  # in steps, since signals act between them
        interrupts.check()
        waiting.join(0.5)
    return bool(failed)


def _check_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Refuse by name what JAX would wait for in vain."""
    if re.fullmatch(r".+:\d+", coordinator or "") is None:
        raise SettingError(
            "coordinator", coordinator, 'the host and port of process 0, as in "node1:1234"'
        )
    check("num_processes", num_processes, Count)
    if process_id not in range(num_processes or 0):
        last = (num_processes or 0) - 1
        raise SettingError("process_id", process_id, f"a number from 0 to {last}, one per process")


def _initialize(*arguments: Any, **options: Any) -> None:
    try:
        jax.distributed.initialize(*arguments, **options)
    except (RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"The processes of this run did not find one another ({said[:200]}); check "
            "--coordinator, --num_processes and --process_id, or give --num_processes=1 to run "
            "this one alone."
        ) from error
