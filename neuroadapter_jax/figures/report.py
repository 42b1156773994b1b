"""The report of a demo run: one HTML file that needs nothing else."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from PIL import Image

from neuroadapter_jax.evaluation.score_table import missing_scores, score_table
from neuroadapter_jax.figures.pages import content_policy
from neuroadapter_jax.figures.pictures import panels
from neuroadapter_jax.files import write_text

_STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #595959; --line: #ddd; --ground: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eee; --soft: #aaa; --line: #444; --ground: #181818; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; } p.lead { margin-top: .3rem; }
img, svg { max-width: 100%; height: auto; }
figure { margin: 1rem 0; } figure.plot img, figure.plot svg { background: #fff; }
small, figcaption, p.lead { color: var(--soft); }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; text-align: right; }
tr > :first-child { text-align: left; font-weight: normal; }
thead th, thead tr > :first-child { font-weight: bold; }
tr + tr, tbody tr { border-top: 1px solid var(--line); }
td { white-space: nowrap; } td.all { text-align: center; }
td.long { white-space: normal; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.grid { display: grid; grid-template-columns: minmax(5rem, 9rem) repeat(10, 1fr); gap: 4px;
  align-items: center; margin: 1rem 0; }
.grid span { text-align: right; padding-right: .4rem; line-height: 1.2; }
.grid img { width: 100%; image-rendering: pixelated; display: block; }
@media (max-width: 50rem) { .grid { grid-template-columns: repeat(10, 1fr); }
  .grid span { grid-column: 1 / -1; text-align: left; } }
"""
_COLUMNS = 10  # of the grid, as in _STYLE


def training_figure(
    metrics: Sequence[Mapping[str, Any]], *, figure: Figure | None = None
) -> Figure:
    """Training and validation loss over steps.

    Args:
        metrics: the lines of metrics.jsonl.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    train = [(m["step"], m["loss"]) for m in metrics if m["kind"] == "train"]
    held_out = [(m["step"], m["validation/loss"]) for m in metrics if m["kind"] == "evaluation"]
    figure, ((axis,),) = panels(figure, 1, 1, (7.0, 3.0))
    axis.plot(*zip(*train, strict=True), color="#999", lw=1, label="training batch, with dropout")
    axis.plot(*zip(*held_out, strict=True), color="#c33", label="validation, all tokens")
    axis.set_xlabel("step")
    axis.set_ylabel("Min-SNR loss")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _svg(figure: Figure, description: str) -> str:
    """A figure as an element of a page, with words for who does not see it; closes the figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = buffer.getvalue()
    start = f'<svg role="img" aria-label="{html.escape(description)}"'
    svg = text[text.index("<svg") :].replace("<svg", start, 1)
    return f'<figure class="plot">{svg}</figure>'


def _picture(path: str | Path, caption: str) -> str:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    words = html.escape(caption)
    return (
        f'<figure class="plot"><img src="data:image/png;base64,{data}" alt="{words}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def _image(image: UInt8[np.ndarray, "y x c"], description: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(description)}">'


def _grid(rows: Mapping[str, UInt8[np.ndarray, "b y x c"]]) -> str:
    """Blocks of as many columns as the page has, each with the rows above one another."""
    blocks = []
    for start in range(0, len(next(iter(rows.values()))), _COLUMNS):
        cells = []
        for label, images in rows.items():
            cells.append(f"<span>{html.escape(label)}</span>")
            own = images[start : start + _COLUMNS]
            cells += [_image(x, f"{label}, image {start + i + 1}") for i, x in enumerate(own)]
            cells += ["<i></i>"] * (_COLUMNS - len(own))
        blocks.append(f'<div class="grid">{"".join(cells)}</div>')
    return "".join(blocks)


def _score_cells(cells: Sequence[str]) -> str:
    """The cells of a row; what is the same in every column stands once, over all of them."""
    if len(cells) > 1 and len(set(cells)) == 1:
        return f'<td class="all" colspan="{len(cells)}">{html.escape(cells[0])}</td>'
    return "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)


def write_report(
    path: str | Path,
    *,
    results: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, UInt8[np.ndarray, "b y x c"]],
    rois: str | Path,
    metrics: Sequence[Mapping[str, Any]],
    facts: Mapping[str, str],
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        results: dictionaries of `score_folder` by the model's label.
        rows: the grid's rows by label, such as the stimuli and each model's reconstructions.
        rois: PNG of the simulated subject's ROIs on the cortex.
        metrics: the lines of the demo training's metrics.jsonl.
        facts: short statements by name, such as times and commands.
    """
    head, *scores = score_table(results)
    cells = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head[1:])
    body = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{_score_cells(own)}</tr>'
        for name, *own in scores
    )
    number = int(next(iter(results.values()))["num_images"])
    missing = " ".join(html.escape(sentence) for sentence in missing_scores(results))
    statements = "".join(
        f'<tr><td class="long"><code>{html.escape(name)}</code></td>'
        f"<td>{html.escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{content_policy()}">
<meta name="viewport" content="width=device-width">
<title>neuroadapter-jax: demo</title>
<style>{_STYLE}</style>
<h1>Stimuli and their reconstructions</h1>
<p class="lead">Reconstructions by neuroadapter-jax from the responses of a simulated subject to
{number} test images that were never trained on.</p>
<h2>Reconstructions</h2>
{_grid(rows)}
<p><small>Each stimulus above its reconstructions.</small></p>
<h2>Scores</h2>
<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table>
<thead><tr><td></td>{cells}</tr></thead><tbody>{body}</tbody></table></div>
<p><small>{number} test images; 95 % bootstrap intervals over images. What is the same for every
column stands once, in the middle. Two-way
identification: how often a reconstruction is more like its own stimulus than like another one.
Semantic recall: a classifier trained on scenes alone reads which category stands where. The last
rows are scored as published tables are, after resizing; tiny-vit, the simulated data's own image
model, stands in for the networks of those tables. {missing}</small></p>
<h2>Training of this run</h2>
{_svg(training_figure(metrics), "Training and validation loss over steps")}
<h2>The simulated subject</h2>
{_picture(rois, "Simulated ROIs on the inflated fsaverage5; every other vertex is noise.")}
<h2>This run</h2>
<table>{statements}</table>
<p><small>Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0; so are pictures of
them.</small></p>
</html>
"""
    write_text(path, page)
