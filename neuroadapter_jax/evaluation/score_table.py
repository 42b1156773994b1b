"""All scores of some folders side by side, as rows of text."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.evaluation.protocol import less_is_better, metric_labels
from neuroadapter_jax.tables import MISSING, interval_cell, markdown_table


def _metric_row(name: str, label: str) -> tuple[str, tuple[str, ...], str]:
    if less_is_better(name):
        return f"Distance by {label.removesuffix(' distance')} (less is better)", (name,), ".3f"
    if name.startswith("two_way"):
        return f"Two-way identification by {label}", (name,), ".1%"
    return f"{label} at 425 x 425 pixels, as published", (name,), ".3f"


# Label, path of keys to a {"value", "interval"} entry, and format.
METRIC_ROWS = tuple(
    (text, ("metrics", *keys), form)
    for text, keys, form in (_metric_row(*item) for item in metric_labels().items())
)
ROWS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("Two-way identification by pixels", ("two_way_pixels",), ".1%"),
    ("… with permuted responses (chance 50 %)", ("permuted_responses", "two_way_pixels"), ".1%"),
    ("Pixel correlation", ("pixel_correlation",), ".3f"),
    ("Structural similarity (SSIM)", ("ssim",), ".3f"),
    ("Semantic recall: objects with the right category in place", ("semantic_recall",), ".1%"),
    ("… with permuted responses", ("permuted_responses", "semantic_recall"), ".1%"),
    ("… of a linear readout of the same responses", ("linear_readout", "semantic_recall"), ".1%"),
    ("Semantic recall over the readout's", ("recall_relative_to_readout",), ".1%"),
    ("Semantic precision", ("semantic_precision",), ".1%"),
    (
        "Object identity: nearest of 48 in place (chance 2 %)",
        ("object_identity",),
        ".1%",
    ),
    ("… of a linear readout", ("linear_readout", "object_identity"), ".1%"),
)


def score_table(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of text: the score's name, then value [95 % interval] per model.

    A score that is not there, such as the precision where no object is read, is "–".
    The metrics of published tables follow; those that no model has are left to `missing_scores`.

    Args:
        results: dictionaries of `score_folder` by the model's label.
    """
    table = [["", *results]]
    for label, keys, form in (*ROWS, *METRIC_ROWS):
        cells = []
        for result in results.values():
            entry: Any = result
            for key in keys:
                entry = entry.get(key, {})
            cells.append(interval_cell(entry, form))
        if keys[0] != "metrics" or set(cells) != {MISSING}:
            table.append([label, *cells])
    return table


def missing_scores(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on the published metrics that were not computed: which, and why.

    Args:
        results: dictionaries of `score_folder` by the model's label.
    """
    labels = metric_labels()
    reasons: dict[str, dict[str, None]] = {}
    for result in results.values():
        for name, reason in result.get("missing", {}).items():
            reasons.setdefault(reason, {})[labels[name]] = None
    return [f"Not computed: {', '.join(names)} ({reason})." for reason, names in reasons.items()]


def score_text(results: Mapping[str, Any]) -> str:
    """The scores of one folder as Markdown, for the card of an exported model.

    Args:
        results: a dictionary of `score_folder`.
    """
    head, *rows = score_table({"value [95 % interval]": results})
    number = results["num_images"]
    return f"{number} test images, one candidate each:\n\n{markdown_table(head, rows)}"
