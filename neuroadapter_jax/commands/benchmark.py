"""Measure time and memory beside plain PyTorch.

    neuroadapter benchmark --quick
    neuroadapter benchmark --sizes tiny-sd,middle --out runs/benchmark
    neuroadapter benchmark --compile_for h100,l40,a100
    neuroadapter benchmark --measure

Ours beside a plain PyTorch implementation of the released procedure, on this machine: same sizes,
weights, batch and cores, ours cut over one CPU device per core as in all commands; and PyTorch
tuned by torch.compile, where there is a C++ compiler, and channels_last as a third. Calls
alternate; medians with the spread, the first call (compilation) apart, and each side's peak memory
in its own process.

--compile_for instead compiles the paper's programs (training step, sampling step with and
without views, ranking, encoder training step) for accelerators that are not here, on 1 and 8
devices, and reads from them peak memory, bytes moved, operations and collectives; from those comes
the least time that they can take. Nothing is run. It takes minutes per program, and a CUDA plugin
of JAX or libtpu, best in an environment of its own; a call that was ended goes on where it was.

--measure runs and times the same programs on this machine's GPU or TPU, in eight minutes at most,
and puts what they took beside the least time that they can take, where the device is one of
--compile_for's. What does not fit into the eight minutes is named; another call finds in the cache
what this one compiled. With --tiny the whole is done at a tiny size, also on a CPU, to try it.

--full_size runs ours alone at Stable Diffusion 1.5's size, batch 1, U-Net in bfloat16: a training
step and one guided sampling step.
--views measures what IBBI's views cost beside a plain call of the shipped pipeline.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import SIZES as NAMES
from neuroadapter_jax.commands.given import excludes, needs
from neuroadapter_jax.commands.machine import use_compilation_cache, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import named

COMPILES_EACH_TIME = True  # the first call's time is one of the results


def define(values: CommandFlags) -> None:
    for name, help in {
        "views": "What IBBI's views cost, on the shipped pipeline.",
        "full_size": "Run two steps at full size in bfloat16, ours alone.",
        "measure": "Time the paper's programs on this machine's GPU or TPU.",
        "tiny": "With --measure: at a tiny size, on a CPU as well.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    flags.DEFINE_list(
        "compile_for",
        None,
        "Accelerators that are not here, such as h100,l40,a100,v5p.",
        flag_values=values,
    )
    flags.DEFINE_list("sizes", list(NAMES), "Which sizes.", flag_values=values)
    flags.DEFINE_integer("repeats", 5, "Timed calls per side.", lower_bound=5, flag_values=values)
    define_shared(
        values, "num_steps", "out", "quick",
        defaults={"num_steps": 50, "out": "runs/benchmark"},
        helps={
            "num_steps": "Denoising steps of a reconstruction.",
            "out": "Folder for benchmark.json and .md, or compiled.json and .md, or measured.json "
            "and .md.",
            "quick": "tiny-sd and the middle size only, that in 5 steps.",
        },
    )  # fmt: skip
    needs(values, "tiny", "measure")
    others = ("full_size", "quick", "views", "sizes", "num_steps", "repeats")
    excludes(values, "measure", "compile_for", *others)
    excludes(values, "compile_for", *others)
    excludes(values, "full_size", "quick", "views", "sizes", "num_steps", "repeats", "out")
    excludes(values, "views", "quick", "sizes", "out")
    excludes(values, "quick", "sizes")


def main(values: CommandFlags, arguments: list[str]) -> None:
    if set(values.sizes) - set(NAMES) or not values.sizes:
        raise InputError(f"--sizes is {values.sizes}; expected some of {', '.join(NAMES)}.")
    if values.full_size:
        from neuroadapter_jax.studies.benchmark.run import full_size

        print(full_size())
        return
    if values.compile_for is not None:
        from neuroadapter_jax.studies.benchmark.compile_for import compile_for

        with named("--"):
            print(compile_for(values.compile_for, values.out))
        print(f"Written: {Path(values.out) / 'compiled.json'}, {Path(values.out) / 'compiled.md'}")
        return
    if values.measure:
        from neuroadapter_jax.studies.benchmark.on_device import measure_programs

        use_compilation_cache()  # else what the budget ended would not get further another time
        print(measure_programs(values.out, tiny=values.tiny))
        print(f"Written: {Path(values.out) / 'measured.json'}, {Path(values.out) / 'measured.md'}")
        return
    num_images = 20
    use_cpu_cores(num_images if values.views else available_cores())

    from neuroadapter_jax.studies.benchmark.run import compare_sides, cost_of_views

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
