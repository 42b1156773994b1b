"""What asking for IBBI's views costs: time beside a plain call, and memory over steps."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from neuroadapter_jax.ibbi.views import attention_bytes
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.studies.benchmark.measure import alternate


def views_cost(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    roi_weights: Float[np.ndarray, "r p"],
    reductions: Sequence[str],
    *,
    num_steps: int,
    repeats: int = 5,
) -> dict[str, Any]:
    """Seconds and memory of `interpret` beside a call of the same settings, no step shown.

    Args:
        pipeline: the model.
        fmri: responses, drawn at once.
        roi_weights: areas as weights over regions.
        reductions: which to measure.
        num_steps: denoising steps; memory is also told for half as many.
        repeats: timed calls per side, in turn.

    Returns:
        ``num_images``, ``num_rois``, ``num_steps`` (few and all), ``repeats``; ``seconds``: of
        "plain" and each reduction, see `alternate`; ``bytes``: reduction -> "temporary" (what the
        compiled program holds beside arguments and results) and "results", each with few steps
        and with all; ``attention_bytes``: what the full matrices of all steps would take.
    """
    settings = {"sampler": "dpmsolver++", "seed": 0}
    few = num_steps // 2

    def plain(steps: int) -> np.ndarray:
        return pipeline(fmri, num_candidates=1, num_steps=steps, **settings)

    def watched(steps: int, reduction: str) -> Any:
        return pipeline.interpret(
            fmri, roi_weights, reduction=reduction, num_steps=steps, **settings
        )

    calls = {"plain": lambda: plain(num_steps)}
    for name in reductions:
        calls[name] = lambda name=name: watched(num_steps, name)
    found = {
        "num_images": len(fmri),
        "num_areas": len(roi_weights),
        "num_steps": [few, num_steps],
        "repeats": repeats,
        "seconds": alternate(calls, repeats),
        "bytes": {},
    }
    for name in reductions:
        sizes = [
            _compiled(pipeline, lambda s=s, name=name: watched(s, name)) for s in (few, num_steps)
        ]
        found["bytes"][name] = {
            "temporary": [size.temp_size_in_bytes for size in sizes],
            "results": [size.output_size_in_bytes for size in sizes],
        }
    found["attention_bytes"] = attention_bytes(
        pipeline.backbone.unet, len(pipeline.regions), len(fmri), num_steps
    )
    return found


def _compiled(pipeline: NeuroAdapterPipeline, call: Callable[[], Any]) -> Any:
    """XLA's memory analysis of the program, per device, that a call of `interpret` runs."""
    jitted, found = pipeline._watch_jitted, []

    def analysed(*arguments, **options):
        found.append(jitted.lower(*arguments, **options).compile().memory_analysis())
        return jitted(*arguments, **options)

    pipeline._watch_jitted = analysed
    try:
        call()
    finally:
        pipeline._watch_jitted = jitted
    return found[0]


def views_table(cost: dict[str, Any], devices: int) -> str:
    """`views_cost` as Markdown."""
    few, whole = cost["num_steps"]
    lines = [
        f"| call | seconds (low to high) | over plain | MiB held, {few} and {whole} steps | "
        "MiB of results |",
        "| --- | --- | --- | --- | --- |",
    ]
    plain = cost["seconds"]["plain"]["median"]
    for name, row in cost["seconds"].items():
        spread = f"{row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        held = results = "–"
        if name in cost["bytes"]:
            held, results = (
                " and ".join(f"{x * devices / 2**20:.1f}" for x in cost["bytes"][name][kind])
                for kind in ("temporary", "results")
            )
        lines.append(f"| {name} | {spread} | {row['median'] / plain:.3f} | {held} | {results} |")
    lines.append(
        f"\n{cost['num_images']} images, {whole} steps of DPM-Solver++, {cost['num_areas']} areas, "
        f"no step shown; medians of {cost['repeats']} calls in turn. The full matrices of all "
        f"steps would take {cost['attention_bytes'] / 2**20:.0f} MiB."
    )
    return "\n".join(lines) + "\n"
