"""One case: a file of a reader's folder is damaged, the folder is read, the outcome is judged."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import damage
import numpy as np

from neuroadapter_jax.errors import InputError

SECONDS = 60  # after which a case counts as hanging


class Hang(BaseException):
    """A case took too long; no reader's `except Exception` catches it."""


@dataclasses.dataclass
class Reader:
    """A reader, valid files for it, and what of their content it can vouch for.

    Attributes:
        name: of the reader.
        make: writes valid files into a folder.
        read: reads the folder; returns values that `same` can compare.
        files: patterns of the files that get damaged.
        checksums: patterns of those whose bytes have checksums, so that any change is found out;
            of the others, whole values may come out changed, of the same kind.
        rows: patterns of files of rows, which may lack the last ones unnoticed.
        optional: patterns of files that need not be there, or may be empty.
        share: how many cases it gets, beside the others; less for one that takes long.
    """

    name: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: Sequence[str] = ("*",)
    checksums: Sequence[str] = ()
    rows: Sequence[str] = ()
    optional: Sequence[str] = ()
    share: float = 1.0

    def __str__(self) -> str:
        return self.name


class Prepared:
    """A reader with its valid folder, the folder's bytes and what is read from it."""

    def __init__(self, reader: Reader, folder: Path):
        self.reader, self.folder = reader, folder
        folder.mkdir(parents=True, exist_ok=True)
        reader.make(folder)
        found = {path for pattern in reader.files for path in folder.rglob(pattern)}
        self.files = sorted(path for path in found if path.is_file())
        self.contents = [path.read_bytes() for path in self.files]
        self.right = reader.read(folder)
        assert same(self.right, reader.read(folder)), f"{reader}: not the same values twice"

    def choose(self, choose: damage.Choose, others: damage.Others) -> "Case":
        """A case by some choices."""
        row = choose(0, len(self.files) - 1)
        kinds = damage.kinds_for(self.files[row].name)
        kind = kinds[choose(0, len(kinds) - 1)]
        foreign = damage.of_other_formats(self.files[row].name, others)
        content = damage.damage(kind, self.contents[row], foreign, choose)
        return Case(self, row, kind, content)


@dataclasses.dataclass
class Case:
    """A damaged file."""

    prepared: Prepared
    row: int
    kind: str
    content: bytes | None

    def __str__(self) -> str:
        place = self.prepared.files[self.row].relative_to(self.prepared.folder)
        return f"{self.prepared.reader}: {place} {self.kind}"

    def run(self) -> str:
        """Reads the damaged folder; "" where the outcome is right, else what is wrong with it."""
        path, whole = self.prepared.files[self.row], self.prepared.contents[self.row]
        try:
            path.unlink() if self.content is None else path.write_bytes(self.content)
            with _limited():
                return self._judge(self.prepared.reader.read(self.prepared.folder))
        except InputError as error:
            return _faults_of_sentence(str(error))
        except Hang:
            return f"still reading after {SECONDS} s"
        except Exception as error:
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            path.write_bytes(whole)

    def _is_one_of(self, patterns: Sequence[str]) -> bool:
        return any(self.prepared.files[self.row].match(pattern) for pattern in patterns)

    def _judge(self, found: Any) -> str:
        reader = self.prepared.reader
        if self.content == self.prepared.contents[self.row] or same(found, self.prepared.right):
            return ""
        if self.kind in ("missing", "emptied") and self._is_one_of(reader.optional):
            return ""
        if self._is_one_of(reader.rows) and b"\n" not in (self.content or b"\n"):
            return ""  # as a row that was being written when the process was killed
        changed = "values without a word"
        if self.kind in damage.REPLACED or self.kind == "missing":
            return f"other {changed}, of a file that is none"
        if self._is_one_of(reader.checksums):
            if self.kind in ("truncated", "bytes changed", "zeroed"):
                return f"other {changed}, although a checksum tells"
        elif self.kind == "truncated" and not self._is_one_of(reader.rows):
            return f"fewer {changed}"
        if not alike(found, self.prepared.right):
            return f"{changed} of another kind: {str(found)[:200]}"
        return ""


@contextlib.contextmanager
def _limited():
    def stop(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _faults_of_sentence(text: str) -> str:
    if "\n" in text:
        return f"a message of several lines: {text[:200]!r}"
    if "allow_pickle" in text:
        return f"an invitation to unpickle: {text[:200]!r}"
    return ""


def same(a: Any, b: Any) -> bool:
    """Whether two trees of values are equal, NaN to NaN."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        nan = a.dtype.kind in "fc" and b.dtype.kind in "fc"
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=nan)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float) and a != a and b != b:
        return True
    return type(a) is type(b) and a == b


def alike(a: Any, b: Any) -> bool:
    """Whether values that may have changed are still of the same kind."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        numbers = "iufb"
        return a.ndim == b.ndim and (a.dtype.kind in numbers) == (b.dtype.kind in numbers)
    if isinstance(b, list | tuple | dict):
        return isinstance(a, type(b))
    return isinstance(a, type(b)) or a is None or b is None or {type(a), type(b)} == {int, float}
