"""The scores of a folder as a model card takes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroadapter_jax.errors import reading
from neuroadapter_jax.evaluation.protocol import metric_labels
from neuroadapter_jax.evaluation.results import read_results, results_file
from neuroadapter_jax.evaluation.score_table import score_text
from neuroadapter_jax.hub.cards import CardScores, Score

# Scores that need the simulated subject's truth, by their labels.
_SIMULATED = {
    "semantic_recall": "Semantic recall",
    "semantic_precision": "Semantic precision",
    "object_identity": "Object identity",
}


def card_scores(path: str | Path) -> CardScores:
    """What a model card says of the reconstructions that a folder holds.

    Args:
        path: results.json of `neuroadapter evaluate`, or the folder that holds it.

    Raises:
        MissingFileError: the folder has not been scored.
        InputError: results.json is damaged.
    """
    results = read_results(path)
    with reading(results_file(path), "scores of `neuroadapter evaluate`"):
        return _card_scores(results)


def _card_scores(results: Mapping[str, Any]) -> CardScores:
    entries = {**results.get("metrics", {})}
    entries |= {name: results[name] for name in _SIMULATED if name in results}
    labels = metric_labels() | _SIMULATED
    made = results.get("reconstructions", {})
    return CardScores(
        scores=tuple(
            Score(name, labels.get(name, name), float(entry["value"]), _interval(entry))
            for name, entry in entries.items()
            if entry.get("value") is not None
        ),
        num_images=int(results["num_images"]),
        split=str(made.get("split", "test")),
        dataset=_dataset(made.get("data", {})),
        text=score_text(results),
        model=made.get("model"),
    )


def _interval(entry: Mapping[str, Any]) -> tuple[float, float]:
    low, high = entry["interval"]
    return float(low), float(high)


def _dataset(data: Mapping[str, Any]) -> str | None:
    name = data.get("dataset")
    if not isinstance(name, str):
        return None
    return f"simulated-{name}" if data.get("simulation") else name
