"""The ablation table, beside the full model and the paper."""

from collections.abc import Mapping
from typing import Any

from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.studies.ablation.variants import (
    FULL,
    LABELS,
    LEVELS,
    OBJECTS_FOUND,
    score_labels,
)
from neuroadapter_jax.tables import markdown_table


def tables(results: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> str:
    """The results of `ablation_results` as two Markdown tables: scores, and differences.

    Args:
        results: of `ablation_results`, now or in version 0.1.0.
        missing: metric -> why it is not there; said below the tables.
    """
    results, missing = with_new_names(results), with_new_names(missing)
    scores = list(results[FULL]["scores"])
    columns = [score_labels()[score] for score in scores]

    def cell(score: str, found: Mapping[str, Any], sign: str = "") -> str:
        percent = score in OBJECTS_FOUND or score.startswith("two_way")
        form = f"{sign}.1f" if percent else f"{sign}.3f"
        numbers = [found["value"], *found["interval"]]
        value, low, high = (f"{100 * x if percent else x:{form}}" for x in numbers)
        return f"{value} [{low}, {high}]"

    values = [
        [LABELS.get(name, name), *(cell(score, found["scores"][score]) for score in scores)]
        for name, found in results.items()
    ]
    differences = [
        [
            LABELS.get(name, name),
            found["paper"] or "not known",
            *(found["ours"][level] for level in LEVELS),
            *(cell(score, found["difference"][score], "+") for score in scores),
        ]
        for name, found in results.items()
        if name != FULL
    ]
    head = ["", "paper", *(f"ours, {level}" for level in LEVELS), *columns]
    reasons: dict[str, list[str]] = {}
    for metric, why in missing.items():
        reasons.setdefault(why, []).append(score_labels()[metric])
    notes = [f"Not computed: {', '.join(names)} ({why}).\n" for why, names in reasons.items()]
    return "\n".join(
        [
            markdown_table(["", *columns], values),
            "Difference to full:\n",
            markdown_table(head, differences),
            *notes,
        ]
    )
