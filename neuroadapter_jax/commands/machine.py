"""The machine a command runs on: CPU devices, and the other processes of a run."""

import hashlib
import math
import os
import platform
import re
import sys
from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.ranges import named

CACHE = "JAX_COMPILATION_CACHE_DIR"
_CACHE_BYTES = 4 * 2**30


def use_compilation_cache() -> None:
    """Keep compiled programs for the next command; call it before JAX is imported.

    They go to neuroadapter-jax below XDG_CACHE_HOME (else ~/.cache), at most 4 GiB, the oldest
    leave first; JAX_COMPILATION_CACHE_DIR names another folder, JAX_ENABLE_COMPILATION_CACHE=0
    keeps none. A kind of processor has a folder to itself, since hosts of a cluster share a home,
    and what was compiled for one kind may use instructions that another lacks.
    """
    if CACHE in os.environ:
        return
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = base / "neuroadapter-jax" / f"programs-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or one that cannot be written
        return
    if not os.access(folder, os.W_OK):
        return
    os.environ[CACHE] = str(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_CACHE_BYTES))


def _processor() -> str:
    """A name for the kind of processor: its architecture, and a digest of what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = [platform.processor()]
    abilities = next((line for line in lines if re.match(r"flags|Features", line)), lines[0])
    digest = hashlib.sha256(abilities.encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"


def use_cpu_cores(batch_size: int) -> None:
    """On CPU, one device per core, as far as the batch divides; call it before JAX computes.

    XLA runs the derivative of a convolution on one thread, so two devices on two cores train up
    to twice as fast as one. It changes nothing on accelerators, nor where XLA_FLAGS says how many.
    """
    flags_set = os.environ.get("XLA_FLAGS", "")
    count = math.gcd(batch_size, 1 << (available_cores().bit_length() - 1))
    if "xla_force_host_platform_device_count" not in flags_set:
        os.environ["XLA_FLAGS"] = f"{flags_set} --xla_force_host_platform_device_count={count}"


def join_processes(values: CommandFlags) -> None:
    """Join the run's other processes, as the flags or SLURM say."""
    import jax

    from neuroadapter_jax.processes import describe_processes, start_processes

    with named("--"):
        start_processes(values.coordinator, values.num_processes, values.process_id)
    if jax.distributed.is_initialized():
        print(describe_processes(), file=sys.stderr, flush=True)
