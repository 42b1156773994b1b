"""The comparison as Markdown."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.studies.baselines.methods import METHODS
from neuroadapter_jax.studies.baselines.scores import PAIRS
from neuroadapter_jax.tables import interval_cell, markdown_table

COLUMNS = {
    "pixel_correlation": ("PixCorr", ".3f"),
    "ssim": ("SSIM", ".3f"),
    "two_way_pixels": ("Two-way, pixels", ".1%"),
    "semantic_recall": ("Semantic recall", ".1%"),
    "object_identity": ("Object identity", ".1%"),
}


def tables(results: Mapping[str, Any]) -> str:
    """The results as Markdown: scores, improvement over retrieval, paired differences.

    Args:
        results: what `run_baselines` returns, or the results.json of version 0.1.0.
    """
    results = with_new_names(results)
    found = results["methods"]
    columns = [key for key in COLUMNS if any(key in each for each in found.values())]
    head = ["", *(COLUMNS[key][0] for key in columns)]

    def table(entries: Mapping[str, Any], labels: Mapping[str, str], form: str = "") -> str:
        rows = [
            [labels[name], *(interval_cell(each[key], form or COLUMNS[key][1]) for key in columns)]
            for name, each in entries.items()
        ]
        return markdown_table(head, rows)

    text = [
        f"{results['num_images']} test images; value [95 % bootstrap interval over images].\n",
        table(found, METHODS),
    ]
    if improvement := results["improvement_over_retrieval"]:
        text += [
            f"Improvement over retrieval from {results['gallery']['images']} images, "
            "(x - retrieval) / retrieval:\n",
            table(improvement, METHODS, "+.0%"),
        ]
    if paired := results["low_level_start"]:
        labels = {f"{one} - {other}": METHODS[one] for one, other in PAIRS}
        text += [
            "What the low-level start changes (score with it less score without, paired):\n",
            table(paired, labels, "+.3f"),
        ]
    text += [f"Missing: {METHODS[name]} ({why}).\n" for name, why in results["missing"].items()]
    return "\n".join(text)
