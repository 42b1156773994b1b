"""Errors that the user can mend: a file, a flag or a setting, each told in one sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Something given is wrong, and the message says what to do about it.

    The message is one sentence: the file or key, what was found, what was expected, what to do.
    Commands print it and end with exit code 1. Any other exception is a mistake of this package, so
    its traceback is shown.

    Examples:
        >>> from neuroadapter_jax import read_parcellation
        >>> from neuroadapter_jax.errors import InputError
        >>> try:
        ...     read_parcellation("lh.nowhere.annot", "rh.nowhere.annot")
        ... except InputError as error:
        ...     print(error)
        The parcellation file lh.nowhere.annot does not exist.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that is needed is not there."""


class ExistingFileError(InputError, FileExistsError):
    """Something is there already and would be overwritten."""


class NotFiniteError(InputError, FloatingPointError):
    """Numbers that should be finite are not: NaN or infinite."""


@contextmanager
def reading(path: str | os.PathLike, expected: str, remedy: str = "") -> Iterator[None]:
    """Turn whatever a library raises while it reads a file into one sentence with the file's name.

    Put the library's call alone inside, so that no mistake of this package is taken for a bad file.

    Args:
        path: the file.
        expected: what it should be, such as "an npz file of `neuroadapter prepare`".
        remedy: what to do; when empty, one that fits what was found.

    Raises:
        MissingFileError: there is no such file.
        InputError: it can't be read, or is something else than expected.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        if Path(path).exists():  # a file that this one names
            raise InputError(f"{path}: {_in_words(error)}; expected {expected}.") from error
        remedy = remedy or "check the path"
        raise MissingFileError(f"{path}: not found; expected {expected}; {remedy}.") from error
    except Exception as error:
        found, advice = describe(path, error)
        raise InputError(f"{path}: {found}; expected {expected}; {remedy or advice}.") from error


def describe(path: str | os.PathLike, error: BaseException | None = None) -> tuple[str, str]:
    """What a file that could not be read is, as far as it tells, and what to do about it.

    Args:
        path: the file.
        error: what the library that read it raised, told where the file itself says nothing.

    Returns:
        What was found, and a remedy; parts of a sentence.
    """
    if (found := stand_in(path)) is not None:
        return found
    said = _in_words(error) if error is not None else ""
    sentence = "is damaged, cut short or of another format"
    if said:
        sentence += f" ({said if len(said) <= 200 else said[:197] + '...'})"
    return sentence, "copy, download or make it again"


def _in_words(error: BaseException) -> str:
    """What an exception says, on one line and without the number of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    return " ".join(str(error).split())


def stand_in(path: str | os.PathLike) -> tuple[str, str] | None:
    """What lies in place of the data: a folder, nothing, a Git LFS pointer, a web page.

    Returns:
        What was found, and a remedy, as `describe`; None where there may be data.
    """
    path = Path(path)
    if path.is_dir():
        return "is a folder", "name the file in it"
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except PermissionError:
        return "may not be read by this user", "change its permissions"
    except OSError as failure:
        return f"cannot be read ({failure.strerror or failure})", "check the disk and the path"
    start = head.lstrip().lower()
    if not head:
        return "is empty", "copy or download it again"
    if start.startswith(b"version https://git-lfs"):
        return (
            "is a pointer of Git LFS, not the file itself",
            "run `git lfs pull` where it came from",
        )
    if start.startswith((b"<!doctype html", b"<html")):
        return "is a web page, such as a login or an error page", "download the file itself"
    return None
