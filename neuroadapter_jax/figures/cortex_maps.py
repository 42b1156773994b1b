"""Areas and values on the inflated cortex."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.plotting import plot_surf_roi, plot_surf_stat_map

from neuroadapter_jax.figures._files import write_atomically

VIEWS = ("lateral", "medial", "ventral")


def area_figure(
    area: Shaped[np.ndarray, " n"],
    *,
    views: Sequence[str] = VIEWS,
    order: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Draws named areas on the inflated fsaverage5, a row of views per hemisphere.

    Args:
        area: name of the area of each vertex, left hemisphere then right, "" for none.
        views: nilearn's names of the views, one column each.
        order: names in the order of the legend and colours; alphabetical if left out.
        title: text over the figure.

    Returns:
        The figure; the caller closes it.

    Raises:
        ValueError: if the number of vertices is not fsaverage5's, or ``order`` misses an area.
    """
    present = sorted(set(np.unique(area).tolist()) - {""})
    names = list(order) if order is not None else present
    if missing := [name for name in present if name not in names]:
        raise ValueError(f"The order of areas lacks {missing}, which the map holds.")
    palette = np.delete(plt.get_cmap("tab20").colors, [14, 15], axis=0)  # no grey: those are sulci
    colours = palette[np.arange(len(names)) % len(palette)]
    index = np.full(len(area), np.nan)
    for i, name in enumerate(names):
        index[area == name] = i
    figure = _on_the_cortex(
        index, views, plot_surf_roi, ListedColormap(colours), -0.5, len(names) - 0.5
    )
    figure.legend(
        handles=[Patch(color=c, label=n) for c, n in zip(colours, names, strict=True)],
        loc="lower center",
        ncols=min(6, max(1, len(names))),
        frameon=False,
    )
    figure.suptitle(title)
    return figure


def value_figure(
    values: Float[np.ndarray, " n"],
    label: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    views: Sequence[str] = VIEWS,
) -> Figure:
    """Draws one number per vertex on the inflated fsaverage5, with a colour bar.

    Args:
        values: left hemisphere then right; NaN is not painted.
        label: what the numbers are, with their unit, beside the colour bar.
        low: value of the darkest colour.
        high: value of the brightest.
        views: nilearn's names of the views, one column each.

    Returns:
        The figure; the caller closes it.

    Raises:
        ValueError: if the number of vertices is not fsaverage5's.
    """
    cmap = plt.get_cmap("viridis")
    plot = functools.partial(plot_surf_stat_map, symmetric_cbar=False)
    figure = _on_the_cortex(values, views, plot, cmap, low, high)
    scale = ScalarMappable(Normalize(low, high), cmap)
    axes = figure.add_axes((0.3, 0.07, 0.4, 0.02))
    figure.colorbar(scale, cax=axes, orientation="horizontal", label=label)
    return figure


def _on_the_cortex(
    values: Float[np.ndarray, " n"],
    views: Sequence[str],
    plot: Callable,
    cmap: Colormap,
    low: float,
    high: float,
) -> Figure:
    mesh = load_fsaverage("fsaverage5")["inflated"]
    sulci = load_fsaverage_data("fsaverage5", data_type="sulcal")
    split = mesh.parts["left"].n_vertices
    total = split + mesh.parts["right"].n_vertices
    if values.shape != (total,):
        raise ValueError(
            f"Maps are drawn on fsaverage5, which has {total} vertices, found an array of shape "
            f"{values.shape}: give one entry per vertex, left hemisphere then right."
        )
    figure, axes = plt.subplots(
        2,
        len(views),
        figsize=(2.9 * len(views), 6.2),
        subplot_kw={"projection": "3d"},
        squeeze=False,
    )
    for row, (hemi, part) in enumerate(
        {"left": slice(None, split), "right": slice(split, None)}.items()
    ):
        for column, view in enumerate(views):
            axis = axes[row, column]
            plot(
                mesh.parts[hemi],
                values[part],
                bg_map=sulci.data.parts[hemi],
                hemi=hemi,
                view=view,
                cmap=cmap,
                vmin=low,
                vmax=high,
                colorbar=False,
                bg_on_data=False,
                axes=axis,
                figure=figure,
            )
            axis.set_box_aspect(None, zoom=1.4)
            axis.set_title(f"{hemi}, {view}", fontsize=11, y=0.92)
    figure.subplots_adjust(0, 0.12, 1, 0.97, wspace=0, hspace=0)
    return figure


def save_figure(path: str | Path, figure: Figure, dpi: int = 110) -> None:
    """Writes a figure as PNG, atomically, and closes it.

    Args:
        path: file to write; its folder is made if missing.
        figure: what to write.
        dpi: resolution.
    """
    write_atomically(
        path, lambda partial: figure.savefig(partial, dpi=dpi, format="png", facecolor="white")
    )
    plt.close(figure)
