"""The machine a command runs on: CPU devices, and the other processes of a run."""

import math
import os
import sys

from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.ranges import named


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
