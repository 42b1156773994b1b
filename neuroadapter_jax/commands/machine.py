"""The machine a command runs on: CPU devices, and the other processes of a run."""

import hashlib
import math
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.ranges import named

if TYPE_CHECKING:
    from neuroadapter_jax.diffusion.sampling import Sampling
    from neuroadapter_jax.pipeline import NeuroAdapterPipeline

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


def plan_memory(
    values: CommandFlags,
    pipeline: "NeuroAdapterPipeline",
    sampling: "Sampling | None" = None,
    num_rois: int | None = None,
) -> None:
    """Have the pipeline sample as many images at once as --images_at_once or the memory says.

    Args:
        values: with --images_at_once.
        pipeline: whose calls sample.
        sampling: the steps; the pipeline's own when None.
        num_rois: of the views; None where none are taken.
    """
    from neuroadapter_jax.pipeline import memory

    if values.images_at_once is not None:
        pipeline.place.images_at_once = values.images_at_once
        return
    free = memory.free_bytes()
    if free is None:
        return
    each = memory.bytes_per_image(pipeline, sampling or pipeline.sampling, num_rois)
    if each is None:
        return
    count = pipeline.place.images_at_once = memory.images_that_fit(each, free)
    print(
        f"Memory: {count} images at once on each device, {each / 2**30:.2f} GiB each of "
        f"{free / 2**30:.1f} GiB free (--images_at_once to change it).",
        file=sys.stderr,
        flush=True,
    )


def join_processes(values: CommandFlags) -> None:
    """Join the run's other processes, as the flags or SLURM say."""
    import jax

    from neuroadapter_jax.processes import describe_processes, start_processes

    with named("--"):
        start_processes(values.coordinator, values.num_processes, values.process_id)
    if jax.distributed.is_initialized():
        print(describe_processes(), file=sys.stderr, flush=True)
