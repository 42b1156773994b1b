"""Which errors a user can mend; they end a command with one sentence instead of a traceback."""

import sys
from collections.abc import Iterator

from neuroadapter_jax.commands.extras import extra_of
from neuroadapter_jax.errors import InputError

# An OSError is the disk's or a path's: full, read-only, not permitted, too long a name.
MENDABLE = (InputError, OSError)
# The end of a training by a signal, of a module that takes long to import; one that was raised
# comes from an imported module.
_ELSEWHERE = (("neuroadapter_jax.training.loop", "Interrupted"),)


def sentence_of(error: Exception) -> str | None:
    """What to tell the user; None for a mistake of ours, whose traceback is wanted."""
    if isinstance(error, ModuleNotFoundError):
        extra = extra_of(error.name or "")
        if extra is not None:
            return f"{error.name} is not installed; pip install 'neuroadapter-jax[{extra}]'."
    if isinstance(error, ImportError) and "pip install" in str(error):
        return str(error)
    return str(error) if isinstance(error, (*MENDABLE, *_raised_elsewhere())) else None


def exit_code_of(error: Exception) -> int:
    """1, or what the error itself says: a run that a signal ended says 128 + the signal."""
    return getattr(error, "exit_code", 1)


def _raised_elsewhere() -> Iterator[type[Exception]]:
    for module, name in _ELSEWHERE:
        if module in sys.modules:
            yield getattr(sys.modules[module], name)
