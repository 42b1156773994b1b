"""Bytes per second, beside those of a plain copy on the same disk."""

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_BLOCK = 8 << 20


class Meter:
    """Counts bytes, from any thread, over the time in which it is open."""

    def __init__(self):
        self.bytes_read = 0
        self.bytes_written = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> "Meter":
        self._start = time.monotonic()
        return self

    def __exit__(self, *_) -> None:
        self.seconds += time.monotonic() - self._start

    def add(self, read: int = 0, written: int = 0) -> None:
        """Adds bytes."""
        with self._lock:
            self.bytes_read += read
            self.bytes_written += written

    @property
    def rate(self) -> float:
        """MB (10^6 bytes), read and written, per second."""
        return (self.bytes_read + self.bytes_written) / 1e6 / max(self.seconds, 1e-9)

    def describe(self, what: str) -> str:
        """One line for the terminal."""
        return (
            f"{what}: {self.bytes_read / 1e6:.1f} MB read and {self.bytes_written / 1e6:.1f} MB "
            f"written in {self.seconds:.1f} s, {self.rate:.0f} MB/s"
        )


def forget_cached(paths: Sequence[Path]) -> None:
    """Asks the system to drop these files from memory, so that reading them means the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def plain_copy_rate(paths: Sequence[Path], bytes_written: int, folder: Path) -> float:
    """MB/s of reading files from end to end, then writing so many bytes to a file in `folder`.

    Both in blocks of 8 MiB, one after the other; the files are first dropped from memory, and the
    written file is synced to the disk and removed.
    """
    forget_cached(paths)
    block = memoryview(bytearray(os.urandom(_BLOCK)))
    total, start = bytes_written, time.monotonic()
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                total += count
    place = folder / "plain_copy.partial"
    try:
        with place.open("wb", buffering=0) as file:
            for begin in range(0, bytes_written, _BLOCK):
                file.write(block[: min(_BLOCK, bytes_written - begin)])
            os.fsync(file.fileno())
        return total / 1e6 / (time.monotonic() - start)
    finally:
        place.unlink(missing_ok=True)
