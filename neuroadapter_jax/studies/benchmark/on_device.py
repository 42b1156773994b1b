"""The paper's programs run and timed where an accelerator is, beside what bounds their time."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from neuroadapter_jax import __version__
from neuroadapter_jax.encoder.vit import Dinov2Config
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, write_json, write_text
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.sharding import make_mesh
from neuroadapter_jax.studies.benchmark.absent import Accelerator, accelerator_of
from neuroadapter_jax.studies.benchmark.measure import SIZES
from neuroadapter_jax.studies.benchmark.program_text import program_cost
from neuroadapter_jax.studies.benchmark.programs import PROGRAMS, Workload, make_program
from neuroadapter_jax.tables import MISSING, markdown_table

_RESULTS, _TABLE = "measured.json", "measured.md"
_GIB = 2**30
BUDGET = 480.0  # seconds of all programs together, what JAX takes to start included
# Timed calls of a program: so many, or fewer where those took so many seconds.
_MOST_CALLS, _LONG = 10, 15.0
PAPER = Workload()
TINY = Workload(
    batch=2,
    images=2,
    candidates=2,
    num_steps=3,
    num_parcels=10,
    num_vertices=2 * 1009,
    vit=Dinov2Config(hidden_size=24, num_hidden_layers=8, num_attention_heads=3),
)
Run = Callable[[Mapping[str, Any], float], dict[str, Any]]


def measure_programs(
    out: str | Path, *, tiny: bool = False, budget: float = BUDGET, run: Run | None = None
) -> str:
    """Run and time `PROGRAMS` on this machine's first accelerator, within a budget of time.

    Each program is compiled, called once and then timed in a process of its own, whose peak memory
    is so its own, too. What does not fit into the rest of the budget is ended and named.

    Args:
        out: folder for measured.json and measured.md, which replace those of an earlier call.
        tiny: small networks and batches, on a CPU as well, to try it.
        budget: seconds of all together.
        run: (what to run, seconds it may take) -> what it found; a process each when None.

    Returns:
        The table as Markdown.

    Raises:
        InputError: there is no accelerator, or JAX does not start.
        ExistingFileError: `out` holds files of these names that are something else.
    """
    run, out, end = run or _run_apart, Path(out), time.monotonic() + budget
    refuse_foreign(out, [_RESULTS, _TABLE], ours=_is_ours(out))
    device = run({"program": None}, budget)
    if reason := device.get("error"):
        raise InputError(
            f"--measure: JAX does not start ({reason}); `neuroadapter doctor` says what is there."
        )
    if device["platform"] == "cpu" and not tiny:
        raise InputError(
            "--measure found no accelerator, JAX sees the CPU alone; give it where a GPU or TPU "
            "is (`neuroadapter doctor` says what JAX sees), or add --tiny to try it here."
        )
    size = "tiny-sd" if tiny else "sd15"
    found: dict[str, Any] = {
        "device": device, "size": size, "budget_seconds": budget, "programs": [],
    }  # fmt: skip
    bar = Bar(list(PROGRAMS), unit="program")
    for name in bar:
        bar.set_postfix_str(name)
        left = end - time.monotonic()
        row = {"skipped": f"the {budget:.0f} s were over"} if left <= 0 else run(
            {"program": name, "tiny": tiny}, left
        )  # fmt: skip
        found["programs"].append({"program": name, **row})
        write_json(out / _RESULTS, found)
        write_text(out / _TABLE, measured_table(found))
    return measured_table(found)


def _is_ours(out: Path) -> bool:
    """Whether a folder holds an earlier measurement, which the new one replaces."""
    try:
        found = read_json(out / _RESULTS, "an earlier measurement")
    except InputError:
        return False
    return {"device", "size", "budget_seconds", "programs"} == found.keys()


def _run_apart(what: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """`measure_one` or `describe_device` in a process, which is ended when its time is over."""
    command = [sys.executable, "-m", __name__, json.dumps({**what, "seconds": seconds})]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"skipped": f"it was not done in the {seconds:.0f} s that were left"}
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {"error": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def describe_device() -> dict[str, Any]:
    """Name, memory and driver of this process's first device, and what versions compute on it."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    return {
        "name": device.device_kind,
        "platform": device.platform,
        "num_devices": jax.local_device_count(),
        "memory_bytes": stats.get("bytes_limit"),
        "driver": nvidia_driver() if device.platform == "gpu" else None,
        "runtime": " ".join(str(device.client.platform_version).split()),
        "versions": {
            "neuroadapter_jax": __version__, "jax": jax.__version__, "jaxlib": jaxlib.__version__,
        },
    }  # fmt: skip


