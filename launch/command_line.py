"""What commands share: the config flag, one sentence for what is wrong, CPU devices, hosts."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from neuroadapter_jax.sharding import start_processes


def define_config() -> flags.FlagHolder:
    """The flag --config FILE, whose keys --config.key=value overrides."""
    holder = config_flags.DEFINE_config_file("config", lock_config=True)
    flags.mark_flag_as_required("config")
    return holder


def run(main: Callable) -> None:
    """`absl.app.run`, in which a wrong flag or config file ends with one sentence.

    Libraries that log every object they make are asked for warnings only; --verbosity=0 shows all.
    """
    app.run(main, flags_parser=_parse)


def per_subject(config: ConfigDict) -> list[ConfigDict]:
    """One config per subject of config.data.subjects; the config itself where there is no such key.

    {subject} in data.prepared stands for the subject's number.
    """
    if config.data.get("subjects") is None:
        return [config]
    result = []
    for subject in config.data.subjects:
        one = config.copy_and_resolve_references()
        one.data.subject = subject
        one.data.prepared = config.data.prepared.format(subject=subject)
        result.append(one)
    return result


def use_cpu_cores(batch_size: int) -> None:
    """On CPU, one device per core, as far as the batch divides; call it before JAX computes.

    XLA runs the derivative of a convolution on one thread, so two devices on two cores train up
    to twice as fast as one. It changes nothing on accelerators, nor where XLA_FLAGS says how many.
    """
    flags_set = os.environ.get("XLA_FLAGS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    count = math.gcd(batch_size, 1 << (cores.bit_length() - 1))
    if "xla_force_host_platform_device_count" not in flags_set:
        os.environ["XLA_FLAGS"] = f"{flags_set} --xla_force_host_platform_device_count={count}"


def define_processes() -> None:
    """The flags of a run on several hosts that is not started by SLURM."""
    flags.DEFINE_string("coordinator", None, "host:port of process 0.")
    flags.DEFINE_integer("num_processes", None, "Processes of the whole run.")
    flags.DEFINE_integer("process_id", None, "This process's number, from 0.")


def join_processes() -> None:
    """Join the run's other processes, as the flags or SLURM say."""
    values = flags.FLAGS
    start_processes(values.coordinator, values.num_processes, values.process_id)


def _parse(arguments: list[str]) -> list[str]:
    name = Path(arguments[0]).stem
    try:
        rest = flags.FLAGS(arguments)
    except flags.Error as error:
        sys.exit(f"{name}: {error} (python launch/{name}.py --help lists the flags)")
    except (AttributeError, KeyError) as error:
        sys.exit(f"{name}: {_unknown_key(arguments, error)}")
    except OSError:
        rest = []
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = -1
    if "config" not in flags.FLAGS:
        return rest
    file = flags.FLAGS["config"].config_filename.split(":")[0]  # FILE:argument of get_config
    if not Path(file).is_file():
        sys.exit(f"{name}: the config file {file} is not there; the project's are in configs/.")
    return rest


def _unknown_key(arguments: list[str], error: Exception) -> str:
    """Names the --config.key that ConfigDict did not find, and the one it takes to be meant."""
    cause = error.args[0] if error.args else error
    message = str(cause.args[0]) if isinstance(cause, KeyError) else str(cause)
    missing, _, hint = message.partition("\n")
    keys = [a.lstrip("-").split("=")[0] for a in arguments]
    key = next((k for k in keys if k.startswith("config.") and missing.strip("'") in k), missing)
    return f"{key} is no key of the config file. {hint}".rstrip()
