"""The claims ledger's figures: curves, effects, and what depends on regions and steps."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuroadapter_jax.figures.pictures import panels, tab20

ROWS = (
    "full", "no_token_dropout", "fixed_drop_rate", "no_min_snr", "no_region_structure", "p20",
    "p40", "p160", "p320", "mlp", "pixel_loss",
)  # fmt: skip
_REGIONS = {"p20": 20, "p40": 40, "full": 80, "p160": 160, "p320": 320}


@runtime_checkable
class Cells(Protocol):
    """Finished cells, see `studies.claims`."""

    def results(self, *names: str) -> list[tuple[dict[str, Any], ...]]:
        """The results of rows or measurements, a tuple per seed that all of them have."""


@runtime_checkable
class Estimate(Protocol):
    """A number with its interval, see `studies.claims`."""

    @property
    def value(self) -> float:
        """The number."""

    @property
    def interval(self) -> tuple[float, float]:
        """Its 95 % interval."""

    @property
    def detectable(self) -> float:
        """The effect that would have been found."""


def figures_of(cells: Cells, shown: Sequence[tuple[str, Estimate, bool]]) -> dict[str, Figure]:
    """Every figure whose cells are there; the caller closes them.

    Args:
        cells: the finished cells.
        shown: claim, estimate, and whether it is decided.
    """
    figures = {}
    if any(cells.results(row) for row in ROWS):
        figures["curves"] = curve_figure(cells)
    if shown:
        figures["effects"] = effect_figure(shown)
    if cells.results("full") and any(cells.results(x) for x in _REGIONS if x != "full"):
        figures["regions"] = region_figure(cells)
    for name, draw in (
        ("lost_regions", lost_figure), ("attention", attention_figure),
        ("silencing", silencing_figure), ("unseen", set_figure),
    ):  # fmt: skip
        if cells.results(name):
            figures[{"lost_regions": "lost", "unseen": "sets"}.get(name, name)] = draw(cells)
    return figures


def curve_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Validation loss of every training by step, a line per seed.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 1, (8.5, 5.0))
    axis, colours = axes[0, 0], tab20()[::2]
    for i, row in enumerate(ROWS):
        for k, (result,) in enumerate(cells.results(row)):
            curve = result["curve"]
            label = row if k == 0 else None
            colour = colours[i % len(colours)]
            style = "-" if i < len(colours) else "--"
            axis.plot(curve["step"], curve["validation"], style, color=colour, label=label, lw=1.2)
    axis.set(xlabel="step", ylabel="validation loss (all tokens kept)")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return _finished(figure, axes)


def effect_figure(
    shown: Sequence[tuple[str, Estimate, bool]], *, figure: Figure | None = None
) -> Figure:
    """Every claim's number in units of its detectable effect, with its interval.

    Args:
        shown: claim, estimate, and whether it is decided.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 1, (9.0, 0.8 + 0.32 * len(shown)))
    axis = axes[0, 0]
    for y, (_, estimate, decided) in enumerate(shown):
        unit = estimate.detectable or 1.0
        low, high = (x / unit for x in estimate.interval)
        axis.plot([low, high], [y, y], color="black", lw=1)
        axis.plot(estimate.value / unit, y, "o", color="black", mfc="black" if decided else "white")
    axis.axvline(0, color="#8a8a8a", lw=0.8)
    axis.set_yticks(range(len(shown)), [name for name, *_ in shown], fontsize=8)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set_xlabel("effect over the row's detectable effect; right of 0 speaks for the claim")
    return _finished(figure, axes)


def region_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Recall and pixel correlation by the number of regions, a dot per seed.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 2, (9.0, 3.6))
    for axis, name in zip(axes[0], ("semantic_recall", "pixel_correlation"), strict=True):
        means = {}
        for row, p in _REGIONS.items():
            values = [_mean(r, r["scores"], name) for (r,) in cells.results(row)]
            axis.plot([p] * len(values), values, "o", color="#1f77b4", alpha=0.5)
            if values:
                means[p] = np.mean(values)
        axis.plot(list(means), list(means.values()), color="black")
        axis.set_xscale("log", base=2)
        axis.set_xticks(list(_REGIONS.values()), [str(p) for p in _REGIONS.values()])
        axis.set(xlabel="regions p (of 640)", ylabel=name.replace("_", " "))
    return _finished(figure, axes)


