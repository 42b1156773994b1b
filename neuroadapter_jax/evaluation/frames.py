"""Scores of a folder as pandas data frames."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuroadapter_jax.errors import reading
from neuroadapter_jax.evaluation.protocol import less_is_better, metric_labels
from neuroadapter_jax.evaluation.results import (
    PER_IMAGE,
    read_per_image,
    read_results,
    results_file,
)
from neuroadapter_jax.metrics.colour import COLOUR_METRICS
from neuroadapter_jax.metrics.depth import DEPTH_METRICS

if TYPE_CHECKING:
    import pandas

# results.json -> per_image.csv: of the images as they are, not resized as published.
_OWN_SIZE = {"ssim": "ssim_own_size"}


def load_scores(folder: str | Path) -> "pandas.DataFrame":
    """The scores of every image, one row per image and metric.

    Args:
        folder: scored by `neuroadapter evaluate`.

    Returns:
        Columns image_id, metric and value; NaN where an image has none. Counts, such as
        objects_shown, are metrics of their own.

    Raises:
        MissingFileError: the folder has not been scored.
        InputError: its per_image.csv is no such table.
    """
    import pandas

    table = read_per_image(Path(folder) / PER_IMAGE)
    wide = pandas.DataFrame({"image_id": table.image_ids, **table.columns})
    return wide.melt("image_id", var_name="metric", value_name="value")


def load_score_summary(folder: str | Path) -> "pandas.DataFrame":
    """The mean score over images of every metric, with its 95 % bootstrap interval.

    Args:
        folder: scored by `neuroadapter evaluate`, or its results.json.

    Returns:
        Indexed by metric; columns label, value, low, high, num_images and less_is_better. Metrics
        that were not computed are left out, and so are scores without a value.

    Raises:
        MissingFileError: the folder has not been scored.
        InputError: results.json is damaged.
    """
    import pandas

    results = read_results(folder)
    columns = ["metric", "label", "value", "low", "high", "num_images", "less_is_better"]
    with reading(results_file(folder), "scores of `neuroadapter evaluate`"):
        return pandas.DataFrame(_summary_rows(results), columns=columns).set_index("metric")


def _summary_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = dict(results.get("metrics", {}))
    labels = metric_labels() | COLOUR_METRICS | DEPTH_METRICS
    for name, entry in results.items():  # those of the simulated subject stand beside "metrics"
        if isinstance(entry, dict) and "interval" in entry:
            entries[_OWN_SIZE.get(name, name)] = entry
    return [
        {
            "metric": name,
            "label": labels.get(name, name.replace("_", " ")),
            "value": entry["value"],
            "low": entry["interval"][0],
            "high": entry["interval"][1],
            "num_images": results["num_images"],
            "less_is_better": less_is_better(name),
        }
        for name, entry in entries.items()
        if entry.get("value") is not None
    ]
