"""Which errors a user can mend; they end a command with one sentence instead of a traceback."""

import errno
import os
from collections.abc import Iterator

from neuroadapter_jax.commands.extras import extra_of
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.interrupts import Interrupted

# What a disk says, and what to do; a library may say it in an exception of its own.
_DISK = {
    errno.ENOSPC: "free some space and give the same command again; what was finished is kept",
    errno.EDQUOT: "free some space and give the same command again; what was finished is kept",
    errno.EFBIG: "raise the limit on the size of files; what was finished is kept",
    errno.EROFS: "name a folder that can be written",
    errno.EACCES: "change the permissions or name another place",
    errno.EIO: "check the disk and give the same command again",
}


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user; None for a mistake of ours, whose traceback is wanted."""
    if isinstance(error, Interrupted):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return str(Interrupted(exit_code_of(error) - 128))
    if isinstance(error, ModuleNotFoundError):
        extra = extra_of(error.name or "")
        if extra is not None:
            return f"{error.name} is not installed; pip install 'neuroadapter-jax[{extra}]'."
    if isinstance(error, ImportError) and "pip install" in str(error):
        return str(error)
    if isinstance(error, InputError):
        return str(error)
    return _memory_sentence(error) or _disk_sentence(error)


def exit_code_of(error: BaseException) -> int:
    """1, or for work that a signal ended 128 + the signal."""
    if isinstance(error, KeyboardInterrupt):
        return getattr(error, "exit_code", 130)
    return 1


def _memory_sentence(error: BaseException) -> str | None:
    """What a device without enough memory said, and what helps."""
    for cause in _chain(error):
        text = " ".join(str(cause).split())
        if type(cause).__module__.startswith("jax") and "RESOURCE_EXHAUSTED" in text:
            return (
                f"The device's memory does not suffice ({text[:200]}); sample fewer images at "
                f"once (--images_at_once=1, --batch_size=1); in training "
                f"--config.train.accumulate=2 or --config.train.remat=True; and close other "
                f"programs that use the device."
            )
    return None


def _disk_sentence(error: BaseException) -> str | None:
    """What a disk or a path refused: full, read-only, not permitted, too long a name."""
    for cause in _chain(error):
        text = " ".join(str(cause).split())
        for number, remedy in _DISK.items():
            said = os.strerror(number)
            if isinstance(cause, OSError) and cause.errno == number:
                return f"{cause.filename or 'the output'}: {said}; {remedy}."
            if said in text:
                return f"{said} ({text[:200]}); {remedy}."
    if isinstance(error, OSError) and error.strerror is not None:
        places = " and ".join(str(x) for x in (error.filename, error.filename2) if x is not None)
        return f"{places or 'a file'}: {error.strerror}; name another place, or look at its folder."
    return str(error) if isinstance(error, OSError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
