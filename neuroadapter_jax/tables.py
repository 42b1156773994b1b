"""Markdown tables, and the cells that they are made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from neuroadapter_jax.errors import InputError

MISSING = "–"


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown; the text ends with a line break.

    Args:
        head: names of the columns.
        rows: cells of each row, as many as there are columns.

    Raises:
        InputError: a row has more or fewer cells than there are columns.
    """
    lines: list[list[object]] = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    for line in lines:
        if len(line) != len(head):
            raise InputError(
                f"A row of the table has {len(line)} cells, {line}; expected {len(head)}, one for "
                f"each of the columns {list(head)}."
            )
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(value: object) -> str:
    """A cell's text, such as the name of an ROI, so that it neither ends the cell nor is markup."""
    text = str(value).replace("\n", " ").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def interval_cell(entry: Mapping[str, Any] | None, form: str = ".2f") -> str:
    """A score with its interval, such as "0.71 [0.65, 0.77]", or a dash where it is missing.

    Args:
        entry: {"value": number or None, "interval": [low, high]}, as `metrics.statistics` gives it.
        form: format of the three numbers.
    """
    if entry is None or entry.get("value") is None:
        return MISSING
    low, high = entry["interval"]
    return f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]"
