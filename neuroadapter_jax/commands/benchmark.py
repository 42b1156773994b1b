"""Measure time and memory beside plain PyTorch.

    neuroadapter benchmark --quick
    neuroadapter benchmark --sizes tiny-sd,middle --out runs/benchmark
    neuroadapter benchmark --paper_step

Ours beside a plain PyTorch implementation of the released procedure, on this machine: same sizes,
weights, batch and cores, ours cut over one CPU device per core as in all commands. Calls alternate;
medians with the spread, the first call (compilation) apart, and each side's peak memory in a
process of its own. --paper_step instead compiles the paper's training step (batch 16, frozen part
in bfloat16) without running it, and prints its operations, its memory on this backend and the time
it would take at an accelerator's peak and at half of it. --full_size runs ours alone at Stable
Diffusion 1.5's size, batch 1, U-Net in bfloat16: a training step and one guided sampling step.
--views measures what IBBI's views cost beside a plain call of the shipped pipeline.
"""

import os
import platform
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import SIZES as NAMES
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    for name, help in {
        "quick": "tiny-sd and the middle size only, that in 5 steps.",
        "paper_step": "Compile the paper's training step; run nothing.",
        "views": "What IBBI's views cost, on the shipped pipeline.",
        "full_size": "Run two steps at full size in bfloat16, ours alone.",
    }.items():
        flags.DEFINE_bool(name, False, help, flag_values=values)
    flags.DEFINE_list("sizes", list(NAMES), "Which sizes.", flag_values=values)
    flags.DEFINE_integer("repeats", 5, "Timed calls per side.", lower_bound=5, flag_values=values)
    define_shared(
        values, "num_steps", "out",
        defaults={"num_steps": 50, "out": "runs/benchmark"},
        helps={
            "num_steps": "Denoising steps of a reconstruction.",
            "out": "Folder for benchmark.json and benchmark.md.",
        },
    )  # fmt: skip


