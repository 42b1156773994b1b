"""What each decoder's source leads one to expect of its rows, and whether the rows meet it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Expectation:
    """One score of a row beside that of another row, or beside a number.

    Attributes:
        row: the method.
        score: the score.
        relation: "above" or "below".
        other: another method, or a number.
        why: where it is from.
    """

    row: str
    score: str
    relation: Literal["above", "below"]
    other: str | float
    why: str


_ABLATION = "Brain-Diffuser's own ablation: PixCorr .305 whole"
EXPECTATIONS = (
    Expectation(
        "true_embedding",
        "semantic_recall",
        "above",
        0.95,
        "an image adapter that keeps less is not trained",
    ),
    Expectation(
        "true_embedding",
        "pixel_correlation",
        "above",
        "linear_latents",
        "an image adapter that keeps less is not trained",
    ),
    Expectation(
        "brain_diffuser_without_text",
        "pixel_correlation",
        "below",
        "brain_diffuser",
        f"{_ABLATION}, .279 without text",
    ),
    Expectation(
        "brain_diffuser_without_vision",
        "pixel_correlation",
        "above",
        "brain_diffuser",
        f"{_ABLATION}, .327 without vision",
    ),
    Expectation(
        "brain_diffuser_without_low_level",
        "pixel_correlation",
        "below",
        "brain_diffuser",
        f"{_ABLATION}, .143 without low level",
    ),
)


def judged(methods: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every expectation of which both rows are there, with its numbers.

    Args:
        methods: method -> score -> {"value", "interval"}.

    Returns:
        "row", "score", "relation", "other", "why", the two numbers as "found" and "beside", and
        whether it is "met".
    """
    found = []
    for each in EXPECTATIONS:
        scores = methods.get(each.row, {})
        other = each.other
        beside = other if isinstance(other, float) else _value(methods.get(other, {}), each.score)
        value = _value(scores, each.score)
        if value is None or beside is None:
            continue
        met = value > beside if each.relation == "above" else value < beside
        found.append({**vars(each), "found": value, "beside": beside, "met": bool(met)})
    return found


def _value(scores: Mapping[str, Any], name: str) -> float | None:
    return scores[name]["value"] if name in scores else None