def nvidia_driver(proc: str | Path = "/proc/driver/nvidia/version") -> str | None:
    """The version of NVIDIA's driver, by the kernel's module or else by nvidia-smi.

    Args:
        proc: where the module tells it.
    """
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", Path(proc).read_text())
    except OSError:
        found = None
    if found:
        return found.group(1)
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return said[0] if said else None


def measure_one(program: str, *, tiny: bool, seconds: float) -> dict[str, Any]:
    """Compile a program for this process's first device, call it once, then time it.

    Of a sampling program all numbers are those of the whole call over its number of steps, so that
    decoding has its share in each.

    Args:
        program: of `PROGRAMS`.
        tiny: at a tiny size.
        seconds: that it may take; no call is begun that would end after them.

    Returns:
        Seconds of the compilation, of the first and of the timed calls; bytes of memory, measured
        where the device tells them and as planned by XLA; what the program moves and computes. Or
        "error", the reason why it did not run.
    """
    end = time.monotonic() + seconds
    size, workload = ("tiny-sd", TINY) if tiny else ("sd15", PAPER)
    device = jax.local_devices()[0]
    built = make_program(program, SIZES[size], workload, make_mesh(devices=[device]))
    found: dict[str, Any] = {}
    steps = workload.num_steps if built.loop else 1
    try:
        start = time.perf_counter()
        compiled = built.lower().compile()
        found["compile_seconds"] = time.perf_counter() - start
        found |= _planned(compiled, steps)
        arguments = list(filled(built.arguments, workload.num_vertices, device))

        def call() -> float:
            start = time.perf_counter()
            results = jax.block_until_ready(compiled(*arguments))
            if built.trains:
                arguments[0] = results[0]
            return (time.perf_counter() - start) / steps

        found["first_seconds"] = call()
        calls = [call()]
        while (
            len(calls) < _MOST_CALLS
            and sum(calls) * steps < _LONG
            and time.monotonic() + 2 * calls[-1] * steps < end
        ):
            calls.append(call())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needs = found.get("planned_bytes")
        size_of_it = "more memory" if needs is None else f"{needs / _GIB:.1f} GiB, more"
        return {**found, "error": f"it needs {size_of_it} than is free on the device"}
    stats = device.memory_stats() or {}
    return {
        **found,
        "steps_in_a_call": steps,
        "seconds": calls,
        "peak_bytes": stats.get("peak_bytes_in_use"),
    }


def _planned(compiled: Any, steps: int) -> dict[str, Any]:
    """What the compiled program tells: memory of the whole, work of one step."""
    cost = program_cost(compiled.as_text())
    memory = compiled.memory_analysis()
    parts = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    parts += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "planned_bytes": getattr(memory, "peak_memory_in_bytes", 0) or parts,
        "bytes_moved": cost.bytes_moved / steps,
        "flops": {kind: count / steps for kind, count in cost.flops.items()},
    }


