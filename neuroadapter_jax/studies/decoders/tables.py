"""The comparison as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.studies.decoders.scores import PAIRS
from neuroadapter_jax.studies.decoders.settings import LABELS
from neuroadapter_jax.tables import MISSING, interval_cell, markdown_table

COLUMNS = {
    "pixel_correlation": ("PixCorr", ".3f"),
    "ssim": ("SSIM", ".3f"),
    "two_way_pixels": ("Two-way, pixels", ".1%"),
    "semantic_recall": ("Semantic recall", ".1%"),
    "object_identity": ("Object identity", ".1%"),
}


def tables(results: Mapping[str, Any]) -> str:
    """The results as Markdown: scores, costs, control, improvement over retrieval, deviations.

    Args:
        results: what `run_decoders` returns, or the results.json of version 0.1.0.
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
        table(found, LABELS),
    ]
    if improvement := results["improvement_over_retrieval"]:
        text += [
            f"Improvement over retrieval from {results['gallery']['images']} images, "
            "(x - retrieval) / retrieval:\n",
            table(improvement, LABELS, "+.0%"),
        ]
    if paired := results["low_level_start"]:
        labels = {f"{one} - {other}": LABELS[one] for one, other in PAIRS}
        text += [
            "What the low-level start changes (score with it less score without, paired):\n",
            table(paired, labels, "+.3f"),
        ]
    if costs := results.get("costs"):
        text += ["What each row costs, on the machine that it was run on:\n", _cost_table(costs)]
    if control := results.get("permuted"):
        text += [
            "The control: each reconstruction beside the stimulus of another response. Two-way "
            "identification has a chance of 50 %.\n",
            table(control, LABELS),
        ]
    if expected := results.get("expected"):
        text += ["What the sources lead one to expect:\n", _expected_table(expected)]
    for name, sentences in results.get("deviations", {}).items():
        text.append(f"{LABELS[name]} differs from its source: {' '.join(sentences)}\n")
    text += [f"Missing: {LABELS[name]} ({why}).\n" for name, why in results["missing"].items()]
    return "\n".join(text)


def _expected_table(expected: Sequence[Mapping[str, Any]]) -> str:
    """Each expectation, its two numbers, and whether it is met."""
    rows = []
    for each in expected:
        other = LABELS.get(each["other"], str(each["other"]))
        score = COLUMNS[each["score"]][0]
        claim = f"{LABELS[each['row']]}: {score} {each['relation']} that of {other}"
        if other == str(each["other"]):
            claim = f"{LABELS[each['row']]}: {score} {each['relation']} {other}"
        met = "met" if each["met"] else "**not met**"
        rows.append([claim, f"{each['found']:.3f}", f"{each['beside']:.3f}", met, each["why"]])
    return markdown_table(["", "found", "beside", "", "source"], rows)


def _cost_table(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Parameters, seconds and memory of each row."""

    def cell(value: int | float | None, form: str) -> str:
        return MISSING if value is None else f"{value:{form}}"

    rows = [
        [
            LABELS[name],
            cell(row.get("parameters"), ",d"),
            cell(row.get("training_seconds"), ",.0f"),
            cell(row.get("seconds_per_image"), ".3g"),
            cell(None if (peak := row.get("peak_bytes")) is None else peak / 2**20, ",.0f"),
        ]
        for name, row in costs.items()
    ]
    head = ["", "Fitted numbers", "Training, s", "Per image, s", "Peak memory, MiB"]
    return markdown_table(head, rows)
