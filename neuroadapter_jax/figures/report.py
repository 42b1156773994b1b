"""The report of a demo run: one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from neuroadapter_jax.evaluation.score_table import missing_scores, score_table
from neuroadapter_jax.figures.pages import content_policy
from neuroadapter_jax.files import write_text

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } p.lead { color: #555; margin-top: .3rem; }
img, svg { max-width: 100%; height: auto; } img { image-rendering: pixelated; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #ddd; }
small, figcaption { color: #666; } figure { margin: 1rem 0; }
"""


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
    """Write the report.

    Args:
        path: the HTML file.
        results: dictionaries of `score_folder` by the model's label.
        grid: PNG with each stimulus above its reconstructions.
        rois: PNG of the simulated subject's ROIs on the cortex.
        metrics: the lines of the demo training's metrics.jsonl.
        facts: short statements by name, such as times and commands.
    """
    head, *rows = score_table(results)
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    number = int(next(iter(results.values()))["num_images"])
    missing = " ".join(html.escape(sentence) for sentence in missing_scores(results))
    statements = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy()}">
<title>neuroadapter-jax: demo</title>
<style>{_STYLE}</style>
<h1>Stimuli and their reconstructions</h1>
<p class="lead">Reconstructions by neuroadapter-jax from the responses of a simulated subject to
{number} test images that were never trained on.</p>
<h2>Reconstructions</h2>
{_picture(grid, "Each stimulus above its reconstructions.")}
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
{_picture(rois, "Planted ROIs on the inflated fsaverage5; every other vertex is noise.")}
<h2>This run</h2>
<table>{statements}</table>
<p><small>Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0; so are pictures of
them.</small></p>
</html>
"""
    write_text(path, page)
