"""The paper's programs compiled for accelerators that are not here, and what that tells of cost."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from neuroadapter_jax import __version__
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, write_json, write_text
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.sharding import make_mesh
from neuroadapter_jax.studies.benchmark.absent import (
    ACCELERATORS,
    Accelerator,
    absent_devices,
    environment,
    installed_plugin,
)
from neuroadapter_jax.studies.benchmark.measure import SIZES
from neuroadapter_jax.studies.benchmark.program_text import Cost, program_cost
from neuroadapter_jax.studies.benchmark.programs import PROGRAMS, Workload, make_program
from neuroadapter_jax.tables import MISSING, markdown_table

_RESULTS, _TABLE = "compiled.json", "compiled.md"
_GIB = 2**30
PAPER = Workload()
DEVICES = (1, 8)
# A brain encoder ranks on one device.
ALONE = ("ranking",)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One program on one accelerator, all numbers per device.

    Attributes:
        program: its name.
        accelerator: name in `ACCELERATORS`.
        num_devices: that share its work.
        plugin: what compiled it.
        peak_bytes: the most memory it holds, arguments included.
        bytes_moved: by its kernels; of a sampling program in one step.
        flops: of its products by type of the operands; of a sampling program in one step.
        products: "left x right -> result" types -> how many.
        collectives: kind -> how many.
        collective_bytes: that they reduce or gather.
        seconds: of the compilation on this machine.
    """

    program: str
    accelerator: str
    num_devices: int
    plugin: str
    peak_bytes: int
    bytes_moved: float
    flops: Mapping[str, float]
    products: Mapping[str, int]
    collectives: Mapping[str, int]
    collective_bytes: float
    seconds: float

    def counted_products(self) -> tuple[int, int, int]:
        """Products of half precise operands, of these with a float32 result, and of float32."""
        single = sum(n for kind, n in self.products.items() if kind.startswith("f32 x f32"))
        wide = sum(n for kind, n in self.products.items() if kind.endswith("-> f32"))
        return sum(self.products.values()) - single, wide - single, single

    def compute_seconds(self) -> float:
        """FLOPs over the peaks of their types."""
        return ACCELERATORS[self.accelerator].compute_seconds(self.flops)

    def memory_seconds(self) -> float:
        """Bytes moved over the memory's bandwidth."""
        return ACCELERATORS[self.accelerator].memory_seconds(self.bytes_moved)

    def bound(self) -> float:
        """The roofline's time, the greater of the two: no run can be faster."""
        return max(self.compute_seconds(), self.memory_seconds())


def compile_for(
    accelerators: Sequence[str],
    out: str | Path,
    *,
    size: str = "sd15",
    names: Sequence[str] = tuple(PROGRAMS),
    num_devices: Sequence[int] = DEVICES,
) -> str:
    """Compile the programs for accelerators that are not here, each in a process of its own.

    What a folder holds already of the same versions is not compiled again, so that a call that was
    ended goes on.

    Args:
        accelerators: names in `ACCELERATORS`.
        out: folder for compiled.json and compiled.md.
        size: of the networks.
        names: of `PROGRAMS`.
        num_devices: how many devices of one host share a program.

    Returns:
        The table as Markdown.

    Raises:
        InputError: an unknown accelerator, or nothing is installed that compiles for one.
        ExistingFileError: `out` holds files of these names that are something else.
    """
    if (unknown := sorted(set(accelerators) - ACCELERATORS.keys())) or not accelerators:
        raise InputError(
            f"compile_for is {', '.join(unknown) or 'empty'}; expected some of "
            f"{', '.join(sorted(ACCELERATORS))}."
        )
    plugins = {name: installed_plugin(ACCELERATORS[name].platform) for name in accelerators}
    out = Path(out)
    found = _found(out)
    refuse_foreign(out, [_RESULTS, _TABLE], ours=found is not None)
    made_by = {"neuroadapter_jax": __version__, "jax": jax.__version__, "size": size}
    if found is None or found["made_by"] != made_by:
        found = {"made_by": made_by, "programs": []}
    wanted = [
        {"program": program, "accelerator": name, "num_devices": count}
        for name in accelerators
        for count in num_devices
        for program in names
        if count == 1 or program not in ALONE
    ]
    bar = Bar(wanted, unit="program")
    for one in bar:
        bar.set_postfix_str(", ".join(map(str, one.values())))
        key = one | {"plugin": plugins[one["accelerator"]]}
        if not any(key.items() <= row.items() and "error" not in row for row in found["programs"]):
            row = _compile_apart(one, size) | {"plugin": key["plugin"]}
            others = [row for row in found["programs"] if not key.items() <= row.items()]
            found["programs"] = [*others, row]
            write_json(out / _RESULTS, found)
            write_text(out / _TABLE, compiled_table(found["programs"]))
    return compiled_table(found["programs"])


