import base64
import html.parser
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from neuroadapter_jax.evaluation.score_table import missing_scores, score_table
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.figures.report import training_figure, write_report

SCORE = {"value": 0.5, "interval": [0.25, 0.75]}
RESULTS = {
    "num_images": 211,
    "two_way_pixels": {"value": 0.987, "interval": [0.9751, 0.99]},
    "pixel_correlation": {"value": 0.71, "interval": [0.7, 0.72]},
    "ssim": SCORE,
    "semantic_recall": SCORE,
    "semantic_precision": {"value": None, "interval": None},
    "linear_readout": {"semantic_recall": SCORE},
    "recall_relative_to_readout": {"value": 1.03, "interval": [1.0, 1.06]},
    "permuted_responses": {"two_way_pixels": SCORE, "semantic_recall": SCORE},
    "metrics": {
        "two_way_tiny_vit_pooled": {"value": 0.9, "interval": [0.875, 0.95]},
        "distance_tiny_vit": {"value": 0.25, "interval": [0.125, 0.5]},
    },
    "missing": {"two_way_clip": "no <weights>", "distance_swav": "no <weights>"},
}
METRICS = [
    {"step": 10, "kind": "train", "loss": 0.9},
    {"step": 20, "kind": "train", "loss": 0.7},
    {"step": 20, "kind": "evaluation", "validation/loss": 0.6},
    {"step": 30, "kind": "train", "loss": 0.5},
]


def test_the_table_names_values_and_intervals():
    without = {key: RESULTS[key] for key in RESULTS if key != "permuted_responses"}
    head, *rows = score_table({"minutes": RESULTS, "hours": without})
    assert head == ["", "minutes", "hours"]
    table = {name: cells for name, *cells in rows}
    assert table["Two-way identification by pixels"] == ["98.7% [97.5%, 99.0%]"] * 2
    assert table["Pixel correlation"][0] == "0.710 [0.700, 0.720]"
    assert table["Semantic precision"] == ["–", "–"]
    assert table["… with permuted responses"] == ["50.0% [25.0%, 75.0%]", "–"]


def test_published_metrics_follow_and_those_missing_are_said():
    without = {key: RESULTS[key] for key in RESULTS if key not in ("metrics", "missing")}
    table = {name: cells for name, *cells in score_table({"new": RESULTS, "old": without})}
    label = "Two-way identification by tiny-vit, pooled"
    assert table[label] == ["90.0% [87.5%, 95.0%]", "–"]
    assert table["Distance by tiny-vit (less is better)"] == ["0.250 [0.125, 0.500]", "–"]
    assert not any("CLIP" in name for name in table)
    assert missing_scores({"new": RESULTS, "old": without}) == [
        "Not computed: CLIP, SwAV (no <weights>)."
    ]
    assert label not in {name for name, *_ in score_table({"old": without})}


@pytest.mark.parametrize("metrics", [METRICS, METRICS[:2]], ids=["whole", "begun"])
def test_the_curve_of_the_loss(metrics):
    own = Figure()
    assert training_figure(metrics, figure=own) is own
    train, *held_out = own.axes[0].get_lines()
    assert train.get_xydata().tolist() == [[m["step"], m["loss"]] for m in metrics if "loss" in m]
    assert sum(len(line.get_xydata()) for line in held_out) == (metrics == METRICS)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (13, 8, 8, 3)).astype(np.uint8)


@pytest.fixture
def page(images, tmp_path):
    save_picture(tmp_path / "rois.png", image_grid({"rois": images}))
    other = RESULTS | {"ssim": {"value": 0.6, "interval": [0.5, 0.7]}}
    write_report(
        tmp_path / "report.html",
        results={"minutes <of training>": RESULTS, "hours": other},
        rows={"Stimulus": images, "minutes <of training>": 255 - images},
        rois=tmp_path / "rois.png",
        metrics=METRICS,
        facts={"python a.py & b": "17 s"},
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_report_needs_no_other_file(page, images, tmp_path):
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    *found, rois = [base64.b64decode(text) for text in pictures]
    assert rois == (tmp_path / "rois.png").read_bytes()
    rows = [images[:10], 255 - images[:10], images[10:], 255 - images[10:]]
    for picture, expected in zip(found, np.concatenate(rows), strict=True):
        np.testing.assert_array_equal(Image.open(io.BytesIO(picture)), expected)
    assert not re.search(r'(src|href)="(?!data:|#)', page.replace("xlink:href", "href"))
    assert "minutes &lt;of training&gt;" in page and "python a.py &amp; b" in page
    assert "Not computed: CLIP, SwAV (no &lt;weights&gt;)." in page
    assert "211 test images" in page and "CC BY-SA 4.0" in page
    assert not list(tmp_path.glob("*.partial"))


class Cells(html.parser.HTMLParser):
    """The rows of a page's tables as lists of texts, and what has no words."""

    def __init__(self):
        super().__init__()
        self.rows, self.spans, self.silent = [], {}, []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            if "colspan" in found:
                self.spans[len(self.rows) - 1] = int(found["colspan"])
        elif tag in ("img", "svg") and not (found.get("alt") or found.get("aria-label")):
            self.silent.append(tag)

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_a_score_that_is_the_same_in_every_column_stands_once(page):
    cells = Cells()
    cells.feed(page)
    assert not cells.silent
    found = {row[0]: (row[1:], cells.spans.get(i)) for i, row in enumerate(cells.rows) if row}
    assert found["Pixel correlation"] == (["0.710 [0.700, 0.720]"], 2)
    assert found["Structural similarity (SSIM)"] == (
        ["0.500 [0.250, 0.750]", "0.600 [0.500, 0.700]"],
        None,
    )