def lost_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Recall as regions are lost, of adapters trained with and without token dropout.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 2, (9.0, 3.6), sharey=True)
    for axis, way in zip(axes[0], ("guided", "unguided"), strict=True):
        for colour, row in (("#1f77b4", "full"), ("#d62728", "no_token_dropout")):
            for k, (result,) in enumerate(cells.results("lost_regions")):
                own = {n: s for n, s in result["scores"].items() if n.startswith(f"{row}, {way},")}
                shares = [float(name.rsplit(", ", 1)[1]) for name in own]
                values = [_mean(result, scores, "semantic_recall") for scores in own.values()]
                label = row if k == 0 else None
                axis.plot(shares, values, marker=".", color=colour, label=label)
        axis.set(xlabel="share of the regions lost", title=way)
    axes[0, 0].set_ylabel("semantic recall")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return _finished(figure, axes)


def attention_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Attention over the steps: higher over early areas, entropy, and place beyond habit.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 3, (13.0, 3.6))
    for (result,) in cells.results("attention"):
        for axis, name in zip(axes[0], ("higher_over_early", "entropy"), strict=False):
            axis.plot(result["curves"][name], color="black", alpha=0.7)
        gains = result["curves"]["beyond_habit"].items()
        for colour, (area, gain) in zip(tab20()[::2], gains, strict=False):
            axes[0, 2].plot(np.array(gain, float), color=colour, label=area, alpha=0.8)
    labels = ("log share per region, higher over V1 to V4", "entropy of category areas' maps",
              "AUC beyond the area's habit")  # fmt: skip
    for axis, label in zip(axes[0], labels, strict=True):
        axis.set(xlabel="denoising step", ylabel=label)
        axis.axhline(0, color="#8a8a8a", lw=0.8) if "entropy" not in label else None
    handles, names = axes[0, 2].get_legend_handles_labels()
    unique = dict(zip(names, handles, strict=True))
    axes[0, 2].legend(
        unique.values(), unique, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
    )
    return _finished(figure, axes)


def silencing_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Recall with sets of regions silenced, beside their matched controls; a dot per seed.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 1, (6.5, 3.8))
    axis = axes[0, 0]
    bars: dict[str, list[float]] = {}
    for (result,) in cells.results("silencing"):

        def recall(scores: Any, result: Any = result) -> float:
            return _mean(result, scores, "semantic_recall")

        bars.setdefault("intact", []).append(recall(result["intact"]))
        for name, own in result["sets"].items():
            bars.setdefault(f"{name},\nwhole", []).append(recall(own["whole"]))
            for part in ("matched", "controls"):
                mean = float(np.mean([recall(x) for x in own[part]]))
                bars.setdefault(f"{name},\n{part}", []).append(mean)
    for x, values in enumerate(bars.values()):
        axis.plot([x] * len(values), values, "o", color="black", alpha=0.6)
    axis.set_xticks(range(len(bars)), list(bars), fontsize=8)
    axis.set_ylabel("semantic recall")
    return _finished(figure, axes)


def set_figure(cells: Cells, *, figure: Figure | None = None) -> Figure:
    """Recall on the sets that training never showed, beside chance; a dot per seed.

    Args:
        cells: the finished cells.
        figure: an empty one to draw into; a new one when None.
    """
    figure, axes = panels(figure, 1, 1, (6.5, 3.8))
    axis, ticks = axes[0, 0], []
    for (result,) in [*cells.results("unseen"), *cells.results("imagery")]:
        for name, own in result["sets"].items():
            ticks += [] if name in ticks else [name]
            for part, fill in (("scores", "black"), ("chance", "white")):
                value = _mean(own, own[part], "semantic_recall")
                axis.plot(ticks.index(name), value, "o", color="black", mfc=fill)
    axis.set_xticks(range(len(ticks)), [x.replace("_", "\n") for x in ticks], fontsize=8)
    axis.set_ylabel("semantic recall; open: chance")
    return _finished(figure, axes)


def _mean(result: Any, scores: Any, name: str) -> float:
    """Mean over images, recalls as objects found over objects shown."""
    total = sum(result["shown"]) if name in ("semantic_recall", "object_identity") else 0
    return float(np.sum(scores[name]) / (total or len(scores[name])))


def _finished(figure: Figure, axes: Any) -> Figure:
    axis: Axes
    for axis in axes.ravel():
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
