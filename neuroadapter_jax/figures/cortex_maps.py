"""ROIs and values on the inflated and the flat cortex."""

import functools
import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float, Shaped
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.pictures import panels, roi_colours, tab20

VIEWS = ("lateral", "medial", "ventral")
FLAT = "flat"


def roi_figure(
    roi: Shaped[np.ndarray, " n"],
    *,
    views: Sequence[str] = VIEWS,
    order: Sequence[str] | None = None,
    title: str = "",
    surface: ShownSurface | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Named ROIs on the inflated cortex, a row of views per hemisphere.

    Args:
        roi: name of the ROI of each vertex, left hemisphere then right, "" for none.
        views: nilearn's names of the views, one column each.
        order: names in the order of the legend and colours; alphabetical if left out.
        title: text over the figure.
        surface: that the vertices are of and the meshes that show it; one of FreeSurfer's average
            surfaces, by the number of vertices, when None.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.

    Raises:
        InputError: if the surface has another number of vertices, or ``order`` misses an ROI.
    """
    surface = _surface_of(roi, surface)
    present = sorted(set(np.unique(roi).tolist()) - {""})
    names = list(order) if order is not None else present
    if missing := [name for name in present if name not in names]:
        raise InputError(f"The order of ROIs lacks {missing}, which the map holds; name every one.")
    palette = np.delete(tab20(), [14, 15], axis=0)  # no grey: those are sulci
    colours = palette[np.arange(len(names)) % len(palette)]
    index = np.full(len(roi), np.nan)
    for i, name in enumerate(names):
        index[roi == name] = i
    from nilearn.plotting import plot_surf_roi  # whose import sets Matplotlib's backend again

    figure = _on_the_cortex(
        [(view, view, index) for view in views],
        plot_surf_roi,
        ListedColormap(colours),
        -0.5,
        len(names) - 0.5,
        {},
        surface,
        figure,
    )
    figure.legend(
        handles=[Patch(color=c, label=n) for c, n in zip(colours, names, strict=True)],
        loc="lower center",
        ncols=min(6, max(1, len(names))),
        frameon=False,
    )
    figure.suptitle(title, y=0.965 if surface.sentence() else 0.98)
    return figure


def value_figure(
    values: Float[np.ndarray, " n"],
    label: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    views: Sequence[str] = VIEWS,
    outlines: Mapping[str, Bool[np.ndarray, " n"]] | None = None,
    surface: ShownSurface | None = None,
    figure: Figure | None = None,
    colours: str = "viridis",
) -> Figure:
    """One number per vertex on the inflated or flat cortex, with a colour bar.

    Args:
        values: of the vertices, left hemisphere then right; NaN is not painted.
        label: what the numbers are, with their unit, beside the colour bar.
        low: value of the darkest colour.
        high: value of the brightest.
        views: nilearn's names of the views of the inflated cortex, or "flat" on FreeSurfer's
            average surfaces; one column each.
        outlines: ROIs whose borders are shown, by name.
        surface: that the vertices are of and the meshes that show it; one of FreeSurfer's average
            surfaces, by the number of vertices, when None.
        figure: an empty one to draw into; a new one when None.
        colours: Matplotlib's name of the colour scale, such as "RdBu_r" for numbers of both signs.

    Returns:
        The figure; the caller closes it.

    Raises:
        InputError: if the surface has another number of vertices, or there is no flat one.
    """
    columns = [(view, view, values) for view in views]
    return _scaled(columns, label, low, high, outlines, surface, figure, colours)


def steps_figure(
    values: Float[np.ndarray, "t n"],
    titles: Sequence[str],
    label: str,
    *,
    low: float = 0.0,
    high: float = 1.0,
    view: str = FLAT,
    outlines: Mapping[str, Bool[np.ndarray, " n"]] | None = None,
    surface: ShownSurface | None = None,
    figure: Figure | None = None,
) -> Figure:
    """Maps of several steps side by side on one colour scale.

    Args:
        values: a map per step.
        titles: of the columns.
        label: of the colour bar.
        low: value of the darkest colour, in all maps.
        high: value of the brightest colour, in all maps.
        view: of all maps; see `value_figure`.
        outlines: ROIs whose borders are shown, by name.
        surface: that the vertices are of and the meshes that show it; one of FreeSurfer's average
            surfaces, by the number of vertices, when None.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    columns = [(title, view, own) for title, own in zip(titles, values, strict=True)]
    return _scaled(columns, label, low, high, outlines, surface, figure)


def _scaled(
    columns: Sequence[tuple[str, str, np.ndarray]],
    label: str,
    low: float,
    high: float,
    outlines: Mapping[str, np.ndarray] | None,
    surface: ShownSurface | None,
    figure: Figure | None,
    colours: str = "viridis",
) -> Figure:
    from nilearn.plotting import plot_surf_stat_map

    surface = _surface_of(columns[0][2], surface)
    cmap = plt.get_cmap(colours)
    plot = functools.partial(plot_surf_stat_map, symmetric_cbar=False)
    figure = _on_the_cortex(columns, plot, cmap, low, high, outlines or {}, surface, figure)
    scale = ScalarMappable(Normalize(low, high), cmap)
    axes = figure.add_axes((0.3, 0.14 if outlines else 0.07, 0.4, 0.02))
    figure.colorbar(scale, cax=axes, orientation="horizontal", label=label)
    return figure


def _surface_of(values: np.ndarray, surface: ShownSurface | None) -> ShownSurface:
    """The surface given, if it has so many vertices, else the average one that has."""
    if surface is None:
        return ShownSurface.of_cortex(len(values))
    if len(values) != sum(surface.sizes):
        raise InputError(
            f"A map has {len(values)} vertices, {surface.name} {sum(surface.sizes)}; expected one "
            "entry per vertex, left hemisphere then right."
        )
    return surface


def _on_the_cortex(
    columns: Sequence[tuple[str, str, np.ndarray]],
    plot: Callable,
    cmap: Colormap,
    low: float,
    high: float,
    outlines: Mapping[str, np.ndarray],
    surface: ShownSurface,
    figure: Figure | None,
) -> Figure:
    """A row per hemisphere, a column per (title, view, values)."""
    from nilearn.plotting import plot_surf_contours
    from nilearn.surface import InMemoryMesh

    total = len(columns[0][2])
    for found in [values for *_, values in columns] + list(outlines.values()):
        if found.shape != (total,):
            raise InputError(
                f"The first map has {total} vertices, found an array of shape {found.shape}: give "
                "one entry per vertex, left hemisphere then right."
            )
    if not surface.flat and any(view == FLAT for _, view, _ in columns):
        raise InputError(
            f"A flat view of {surface.name} was asked for, and there is no flat mesh of it; "
            "expected a view of the inflated cortex, such as lateral, medial, ventral or posterior."
        )
    columns = [(title, view, surface(values)) for title, view, values in columns]
    outlines = {name: surface(mask) for name, mask in outlines.items()}
    split = len(surface.hemispheres[0].mesh)
    colours = roi_colours(len(outlines))
    size = (2.9 * len(columns), 7.0 if outlines else 6.2)
    figure, axes = panels(figure, 2, len(columns), size, subplot_kw={"projection": "3d"})
    parts = (("left", slice(None, split)), ("right", slice(split, None)))
    for row, (shown, (hemi, part)) in enumerate(zip(surface.hemispheres, parts, strict=True)):
        for column, (title, view, values) in enumerate(columns):
            axis, flat = axes[row, column], view == FLAT
            own = shown.flat if flat and shown.flat is not None else shown.mesh
            mesh = InMemoryMesh(own.points, own.faces)
            options = {"hemi": hemi, "axes": axis, "figure": figure}
            plot(
                mesh,
                values[part],
                bg_map=shown.depth,
                view=(90, 270) if flat else view,
                cmap=cmap,
                vmin=low,
                vmax=high,
                colorbar=False,
                bg_on_data=False,
                **options,
            )
            # Neighbours share the faces of their border: the first ROI named keeps it.
            for colour, mask in list(zip(colours, outlines.values(), strict=True))[::-1]:
                # nilearn draws no border of vertices of which no two share a triangle.
                if (mask[part][own.faces].sum(axis=1) > 1).any():
                    plot_surf_contours(
                        mesh,
                        mask[part].astype(int),
                        levels=[1],
                        colors=[colour],
                        **options,
                    )
            axis.set_box_aspect(None, zoom=1.2 if flat else 1.4)
            axis.set_title(f"{hemi}, {title}", fontsize=11, y=0.92)
    # Of a surface that is not shown as it is: how, in lines of the figure's width, over the maps.
    lines = textwrap.wrap(surface.sentence(), width=int(16 * figure.get_figwidth()))
    figure.text(0.5, 0.99, "\n".join(lines), ha="center", va="top", fontsize=8, color="#666")
    bottom, top = 0.2 if outlines else 0.12, 0.97 - 0.02 * len(lines)
    figure.subplots_adjust(0, bottom, 1, top, wspace=0, hspace=0)
    if outlines:
        figure.legend(
            handles=[Patch(color=c, label=n) for c, n in zip(colours, outlines, strict=True)],
            loc="lower center",
            ncols=len(outlines),
            frameon=False,
            fontsize=9,
            handlelength=1.0,
            columnspacing=1.0,
        )
    return figure