def _found(out: Path) -> dict[str, Any] | None:
    """What an earlier call wrote; None where there is nothing of the kind."""
    try:
        found = read_json(out / _RESULTS, "programs of an earlier --compile_for")
    except InputError:
        return None
    return found if {"made_by", "programs"} == found.keys() else None


def _compile_apart(one: Mapping[str, Any], size: str) -> dict[str, Any]:
    """`compile_one` in a process of its own; where that fails, the last line that it wrote."""
    command = [sys.executable, "-m", __name__, json.dumps({**one, "size": size})]
    variables = environment(ACCELERATORS[one["accelerator"]].platform, os.environ)
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {**one, "error": lines[-1] if lines else f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def compiled_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What `compile_for` writes to compiled.json, as Markdown: numbers of one device."""
    head = ["accelerator", "devices", "program", "peak GiB", "GB moved", "TFLOP"]
    head += ["products: half, of these to float32, float32", "collectives"]
    head += ["s by FLOPs", "s by bytes", "bound, s"]
    cells = []
    for row in rows:
        start = [ACCELERATORS[row["accelerator"]].label, row["num_devices"], row["program"]]
        if "error" in row:
            cells.append([*start, f"not compiled: {row['error']}", *[MISSING] * 7])
            continue
        one = Compiled(**row)
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(one.collectives.items()))
        moved = f" of {one.collective_bytes / 1e6:.0f} MB" if kinds else ""
        cells.append(
            [
                *start,
                f"{one.peak_bytes / _GIB:.1f}",
                f"{one.bytes_moved / 1e9:.0f}",
                f"{sum(one.flops.values()) / 1e12:.2f}",
                ", ".join(map(str, one.counted_products())),
                kinds + moved or MISSING,
                f"{one.compute_seconds():.3f}",
                f"{one.memory_seconds():.3f}",
                f"**{one.bound():.3f}**",
            ]
        )
    return markdown_table(head, cells) + (
        "\nCompiled, not run: peak memory, bytes and products are read from the program that XLA "
        "made for the device, per device; for sampling, bytes and operations of one denoising step "
        "and the peak memory of the whole call. Computed from them: FLOPs over the data sheet's "
        "peak, and bytes over its bandwidth. The greater is a bound: a run takes at least as long, "
        "but for bytes that stay in the device's cache. No autotuning, and no workspaces of cuDNN "
        "and cuBLAS.\n"
    )


def compile_one(
    program: str,
    accelerator: str,
    num_devices: int,
    size: str = "sd15",
    workload: Workload = PAPER,
    text: str | Path | None = None,
) -> Compiled:
    """Compile a program in this process, whose variables `absent.environment` has to give.

    Args:
        program: of `programs`.
        accelerator: name in `ACCELERATORS`.
        num_devices: 1 or 8.
        size: of the networks.
        workload: how much at once.
        text: file for the compiled program's text; None for none.
    """
    known: Accelerator = ACCELERATORS[accelerator]
    plugin = installed_plugin(known.platform)
    start = time.perf_counter()
    with absent_devices(accelerator, num_devices) as devices:
        built = make_program(program, SIZES[size], workload, make_mesh(devices=devices))
        compiled = built.lower().compile()
    seconds = time.perf_counter() - start
    written = compiled.as_text()
    if text is not None:
        Path(text).write_text(written)
    cost: Cost = program_cost(written)
    memory = compiled.memory_analysis()
    # XLA for TPUs tells the parts alone, whose sum is a little more than the peak.
    parts = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    parts += memory.output_size_in_bytes - memory.alias_size_in_bytes
    once = cost.longest_loop() if built.loop else cost
    return Compiled(
        program,
        accelerator,
        num_devices,
        plugin,
        getattr(memory, "peak_memory_in_bytes", 0) or parts,
        once.bytes_moved,
        dict(once.flops),
        {f"{a} x {b} -> {c}": n for (a, b, c), n in sorted(once.products.items())},
        dict(cost.collectives),
        cost.collective_bytes,
        seconds,
    )


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(compile_one(**json.loads(sys.argv[1])))))