def table(results: dict) -> str:
    """The results as Markdown."""
    lines = [
        "| size | case | ours s (low to high) | theirs s (low to high) | theirs / ours | "
        "ours first call s | ours GiB | theirs GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, rows in results["sizes"].items():
        for case, row in rows["cases"].items():
            ours, theirs = row["ours"], row["theirs"]

            def spread(side):
                return f"{side['median']:.3f} ({side['low']:.3f} to {side['high']:.3f})"

            lines.append(
                f"| {size} | {case} | {spread(ours)} | {spread(theirs)} | "
                f"{theirs['median'] / ours['median']:.2f} | {ours['first']:.1f} | "
                f"{ours['gib']:.2f} | {theirs['gib']:.2f} |"
            )
    steps = ", ".join(f"{count} at {name}" for name, count in results["num_steps"].items())
    lines.append(
        f"\nDenoising steps with guidance: {steps}; a fifth of them for 8 candidates of one "
        f"response. Cores: {results['threads']}; medians of {results['repeats']}."
    )
    return "\n".join(lines) + "\n"


def paper_step(batch: int = 16) -> str:
    """The compiled step of the paper's configuration as Markdown."""
    from tqdm import tqdm

    from neuroadapter_jax.studies.benchmark.compiled import PEAKS, train_step_cost
    from neuroadapter_jax.studies.benchmark.measure import SIZES

    peaks = [f"{name} at {share}" for name in PEAKS for share in ("peak", "half")]
    lines = [
        f"| batch {batch} | TFLOP | arguments GiB | temporary GiB | " + " | ".join(peaks) + " |",
        "| --- " * (4 + len(peaks)) + "|",
    ]
    for remat in tqdm([False, True], unit="program"):
        cost = train_step_cost(SIZES["sd15"], batch, remat=remat)
        seconds = [f"{cost.seconds(peak * x):.3f} s" for peak in PEAKS.values() for x in (1, 0.5)]
        memory = [
            "unknown" if x is None else f"{x / 2**30:.2f}"
            for x in (cost.argument_bytes, cost.temporary_bytes)
        ]
        cells = [f"remat={remat}", f"{cost.flops / 1e12:.1f}", *memory, *seconds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def full_size() -> str:
    """A training step and a sampling step at full size, each in a process of its own."""
    from tqdm import tqdm

    from neuroadapter_jax.studies.benchmark.measure import measure_apart

    lines = ["| SD 1.5, batch 1, bf16 | seconds | GiB |", "| --- | --- | --- |"]
    for case in tqdm(["train step", "reconstruct"], unit="case"):
        found = measure_apart("sd15", case, "ours", 1, "bf16", num_calls=2)
        lines.append(f"| {case} | {found['seconds']:.0f} | {found['gib']:.1f} |")
    return "\n".join(lines)


def views(values: CommandFlags, num_images: int = 20, num_rois: int = 12) -> str:
    """What each reduction costs beside a plain call, on made-up responses."""
    use_cpu_cores(num_images)

    import jax
    import numpy as np

    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.studies.benchmark.views import views_cost, views_table

    pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
    rng = np.random.default_rng(0)
    fmri = rng.standard_normal((num_images, pipeline.num_vertices), np.float32)
    roi_weights = rng.dirichlet(np.ones(len(pipeline.regions)), num_rois).astype(np.float32)
    cost = views_cost(
        pipeline,
        fmri,
        roi_weights,
        ("attention", "value_norm", "difference", "gradient"),
        num_steps=values.num_steps,
        repeats=values.repeats,
    )
    return views_table(cost, len(jax.devices()))


def main(values: CommandFlags, arguments: list[str]) -> None:
    if values.views:
        print(views(values))
        return
    if values.paper_step or values.full_size:
        print(paper_step() if values.paper_step else full_size())
        return
    try:
        import torch
    except ImportError:
        sys.exit("benchmark: needs PyTorch and diffusers: pip install 'neuroadapter-jax[pytorch]'.")

    import jax
    from tqdm import tqdm

    from neuroadapter_jax.files import write_json, write_text
    from neuroadapter_jax.studies.benchmark.measure import (
        CASES,
        SIZES,
        alternate,
        cases,
        describe,
        measure_apart,
    )

    threads = len(os.sched_getaffinity(0))
    use_cpu_cores(threads)
    torch.set_num_threads(threads)
    sizes = ["tiny-sd", "middle"] if values.quick else values.sizes
    if unknown := sorted(set(sizes) - SIZES.keys()):
        sys.exit(f"benchmark: unknown size(s) {unknown}; choose from {sorted(SIZES)}.")
    # Candidates would take the full size half an hour here, and more than one step hours.
    most = {"sd15": 1} | ({"middle": 5} if values.quick else {})
    num_steps = {name: min(most.get(name, values.num_steps), values.num_steps) for name in sizes}
    chosen = {name: [c for c in CASES if name != "sd15" or "candidates" not in c] for name in sizes}
    results = {
        "machine": platform.processor() or platform.machine(),
        "threads": threads,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "devices": [str(device) for device in jax.devices()],
        "num_steps": num_steps,
        "repeats": values.repeats,
        "sizes": {name: {"size": describe(SIZES[name]), "cases": {}} for name in sizes},
    }
    bar = tqdm([(name, case) for name in sizes for case in chosen[name]], unit="case")
    with tempfile.TemporaryDirectory() as folder:
        calls = {}
        for name, case in bar:
            bar.set_postfix_str(f"{name}, {case}")
            if name not in calls:
                calls = {
                    name: cases(SIZES[name], num_steps[name], Path(folder), ("ours", "theirs"))
                }
            row = alternate(calls[name][case], values.repeats)
            # Memory is measured with nothing timed beside it, so both sides may run at once.
            with ThreadPoolExecutor() as pool:
                few = min(num_steps[name], 5)
                apart = pool.map(partial(measure_apart, name, case, num_steps=few), row)
                for side, found in zip(row, apart, strict=True):
                    row[side]["gib"] = found["gib"]
            results["sizes"][name]["cases"][case] = row
    out = Path(values.out)
    write_json(out / "benchmark.json", results)
    write_text(out / "benchmark.md", table(results))
    print(table(results))
    print(f"Written: {out / 'benchmark.json'}, {out / 'benchmark.md'}")
