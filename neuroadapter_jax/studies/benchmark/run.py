"""Three benchmarks that run: both sides, two steps at full size, and the views."""

import platform
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuroadapter_jax.cores import available_cores
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, write_json, write_text
from neuroadapter_jax.ibbi.views import Reduction
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.studies.benchmark.measure import (
    CASES,
    SIZES,
    alternate,
    cases,
    describe,
    measure_apart,
)
from neuroadapter_jax.studies.benchmark.views import views_cost, views_table
from neuroadapter_jax.tables import MISSING, markdown_table

_RESULTS, _TABLE = "benchmark.json", "benchmark.md"
REDUCTIONS: tuple[Reduction, ...] = ("attention", "value_norm", "difference", "gradient")


def compare_sides(
    out: str | Path,
    sizes: Sequence[str] = tuple(SIZES),
    *,
    num_steps: int = 50,
    repeats: int = 5,
    quick: bool = False,
) -> str:
    """Ours beside a plain PyTorch implementation of the released procedure, on this machine.

    The same PyTorch at its best stands beside both: by torch.compile, where there is a C++
    compiler, and channels_last. Calls alternate; medians with the spread, the first call
    (compilation) apart, and each side's peak memory in its own process.

    Args:
        out: folder for benchmark.json and benchmark.md.
        sizes: which of `SIZES`.
        num_steps: denoising steps of a reconstruction; the full size takes 1.
        repeats: timed calls per side.
        quick: tiny-sd and the middle size only, that in 5 steps.

    Returns:
        The table as Markdown.

    Raises:
        ImportError: PyTorch or diffusers is not installed.
        InputError: an unknown size, or more steps than the networks have timesteps.
        ExistingFileError: `out` holds files of these names that are no benchmark's.
    """
    import torch

    from neuroadapter_jax.studies.benchmark.released import tuning

    out = Path(out)
    refuse_foreign(out, [_RESULTS, _TABLE], ours=_is_ours(out))
    most = NoiseSchedule().num_train_timesteps
    if not 1 <= num_steps <= most:
        raise SettingError("num_steps", num_steps, f"1 to {most}, the timesteps of the networks")
    threads = available_cores()
    torch.set_num_threads(threads)
    names = ["tiny-sd", "middle"] if quick else list(sizes)
    if unknown := sorted(set(names) - SIZES.keys()):
        raise InputError(f"unknown size(s) {unknown}; choose from {sorted(SIZES)}.")
    # Candidates would take the full size half an hour here, and more than one step hours.
    fewer = {"sd15": 1} | ({"middle": 5} if quick else {})
    steps = {name: min(fewer.get(name, num_steps), num_steps) for name in names}
    results: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "threads": threads,
        "jax": jax.__version__,
        "torch": torch.__version__,
        "devices": [str(device) for device in jax.devices()],
        "tuned": tuning(),
        "num_steps": steps,
        "repeats": repeats,
        "sizes": {name: {"size": describe(SIZES[name]), "cases": {}} for name in names},
    }
    pairs = [(n, c) for n in names for c in CASES if n != "sd15" or "candidates" not in c]
    bar = Bar(pairs, unit="case")
    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Any] = {}
        for name, case in bar:
            bar.set_postfix_str(f"{name}, {case}")
            if name not in calls:
                sides = ("ours", "theirs", "tuned")
                calls = {name: cases(SIZES[name], steps[name], Path(folder), sides)}
            row = alternate(calls[name][case], repeats)
            # Memory is measured with nothing timed beside it, so both sides may run at once.
            with ThreadPoolExecutor() as pool:
                few = min(steps[name], 5)
                two = ("ours", "theirs")
                apart = pool.map(partial(measure_apart, name, case, num_steps=few), two)
                for side, found in zip(two, apart, strict=True):
                    row[side]["gib"] = found["gib"]
            results["sizes"][name]["cases"][case] = row
    text = sides_table(results)
    write_json(out / _RESULTS, results)
    write_text(out / _TABLE, text)
    return text


def _is_ours(out: Path) -> bool:
    """Whether a folder holds an earlier benchmark, which the new one replaces."""
    try:
        found = read_json(out / _RESULTS, "an earlier benchmark")
    except InputError:
        return False
    return {"machine", "threads", "repeats", "sizes"} <= found.keys()


def sides_table(results: Mapping[str, Any]) -> str:
    """What `compare_sides` writes to benchmark.json, as Markdown."""

    def spread(side: Mapping[str, float]) -> str:
        return f"{side['median']:.3f} ({side['low']:.3f} to {side['high']:.3f})"

    def best(row: Mapping[str, Mapping[str, float]]) -> list[str]:
        if "tuned" not in row:  # of an earlier version
            return [MISSING, MISSING]
        quicker = min(row["theirs"]["median"], row["tuned"]["median"])
        return [spread(row["tuned"]), f"{quicker / row['ours']['median']:.2f}"]

    rows = [
        [
            size,
            case,
            spread(row["ours"]),
            spread(row["theirs"]),
            f"{row['theirs']['median'] / row['ours']['median']:.2f}",
            *best(row),
            f"{row['ours']['first']:.1f}",
            f"{row['ours']['gib']:.2f}",
            f"{row['theirs']['gib']:.2f}",
        ]
        for size, found in results["sizes"].items()
        for case, row in found["cases"].items()
    ]
    head = ["size", "case", "ours s (low to high)", "theirs s (low to high)", "theirs / ours"]
    head += ["tuned s (low to high)", "the quicker of the two / ours"]
    head += ["ours first call s", "ours GiB", "theirs GiB"]
    steps = ", ".join(f"{count} at {name}" for name, count in results["num_steps"].items())
    return markdown_table(head, rows) + (
        f"\nDenoising steps with guidance: {steps}; a fifth of them for 8 candidates of one "
        f"response. Cores: {results['threads']}; medians of {results['repeats']}. Tuned: PyTorch "
        f"with {results.get('tuned', 'no such side in this run')}.\n"
    )


def full_size() -> str:
    """A training step and a sampling step at full size, each in its own process, as Markdown."""
    rows = []
    for case in Bar(["train step", "reconstruct"], unit="case"):
        found = measure_apart("sd15", case, "ours", 1, "bf16", num_calls=2)
        rows.append([case, f"{found['seconds']:.0f}", f"{found['gib']:.1f}"])
    return markdown_table(["SD 1.5, batch 1, bf16", "seconds", "GiB"], rows)


def cost_of_views(
    *, num_steps: int = 50, repeats: int = 5, num_images: int = 20, num_rois: int = 12
) -> str:
    """What each reduction costs beside a plain call of the shipped pipeline, as Markdown.

    Args:
        num_steps: denoising steps.
        repeats: timed calls per side.
        num_images: random responses, reconstructed at once.
        num_rois: random ROIs.

    Raises:
        SettingError: too few steps, or more than the model has.
    """
    if num_steps < 2:
        raise SettingError("num_steps", num_steps, "at least 2, since half of them are run, too")
    pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
    rng = np.random.default_rng(0)
    fmri = rng.standard_normal((num_images, pipeline.num_vertices), np.float32)
    roi_weights = rng.dirichlet(np.ones(len(pipeline.regions)), num_rois).astype(np.float32)
    cost = views_cost(pipeline, fmri, roi_weights, REDUCTIONS, num_steps=num_steps, repeats=repeats)
    return views_table(cost, len(jax.devices()))
