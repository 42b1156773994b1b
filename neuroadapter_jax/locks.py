"""One folder, one run: locks that end with the process that holds them."""

import contextlib
import errno
import functools
import inspect
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_json

P = ParamSpec("P")
R = TypeVar("R")
LOCK, HOLDER = ".lock", ".lock-holder.json"
# What a file system says that has no locks at all, such as NFS 3 without its lock service.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
# (lock file, thread) that this process holds, so that a study may call what locks the same folder.
_held: set[tuple[Path, int]] = set()


@contextlib.contextmanager
def only_run(folder: str | Path, work: str) -> Iterator[None]:
    """Holds a work folder's lock; another process that asks for it is refused.

    The system releases the lock when the process ends, however it ends. It reaches other hosts
    where the file system's locks do (NFS 4, and Lustre and GPFS mounted with them). Where there are
    none at all, a file stands for the lock, which a process that was killed on another host leaves
    behind.

    Args:
        folder: the work folder; made if it is missing.
        work: what is done there, such as "a training"; for the message of another process.

    Raises:
        InputError: another process, or another thread of this one, works in the folder.
    """
    folder = Path(folder).absolute()
    path, holder = folder / LOCK, folder / HOLDER
    key = (Path(os.path.realpath(path)), threading.get_ident())
    if key in _held or not _is_first_process():
        yield
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _acquired(path, folder, holder):
            _held.add(key)
            try:
                write_json(holder, _this_process(work))
                yield
            finally:
                _held.remove(key)
                _remove(holder)
    finally:
        with contextlib.suppress(OSError):  # what was refused leaves nothing behind
            for place in made:
                place.rmdir()


def runs_alone(argument: str, work: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that holds the lock of the folder that one of its arguments names.

    Args:
        argument: the name of that argument.
        work: see `only_run`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> R:
            folder = signature.bind(*args, **kwargs).arguments[argument]
            with only_run(folder, work):
                return function(*args, **kwargs)

        return alone

    return decorate


@contextlib.contextmanager
def locked(path: Path, while_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock of a file, which the system releases when the process dies.

    Args:
        path: the file; made, and removed at the end.
        while_waiting: called every half second while another process holds the lock; what it
            raises ends the waiting.
    """
    while True:
        try:
            lock = _acquire(path, 0.5)
            break
        except Timeout:
            while_waiting()
    try:
        yield
    finally:
        _remove(path)  # while it is held: who opened it before finds that it has no name any more
        lock.release()


@contextlib.contextmanager
def _acquired(path: Path, folder: Path, holder: Path) -> Iterator[None]:
    try:
        lock = _acquire(path, 0.0)
    except Timeout:
        found = _read(holder)
        raise InputError(
            f"{folder} is in use: {found.get('work', 'another run')} by process "
            f"{found.get('pid', '?')} on {found.get('host', '?')} since {found.get('since', '?')}; "
            f"wait for it, end it or name another folder; where it is no more, delete {path}."
        ) from None
    try:
        yield
    finally:
        _remove(path)  # while it is held: who opened it before finds that it has no name any more
        lock.release()


def _acquire(path: Path, timeout: float) -> BaseFileLock:
    lock: BaseFileLock = FileLock(path)
    try:
        lock.acquire(timeout)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(path)
        lock.acquire(timeout)
    return lock


def _is_first_process() -> bool:
    """Whether this is process 0 of a run of several, which holds the lock for all."""
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def _this_process(work: str) -> dict[str, Any]:
    return {
        "work": work,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # such as a folder that was removed meanwhile
        path.unlink()


def _read(holder: Path) -> dict[str, Any]:
    try:
        return json.loads(holder.read_text())
    except (OSError, ValueError):  # it is just being written
        return {}