def filled(arguments: Any, num_vertices: int, device: jax.Device) -> Any:
    """Arrays on a device in the place of shapes: small random numbers, vertices in order.

    Args:
        arguments: of a `Program`.
        num_vertices: whole numbers stay below it.
        device: where they go.
    """
    normal = np.random.default_rng(0).standard_normal(2**20).astype(np.float32)

    def one(path: Any, x: Any) -> jax.Array:
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            value: Any = jax.random.key(0)
        elif x.dtype == np.bool_:
            value = np.ones(x.shape, bool)
        elif np.issubdtype(x.dtype, np.integer):
            count = np.arange(x.size) % min(num_vertices, np.iinfo(x.dtype).max)
            value = count.reshape(x.shape).astype(x.dtype)
        elif not x.shape:
            value = np.ones((), x.dtype)
        elif "opt_state" in jax.tree_util.keystr(path):
            value = np.zeros(x.shape, x.dtype)
        else:
            value = np.resize((0.02 * normal).astype(x.dtype), x.shape)
        return jax.device_put(value, x.sharding or device)

    return jax.tree_util.tree_map_with_path(one, arguments)


def measured_table(found: Mapping[str, Any]) -> str:
    """What `measure_programs` writes to measured.json, as Markdown."""
    device = found["device"]
    known: Accelerator | None = accelerator_of(device["name"])
    head = ["program", "s (low to high)", "calls", "bound, s", "measured / bound"]
    head += ["peak GiB", "planned GiB", "GB moved", "TFLOP", "compiling, s", "first call, s"]
    rows = []
    for row in found["programs"]:
        if "seconds" not in row:
            why = f"skipped: {row['skipped']}" if "skipped" in row else f"failed: {row['error']}"
            rows.append([row["program"], why, *[MISSING] * 9])
            continue
        calls = row["seconds"]
        median, bound = float(np.median(calls)), None
        if known is not None:
            bound = known.bound(row["flops"], row["bytes_moved"])
        peak = row["peak_bytes"]
        rows.append(
            [
                row["program"],
                f"**{median:.3g}** ({min(calls):.3g} to {max(calls):.3g})",
                len(calls),
                MISSING if bound is None else f"{bound:.3g}",
                MISSING if not bound else f"{median / bound:.2f}",
                MISSING if peak is None else f"{peak / _GIB:.1f}",
                f"{row['planned_bytes'] / _GIB:.1f}",
                f"{row['bytes_moved'] / 1e9:.3g}",
                f"{sum(row['flops'].values()) / 1e12:.3g}",
                f"{row['compile_seconds']:.0f}",
                f"{row['first_seconds'] * row['steps_in_a_call']:.3g}",
            ]
        )
    return "\n".join([_device_text(found, known), markdown_table(head, rows) + _NOTE])


_NOTE = (
    "\nMeasured: seconds (median) and peak memory. Read from the compiled program: planned memory, "
    "bytes moved, operations. Computed of these and the data sheet: the bound, the greater of FLOPs"
    " over peak and bytes over bandwidth. A sampling program counts over its steps, decoding "
    "included. Compiling is short where the program was in the cache.\n"
)


def _device_text(found: Mapping[str, Any], known: Accelerator | None) -> str:
    device = found["device"]
    memory = device["memory_bytes"]
    parts = [device["name"]]
    parts += [] if memory is None else [f"{memory / _GIB:.1f} GiB for JAX"]
    parts += [] if device["driver"] is None else [f"driver {device['driver']}"]
    parts += [device["runtime"]]
    parts += [f"{name} {version}" for name, version in device["versions"].items()]
    text = f"One of {device['num_devices']} device(s): {', '.join(parts)}. "
    text += "Tiny networks, to try it.\n" if found["size"] != "sd15" else "The paper's size.\n"
    if known is None:
        text += "No data sheet of this device ships with the package, so there is no bound.\n"
    return text


def _main(given: Mapping[str, Any]) -> dict[str, Any]:
    if given["program"] is None:
        return describe_device()
    return measure_one(given["program"], tiny=given["tiny"], seconds=given["seconds"])


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    print(json.dumps(_main(json.loads(sys.argv[1]))))
