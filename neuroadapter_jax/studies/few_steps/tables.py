"""The page of the study: one table, and what it says."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.tables import MISSING, interval_cell, markdown_table

_HEAD = """# Fewer steps

A reconstruction costs candidates x steps x two: with guidance the U-Net sees every sample twice a
step. Three ways to spend less stand here beside one another, on the simulated subject:

* **A better solver.** `--sampler dpmsolver++ --num_steps 19`; no training.
* **Guidance in an interval of noise levels** (Kynkäänniemi et al. 2024, arXiv 2404.07724):
  `--guidance_low 0.5 --guidance_high 4`. Outside of it the unconditional half is not computed. The
  noise level is sigma = sqrt((1 - abar) / abar), as in that paper.
* **Distillation** (latent consistency, Luo et al. 2023, arXiv 2310.04378, as a LoRA, arXiv
  2311.05556): the student samples in 1 to 4 steps, without guidance, which it has folded in.

Both commands go on where they were interrupted, and are repeated when the model changes:

```console
$ neuroadapter distill --config distill
$ neuroadapter few-steps --model neuroadapter-simulated --distilled runs/simulated/distilled \\
    --prepared runs/simulated/prepared --root runs/simulated/nsd --out runs/few_steps
```

The second one writes this page. Every command takes the student's folder as `--model`. The column
of variances says how far the seed decides a reconstruction: the variance of pixels over seeds
within a stimulus, relative to that between stimuli (0: the response alone decides).

## The table
"""
_SCORES = {
    "two_way_pixels": ("two-way identification", ".1%"),
    "semantic_recall": ("semantic recall", ".1%"),
    "object_identity": ("object identity", ".1%"),
    "ssim": ("SSIM", ".3f"),
}
_SAME = ("two_way_pixels", "semantic_recall")
_COMPARED, _FEW, _REFERENCE = "dpmsolver++-19", "lcm-4", "ddim-50"


def page(results: Mapping[str, Any]) -> str:
    """docs/few-steps.md: what the rows are, the table, and sentences made of its numbers.

    Args:
        results: of `run_few_steps`.
    """
    rows, head = results["rows"], ["", "U-Net passes", "seconds an image"]
    head += [f"{title}" for title, _ in _SCORES.values()]
    head += ["variance over seeds / between stimuli", "agreement of the brain view"]
    table = markdown_table(head, [_cells(row, results["seconds_are"]) for row in rows.values()])
    parts = [_HEAD, _caption(results), table]
    if results["lacking"]:
        parts.append(f"Not run yet: {'; '.join(results['lacking'])}.")
    parts += [text for text in (_target(results), _views(results)) if text]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _caption(results: Mapping[str, Any]) -> str:
    seeds, seeded = results["num_seeds"], results["num_seeded"]
    said = "Seconds are those of the clock."
    if results["seconds_are"] == "processor_seconds":
        said = "Seconds are the processor's, of all cores together."
    return (
        f"{results['num_images']} test images, guidance {results['guidance_scale']:g} for all rows "
        "but the distilled ones, which have it folded in; values with 95 % bootstrap intervals "
        f"over images. Variance: {seeds} seeds of the first {seeded} images. Agreement: Spearman's "
        "correlation over regions of each image's brain view (mean over steps) with that of DDIM "
        f"in 50 steps, first {results['num_views']} images. {said}"
    )


def _cells(row: Mapping[str, Any], which: str) -> list[str]:
    scores = [interval_cell(row["scores"].get(name), form) for name, (_, form) in _SCORES.items()]
    return [
        row["title"],
        str(row["passes"]),
        f"{row[which]:.2g}",
        *scores,
        interval_cell(row["seed_variance"], ".3f"),
        interval_cell(row.get("agreement"), ".3f") if "agreement" in row else MISSING,
    ]


def _target(results: Mapping[str, Any]) -> str:
    """Whether four distilled steps lose anything against 19 of DPM-Solver++, and what they cost."""
    rows = results["rows"]
    if not {_COMPARED, _FEW} <= rows.keys():
        return ""
    few, compared = rows[_FEW], rows[_COMPARED]
    parts, kept = [], True
    for name in _SAME:
        loss = few["less_compared"][name]
        kept &= loss["interval"][1] >= 0
        parts.append(f"{_SCORES[name][0]} {interval_cell(loss, '+.1%')}")
    which = results["seconds_are"]
    share = few[which] / compared[which]
    verdict = "The target is met" if kept and share <= 0.2 else "The target is missed"
    return (
        "**The target** was that four distilled steps lose nothing beyond the interval in "
        "identification and recall against 19 steps of DPM-Solver++, at a fifth of the seconds. "
        f"The differences, images resampled together: {', '.join(parts)}, at {share:.0%} of the "
        f"seconds ({few['passes']} of {compared['passes']} passes through the U-Net). {verdict}."
    )


def _views(results: Mapping[str, Any]) -> str:
    """Whether a fast sampler changes the explanation."""
    rows, again = results["rows"], results["agreement_of_other_seed"]
    if again is None:
        return ""
    floor = again["interval"][0]
    others = {name: row for name, row in rows.items() if name != _REFERENCE and "agreement" in row}
    changed = [row["title"] for row in others.values() if row["agreement"]["interval"][1] < floor]
    text = (
        "**A fast sampler may change the explanation.** Another seed of the same 50 steps agrees "
        f"to {interval_cell(again, '.3f')}, so no row can be expected to agree better than that. "
    )
    if not changed:
        return text + "No row's interval lies below this one."
    return text + (
        f"Below it lie: {'; '.join(changed)}. What their views show belongs to how they sample: "
        "interpret a reconstruction with the sampler that made it, and compare views of one "
        "sampler only."
    )
