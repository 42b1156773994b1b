"""The processor cores that this process may use."""

import os


def available_cores() -> int:
    """How many cores this process may use; those of the machine where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
