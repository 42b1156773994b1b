"""Work in units that threads and processes share, and that a killed run need not do again."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.files import require_same_settings, write_json
from neuroadapter_jax.locks import locked
from neuroadapter_jax.readers import read_json


def share(
    units: dict[str, str],
    folder: Path,
    work: Callable[[str], dict[str, Any]],
    *,
    threads: int = 1,
    done: Callable[[str, bool], None] = lambda *_: None,
) -> dict[str, dict[str, Any]]:
    """Does each unit once, over the threads of all processes that call this on the same folder.

    A unit is done when `folder/UNIT.json` holds its key; `folder/UNIT.lock` is locked while it is
    being done, and the system unlocks it when a process dies. On a network folder this needs a
    file system whose locks reach all hosts (NFS 4 does).

    Args:
        units: name of each unit, and a key that stands for all it is made from.
        folder: where the marks are.
        work: does a unit and returns what to remember of it, as JSON values.
        threads: of this process.
        done: called with the name of each unit that is done, and whether this call did it.

    Returns:
        What is remembered of each unit.
    """
    folder.mkdir(exist_ok=True)  # without its parent, which whoever finishes first has moved away

    def attempt(unit: str, wait: bool) -> bool:
        with locked(folder / f"{unit}.lock", wait) as mine:
            if not mine:
                return False
            ours = _remembered(folder, unit, units[unit]) is None
            if ours:
                report = work(unit)
                write_json(folder / f"{unit}.json", {"key": units[unit], **report})
        done(unit, ours)
        return True

    with ThreadPoolExecutor(threads) as pool:
        tasks = {pool.submit(attempt, unit, False): unit for unit in units}
        try:
            left = [tasks[task] for task in as_completed(tasks) if not task.result()]
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for unit in sorted(left):  # others are at these; should one of them die, it is our turn
        attempt(unit, True)
    return {unit: _read_mark(folder / f"{unit}.json") for unit in units}


@contextlib.contextmanager
def only_request(folder: Path, request: dict[str, Any]) -> Iterator[None]:
    """Lets several processes work in a folder as long as they want the same.

    Raises:
        InputError: a process that wants something else is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "request.json"
    with open(folder / "users.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_json(path, request)
        except BlockingIOError:
            pass
        fcntl.flock(file, fcntl.LOCK_SH)
        other = read_json(path, "the request of the process that works here")
        require_same_settings(
            folder,
            other,
            request,
            "the running work of another process",
            "wait for it, or name another folder",
        )
        yield


def _remembered(folder: Path, unit: str, key: str) -> dict[str, Any] | None:
    path = folder / f"{unit}.json"
    if not path.exists():
        return None
    report = _read_mark(path)
    return report if report["key"] == key else None


class _Mark(TypedDict):
    key: str


def _read_mark(path: Path) -> dict[str, Any]:
    advice = "delete it, and the same command does this part of the work again"
    return read_json(path, "the mark of finished work", _Mark, advice)


def thread_count() -> int:
    """One thread per core that this process may use, but no more than four."""
    return min(4, available_cores())
