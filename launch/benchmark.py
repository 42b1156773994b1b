"""Ours beside a plain PyTorch implementation of the released procedure, on this machine.

    python launch/benchmark.py [--quick] [--sizes tiny-sd,middle] [--out runs/benchmark]

Same sizes, weights, batch and threads; calls alternate; medians with the spread, the first call
(compilation) apart, and each side's peak memory in a process of its own.
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

import jax
from absl import app, flags
from tqdm import tqdm

from neuroadapter_jax.benchmark.measure import (
    CASES,
    SIZES,
    alternate,
    cases,
    describe,
    peak_memory,
)
from neuroadapter_jax.diffusion.weights import write_json

FLAGS = flags.FLAGS


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
    return "\n".join(lines) + "\n"


def main(_) -> None:
    try:
        import torch
    except ImportError:
        sys.exit("benchmark: needs PyTorch and diffusers: pip install 'neuroadapter-jax[pytorch]'.")
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    sizes = ["tiny-sd", "middle"] if FLAGS.quick else FLAGS.sizes
    if unknown := sorted(set(sizes) - SIZES.keys()):
        sys.exit(f"benchmark: unknown size(s) {unknown}; choose from {sorted(SIZES)}.")
    results = {
        "machine": platform.processor() or platform.machine(),
        "threads": threads,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "devices": [str(device) for device in jax.devices()],
        "num_steps": FLAGS.num_steps,
        "repeats": FLAGS.repeats,
        "sizes": {name: {"size": describe(SIZES[name]), "cases": {}} for name in sizes},
    }
    bar = tqdm([(name, case) for name in sizes for case in CASES], unit="case")
    with tempfile.TemporaryDirectory() as folder:
        calls = {}
        for name, case in bar:
            bar.set_postfix_str(f"{name}, {case}")
            if name not in calls:
                calls = {
                    name: cases(SIZES[name], FLAGS.num_steps, Path(folder), ("ours", "theirs"))
                }
            row = alternate(calls[name][case], FLAGS.repeats)
            for side in row:
                row[side]["gib"] = peak_memory(name, case, side, min(FLAGS.num_steps, 5))
            results["sizes"][name]["cases"][case] = row
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "benchmark.json", results)
    (out / "benchmark.md").write_text(table(results))
    print(table(results))
    print(f"Written: {out / 'benchmark.json'}, {out / 'benchmark.md'}")


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "tiny-sd and the middle size only.")
    flags.DEFINE_list("sizes", list(SIZES), "Which sizes.")
    flags.DEFINE_integer("repeats", 5, "Timed calls per side.", lower_bound=5)
    flags.DEFINE_integer("num_steps", 50, "Denoising steps of a reconstruction.", lower_bound=1)
    flags.DEFINE_string("out", "runs/benchmark", "Folder for benchmark.json and benchmark.md.")
    app.run(main)
