"""The report of a demo run: one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from neuroadapter_jax.evaluation.protocol import less_is_better, metric_labels
from neuroadapter_jax.files import write_file

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } p.lead { color: #555; margin-top: .3rem; }
img, svg { max-width: 100%; height: auto; } img { image-rendering: pixelated; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #ddd; }
small, figcaption { color: #666; } figure { margin: 1rem 0; }
"""


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
    ("Semantic recall: things with the right category in place", ("semantic_recall",), ".1%"),
    ("… with permuted responses", ("permuted_responses", "semantic_recall"), ".1%"),
    ("… of a linear readout of the same responses", ("linear_readout", "semantic_recall"), ".1%"),
    ("Semantic recall over the readout's", ("recall_relative_to_readout",), ".1%"),
    ("Semantic precision", ("semantic_precision",), ".1%"),
    (
        "The thing itself: nearest of 48 in place (chance 2 %)",
        ("object_identity",),
        ".1%",
    ),
    ("… of a linear readout", ("linear_readout", "object_identity"), ".1%"),
)


def score_table(results: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Rows of text: the score's name, then value [95 % interval] per model.

    A score that is not there, such as the precision of drawings in which nothing is read, is "–".
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
            if entry.get("value") is None:
                cells.append("–")
                continue
            low, high = entry["interval"]
            cells.append(f"{entry['value']:{form}} [{low:{form}}, {high:{form}}]")
        if keys[0] != "metrics" or set(cells) != {"–"}:
            table.append([label, *cells])
    return table


def missing_scores(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on the published metrics that were not computed: which, and why.

    Args:
        results: dictionaries of `score_folder` by the model's label.
    """
    labels, reasons = metric_labels(), {}
    for result in results.values():
        for name, reason in result.get("missing", {}).items():
            reasons.setdefault(reason, {})[labels[name]] = None
    return [f"Not computed: {', '.join(names)} ({reason})." for reason, names in reasons.items()]


def training_curve(metrics: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of training and validation loss over steps.

    Args:
        metrics: the lines of metrics.jsonl.
    """
    train = [(m["step"], m["loss"]) for m in metrics if m["kind"] == "train"]
    held_out = [(m["step"], m["validation/loss"]) for m in metrics if m["kind"] == "evaluation"]
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.plot(*zip(*train, strict=True), color="#bbb", lw=1, label="training batch, with dropout")
    axis.plot(*zip(*held_out, strict=True), color="#c33", label="validation, all tokens")
    axis.set_xlabel("step")
    axis.set_ylabel("Min-SNR loss")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _picture(path: str | Path, caption: str) -> str:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def write_report(
    path: str | Path,
    *,
    results: Mapping[str, Mapping[str, Any]],
    grid: str | Path,
    rois: str | Path,
    metrics: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
) -> None:
    """Write the report, atomically.

    Args:
        path: the HTML file.
        results: dictionaries of `score_folder` by the model's label.
        grid: PNG with each stimulus above its reconstructions.
        rois: PNG of the simulated subject's areas.
        metrics: the lines of the demo training's metrics.jsonl.
        facts: short statements by name, such as times and commands.
    """
    head, *rows = score_table(results)
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    number = next(iter(results.values()))["num_images"]
    missing = " ".join(html.escape(sentence) for sentence in missing_scores(results))
    statements = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>neuroadapter-jax: demo</title>
<style>{_STYLE}</style>
<h1>What the simulated brain saw</h1>
<p class="lead">Images drawn by neuroadapter-jax from the responses of a simulated subject to
{number} test images that were never trained on.</p>
<h2>Reconstructions</h2>
{_picture(grid, "Each stimulus above what was drawn from its responses.")}
<h2>Scores</h2>
<table><tr>{cells}</tr>{body}</table>
<p><small>{number} test images; 95 % bootstrap intervals over images. Two-way
identification: how often a reconstruction is more like its own stimulus than like another one.
Semantic recall: a classifier trained on scenes alone reads which category stands where. The last
rows are scored as published tables are, after resizing; tiny-vit, the simulated data's own image
model, stands in for the networks of those tables. {missing}</small></p>
<h2>Training of this run</h2>
{training_curve(metrics)}
<h2>The simulated subject</h2>
{_picture(rois, "Planted areas on the inflated fsaverage5; every other vertex is noise.")}
<h2>This run</h2>
<table>{statements}</table>
<p><small>Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0; so are pictures of
them.</small></p>
</html>
"""
    write_file(path, lambda partial: partial.write_text(page, encoding="utf-8"))
