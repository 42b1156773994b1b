"""Areas on the inflated cortex."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Shaped
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.plotting import plot_surf_roi

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
    mesh = load_fsaverage("fsaverage5")["inflated"]
    sulci = load_fsaverage_data("fsaverage5", data_type="sulcal")
    split = mesh.parts["left"].n_vertices
    total = split + mesh.parts["right"].n_vertices
    if area.shape != (total,):
        raise ValueError(
            f"Areas are drawn on fsaverage5, which has {total} vertices, found an array of shape "
            f"{area.shape}: give one name per vertex, left hemisphere then right."
        )
    present = sorted(set(np.unique(area).tolist()) - {""})
    names = list(order) if order is not None else present
    if missing := [name for name in present if name not in names]:
        raise ValueError(f"The order of areas lacks {missing}, which the map holds.")
    palette = np.delete(plt.get_cmap("tab20").colors, [14, 15], axis=0)  # no grey: those are sulci
    colours = palette[np.arange(len(names)) % len(palette)]
    index = np.full(total, np.nan)
    for i, name in enumerate(names):
        index[area == name] = i
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
            plot_surf_roi(
                mesh.parts[hemi],
                index[part],
                bg_map=sulci.data.parts[hemi],
                hemi=hemi,
                view=view,
                cmap=ListedColormap(colours),
                vmin=-0.5,
                vmax=len(names) - 0.5,
                colorbar=False,
                bg_on_data=False,
                axes=axis,
                figure=figure,
            )
            axis.set_box_aspect(None, zoom=1.4)
            axis.set_title(f"{hemi}, {view}", fontsize=11, y=0.92)
    figure.subplots_adjust(0, 0.12, 1, 0.97, wspace=0, hspace=0)
    figure.legend(
        handles=[Patch(color=c, label=n) for c, n in zip(colours, names, strict=True)],
        loc="lower center",
        ncols=min(6, max(1, len(names))),
        frameon=False,
    )
    figure.suptitle(title)
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
