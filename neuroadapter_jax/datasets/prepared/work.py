"""Work in units that threads share, and that a killed run need not do again."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax import interrupts
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.files import require_same_settings, write_json
from neuroadapter_jax.locks import locked
from neuroadapter_jax.readers import read_json

_REQUEST = "request.json"


def do_units(
    units: dict[str, str],
    folder: Path,
    work: Callable[[str], dict[str, Any]],
    *,
    threads: int = 1,
    done: Callable[[str, bool], None] = lambda *_: None,
) -> dict[str, dict[str, Any]]:
    """Does each unit that is not done yet, over threads.

    A unit is done when `folder/UNIT.json` holds its key.

    Args:
        units: name of each unit, and a key that stands for all it is made from.
        folder: where the marks are.
        work: does a unit and returns what to remember of it, as JSON values.
        threads: how many work at once.
        done: called with the name of each unit that is done, and whether this call did it.

    Returns:
        What is remembered of each unit.
    """
    folder.mkdir(exist_ok=True)

    def attempt(unit: str) -> None:
        lacking = _remembered(folder, unit, units[unit]) is None
        if lacking:
            report = work(unit)
            write_json(folder / f"{unit}.json", {"key": units[unit], **report})
        done(unit, lacking)

    with ThreadPoolExecutor(threads) as pool:
        tasks = [pool.submit(attempt, unit) for unit in units]
        try:
            for task in as_completed(tasks):
                task.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {unit: _read_mark(folder / f"{unit}.json") for unit in units}


@contextlib.contextmanager
def sole_preparation(prepared: Path, work: Path, request: dict[str, Any]) -> Iterator[None]:
    """Holds the lock of a preparation; waits for another process that prepares the same.

    The other may have finished it meanwhile, so look before anything is done.

    Args:
        prepared: the folder that is to be made; the lock is beside it.
        work: where the process that holds the lock notes its request.
        request: all that the records depend on.

    Raises:
        InputError: another process prepares something else there.
    """
    lock = prepared.with_name(f".{prepared.name}.lock")
    said = False

    def while_waiting() -> None:
        nonlocal said
        interrupts.check()
        try:
            other = read_json(work / _REQUEST, "the request of the process that works here")
        except FileNotFoundError:  # it has just begun, or just ended
            return
        require_same_settings(
            work.parent,
            other,
            request,
            "the running work of another process",
            "wait for it, or name another folder",
        )
        if not said:
            said = True
            print(
                f"Waiting for another process that prepares {prepared}; where none does any more, "
                f"delete {lock}.",
                file=sys.stderr,
                flush=True,
            )

    prepared.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, while_waiting):
        yield


def note_request(work: Path, request: dict[str, Any]) -> None:
    """Says in the work folder what is prepared there, for processes that wait."""
    write_json(work / _REQUEST, request)


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
