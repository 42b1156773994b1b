"""Measure time and memory beside plain PyTorch.

    neuroadapter benchmark --quick
    neuroadapter benchmark --sizes tiny-sd,middle --out runs/benchmark
    neuroadapter benchmark --paper_step

Ours beside a plain PyTorch implementation of the released procedure, on this machine: same sizes,
weights, batch and cores, ours cut over one CPU device per core as in all commands. Calls alternate;
medians with the spread, the first call (compilation) apart, and each side's peak memory in
its own process. --paper_step instead compiles the paper's training step (batch 16, frozen part
in bfloat16) without running it, and prints its operations, its memory on this backend and the time
it would take at an accelerator's peak and at half of it. --full_size runs ours alone at Stable
Diffusion 1.5's size, batch 1, U-Net in bfloat16: a training step and one guided sampling step.
--views measures what IBBI's views cost beside a plain call of the shipped pipeline.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import SIZES as NAMES
from neuroadapter_jax.commands.given import excludes
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import named

COMPILES_EACH_TIME = True  # the first call's time is one of the results


def define(values: CommandFlags) -> None:
    for name, help in {
        "paper_step": "Compile the paper's training step; run nothing.",
        "views": "What IBBI's views cost, on the shipped pipeline.",
        "full_size": "Run two steps at full size in bfloat16, ours alone.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    flags.DEFINE_list("sizes", list(NAMES), "Which sizes.", flag_values=values)
    flags.DEFINE_integer("repeats", 5, "Timed calls per side.", lower_bound=5, flag_values=values)
    define_shared(
        values, "num_steps", "out", "quick",
        defaults={"num_steps": 50, "out": "runs/benchmark"},
        helps={
            "num_steps": "Denoising steps of a reconstruction.",
            "out": "Folder for benchmark.json and benchmark.md.",
            "quick": "tiny-sd and the middle size only, that in 5 steps.",
        },
    )  # fmt: skip
    excludes(
        values, "full_size", "quick", "paper_step", "views", "sizes", "num_steps", "repeats", "out"
    )
    excludes(values, "paper_step", "quick", "views", "sizes", "num_steps", "repeats", "out")
    excludes(values, "views", "quick", "sizes", "out")
    excludes(values, "quick", "sizes")


def main(values: CommandFlags, arguments: list[str]) -> None:
    if set(values.sizes) - set(NAMES) or not values.sizes:
        raise InputError(f"--sizes is {values.sizes}; expected some of {', '.join(NAMES)}.")
    if values.full_size:
        from neuroadapter_jax.studies.benchmark.run import full_size

        print(full_size())
        return
    num_images = 20
    if not values.paper_step:
        use_cpu_cores(num_images if values.views else available_cores())

    from neuroadapter_jax.studies.benchmark.run import compare_sides, cost_of_views, paper_step

    if values.paper_step:
        print(paper_step())
        return
    if values.views:
        with named("--"):
            print(cost_of_views(num_steps=values.num_steps, repeats=values.repeats))
        return
    with named("--"):
        table = compare_sides(
            values.out,
            values.sizes,
            num_steps=values.num_steps,
            repeats=values.repeats,
            quick=values.quick,
        )
    print(table)
    print(f"Written: {Path(values.out) / 'benchmark.json'}, {Path(values.out) / 'benchmark.md'}")
