"""What perturbing regions changes: deletion curves, changed categories, distances."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuroadapter_jax.evaluation.appearance import MEASURES
from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.figures.pictures import panels

_VERBS = {
    "silence": "silenced (tokens dropped)",
    "mean": "responses at the training mean",
    "swap": "responses to another image",
}
_GREY = "#8a8a8a"


def deletion_figure(result: Mapping[str, Any], *, figure: Figure | None = None) -> Figure:
    """Curves of `deletion_table`: a column for deletion and insertion, a row per measure.

    Args:
        result: what `deletion_table` returned, now or in version 0.1.0.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    result = with_new_names(result)
    labels = {"pixel_correlation": "pixel correlation with the stimulus", "recall": "recall"}
    figure, axes = panels(figure, 2, 2, (12.0, 7.4), sharex=True, sharey="row")
    for row, (measure, label) in enumerate(labels.items()):
        for axis, way in zip(axes[row], ("deletion", "insertion"), strict=True):
            for name, own in result["curves"].items():
                points = own[way][measure]["curve"]
                style = {"color": "black", "ls": "--", "zorder": 3} if name == "random" else {}
                text = f"{name} ({own[way][measure]['area_under_curve']['value']:.3f})"
                (line,) = axis.plot(
                    result["shares"], [x["value"] for x in points], marker=".", label=text, **style
                )
                low, high = np.array([x["interval"] for x in points]).T
                axis.fill_between(
                    result["shares"], low, high, color=line.get_color(), alpha=0.08, lw=0
                )
            axis.legend(
                frameon=False,
                fontsize=8,
                title="ranking (area under the curve)",
                title_fontsize=8,
                loc="upper left",
                bbox_to_anchor=(1, 1),
            )
            axis.spines[["top", "right"]].set_visible(False)
        axes[row, 0].set_ylabel(label)
    axes[0, 0].set_title("deletion: ranked highest is silenced first", fontsize=10)
    axes[0, 1].set_title("insertion: ranked highest is kept first", fontsize=10)
    axes[1, 0].set_xlabel("share of the regions that are silenced")
    axes[1, 1].set_xlabel("share of the regions that are kept")
    figure.suptitle(
        f"{result['num_images']} images, 95 % intervals over images. Rankings: each region's share "
        "of the attention (sums to 1 over regions,\nmean over steps) by reduction; its effect on "
        "the noise prediction; its planted signal; random.",
        fontsize=10,
    )
    figure.tight_layout()
    return figure


def loss_figure(
    result: Mapping[str, Mapping[str, Any]],
    images: Mapping[str, int],
    *,
    figure: Figure | None = None,
) -> Figure:
    """Dots of `category_table`: objects no longer found, the category's ROI and random sets.

    Args:
        result: perturbation, and after a comma which sets, -> what `category_table` returned.
        images: perturbation -> how many images were used.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    result = with_new_names(result)
    figure, axes = panels(figure, 1, len(result), (3.4 * len(result) + 1, 4.2), sharex=True)
    for axis, (perturbation, own) in zip(axes[0], result.items(), strict=True):
        names = list(own)
        at = np.arange(len(names))[::-1]
        _dots(axis, [own[n]["changed"] for n in names], at + 0.12, "the category's ROI", "C0")
        random = [own[n]["changed_by_random_sets"] or {"value": None} for n in names]
        _dots(axis, random, at - 0.12, "matched random sets; none where no set is matched", _GREY)
        objects = [f"{n} ({own[n]['objects']})" for n in names]
        axis.set_yticks(at, objects)
        kind, *region_sets = perturbation.split(", ")
        what = ", ".join([f"{images[perturbation]} images", *region_sets])
        axis.set_title(f"{_VERBS[kind]}\n{what}", fontsize=10)
        axis.set_xlabel("share of the objects reconstructed right\nthat are not any more")
        axis.axvline(0.5, color="#cccccc", lw=1, ls=":", zorder=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_xlim(-0.03, 1.03)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False
    )
    figure.suptitle("In brackets: number of objects. 95 % intervals over images.", fontsize=10)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    return figure


def change_figure(
    result: Mapping[str, Mapping[str, Any]], num_images: int, *, figure: Figure | None = None
) -> Figure:
    """Dots of `change_table`: how far each set moves a reconstruction, a panel per perturbation.

    Args:
        result: what `change_table` returned.
        num_images: how many images were used.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    figure, axes = panels(figure, 1, len(result), (4.4 * len(result), 4.8), sharey=True)
    for axis, (perturbation, own) in zip(axes[0], result.items(), strict=True):
        region_sets = [name for name in own if not name.endswith(", random")]
        for i, name in enumerate(region_sets):
            shift = 0.16 * (i - (len(region_sets) - 1) / 2)
            at = np.arange(len(MEASURES)) + shift
            text = f"{name}, {own[name]['regions']} regions"
            _dots(axis, [own[name][m] for m in MEASURES], at, text, f"C{i}", upright=True)
            random = own.get(f"{name}, random")
            if random:
                values = np.array([random[m]["value"] for m in MEASURES], float)  # None: NaN
                axis.plot(at + 0.06, values, "x", ms=5, color=f"C{i}", label="_")
        axis.set_xticks(range(len(MEASURES)), MEASURES)
        axis.set_title(_VERBS[perturbation], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel(
        "distance from the intact reconstruction /\ndistance of another image's reconstruction"
    )
    axes[0, 0].set_ylim(bottom=0)
    axes[0, 0].plot([], [], "x", color=_GREY, label="its matched random sets, where there are any")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="lower center", ncols=3, frameon=False
    )
    figure.suptitle(
        f"{num_images} images, 95 % intervals over images; 0: nothing changes, 1: as unlike as the "
        "reconstruction of another image",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0.11, 1, 1))
    return figure


def _dots(
    axis: Axes,
    entries: list[Mapping[str, Any]],
    at: np.ndarray,
    label: str,
    color: str,
    upright: bool = False,
) -> None:
    """Values with their intervals; those without a value are left out."""
    found = [(x, e) for x, e in zip(at, entries, strict=True) if e["value"] is not None]
    if not found:
        return
    where = np.array([x for x, _ in found])
    values = np.array([e["value"] for _, e in found])
    ends = np.array([e["interval"] for _, e in found]).T
    reach = np.maximum(np.abs(ends - values), 0)
    style: dict[str, Any] = {"fmt": "o", "ms": 4, "lw": 1.2, "color": color, "label": label}
    if upright:
        axis.errorbar(where, values, yerr=reach, **style)
    else:
        axis.errorbar(values, where, xerr=reach, **style)
