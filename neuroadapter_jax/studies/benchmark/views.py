"""What asking for IBBI's views costs: time beside a plain call, and memory over steps."""

import functools
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
from jaxtyping import Float

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.ibbi.views import Reduction, attention_bytes
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline import pipeline as pipeline_module
from neuroadapter_jax.pipeline.interpret import sample_with_views
from neuroadapter_jax.studies.benchmark.measure import alternate
from neuroadapter_jax.tables import MISSING, markdown_table


def views_cost(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    roi_weights: Float[np.ndarray, "r p"],
    reductions: Sequence[Reduction],
    *,
    num_steps: int,
    repeats: int = 5,
) -> dict[str, Any]:
    """Seconds and memory of `interpret` beside a call of the same settings, no step shown.

    Args:
        pipeline: the model.
        fmri: responses, reconstructed at once.
        roi_weights: ROIs as weights over regions.
        reductions: which to measure.
        num_steps: denoising steps; memory is also given for half as many.
        repeats: timed calls per side, in turn.

    Returns:
        ``num_images``, ``num_rois``, ``num_steps`` (few and all), ``repeats``; ``seconds``: of
        "plain" and each reduction, see `alternate`; ``bytes``: reduction -> "temporary" (what the
        compiled program holds beside arguments and results) and "results", each with few steps
        and with all; ``attention_bytes``: what the full matrices of all steps would take.
    """
    few = num_steps // 2

    def sampling(steps: int) -> Sampling:
        return pipeline.sampling.replace(sampler="dpmsolver++", num_steps=steps)

    def with_views(steps: int, reduction: Reduction) -> Any:
        return pipeline.interpret(fmri, roi_weights, sampling(steps), reduction=reduction, seed=0)

    calls: dict[str, Callable[[], Any]] = {
        "plain": lambda: pipeline(fmri, sampling(num_steps), num_candidates=1, seed=0)
    }
    for name in reductions:
        calls[name] = functools.partial(with_views, num_steps, name)
    found: dict[str, Any] = {
        "num_images": len(fmri),
        "num_rois": len(roi_weights),
        "num_steps": [few, num_steps],
        "repeats": repeats,
        "seconds": alternate(calls, repeats),
        "bytes": {},
    }
    for name in reductions:
        sizes = [_compiled(functools.partial(with_views, s, name)) for s in (few, num_steps)]
        found["bytes"][name] = {
            "temporary": [size.temp_size_in_bytes for size in sizes],
            "results": [size.output_size_in_bytes for size in sizes],
        }
    found["attention_bytes"] = attention_bytes(
        pipeline.backbone.unet, len(pipeline.regions), len(fmri), num_steps
    )
    return found


def _compiled(call: Callable[[], Any]) -> Any:
    """XLA's memory analysis of the program, per device, that a call of `interpret` runs."""
    jitted, found = sample_with_views, []

    def analysed(*arguments, **options):
        found.append(jitted.lower(*arguments, **options).compile().memory_analysis())
        return jitted(*arguments, **options)

    # The pipeline looks the function up in its module at every call.
    with mock.patch.object(pipeline_module, "sample_with_views", analysed):
        call()
    return found[0]


def views_table(cost: dict[str, Any], devices: int) -> str:
    """`views_cost` as Markdown."""
    few, whole = cost["num_steps"]
    plain, rows = cost["seconds"]["plain"]["median"], []
    for name, row in cost["seconds"].items():
        spread = f"{row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        held = results = MISSING
        if name in cost["bytes"]:
            held, results = (
                " and ".join(f"{x * devices / 2**20:.1f}" for x in cost["bytes"][name][kind])
                for kind in ("temporary", "results")
            )
        rows.append([name, spread, f"{row['median'] / plain:.3f}", held, results])
    head = ["call", "seconds (low to high)", "over plain"]
    head += [f"MiB held, {few} and {whole} steps", "MiB of results"]
    return markdown_table(head, rows) + (
        f"\n{cost['num_images']} images, {whole} steps of DPM-Solver++, {cost['num_rois']} ROIs, "
        f"no step shown; medians of {cost['repeats']} calls in turn. The full matrices of all "
        f"steps would take {cost['attention_bytes'] / 2**20:.0f} MiB.\n"
    )
