"""From noise to picture with the views of ROIs, and the ROIs' shares over steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.pictures import panels, roi_colours
from neuroadapter_jax.files import write_file
from neuroadapter_jax.ibbi.views import DEFINITIONS
from neuroadapter_jax.metrics.statistics import bootstrap_interval

_HEAT = np.array([251.0, 113.0, 24.0])
_STRONGEST = 0.9


def overlay(
    image: UInt8[np.ndarray, "y x c"], view: Float[np.ndarray, "v u"]
) -> UInt8[np.ndarray, "y x c"]:
    """An image with an ROI's view over it, orange where its tokens are attended.

    Opacity is 0.9 (view / its maximum)^2, resized bilinearly; a view of NaN leaves the image.

    Args:
        image: 0 to 255.
        view: where the ROI is attended, at least 0; of any size.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.figures.timelines import overlay
        >>> image = np.zeros((64, 64, 3), np.uint8)
        >>> view = np.zeros((16, 16), np.float32)
        >>> view[0, 0] = 1.0  # the ROI is attended in the upper left corner alone
        >>> shown = overlay(image, view)
        >>> bool(shown[0, 0].max() > 200), int(shown[-1, -1].max())
        (True, 0)
    """
    if not np.isfinite(view).all():
        return image
    height, width = image.shape[:2]
    small = Image.fromarray((view / view.max()).astype(np.float32))
    share = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    opacity = _STRONGEST * np.clip(share, 0, 1)[..., None] ** 2
    return np.round((1 - opacity) * image + opacity * _HEAT).astype(np.uint8)


def _rows(
    views: xarray.Dataset, sample: int, rois: Sequence[str]
) -> dict[str, UInt8[np.ndarray, "k y x c"]]:
    one = views.isel(sample=sample)
    clean, shown = one["predicted_clean"].values, one["shown"].values
    rows = {"Noisy": one["noisy"].values, "Predicted clean": clean}
    if "stimulus" in one:
        rows = {"Stimulus": one["stimulus"].values[None]} | rows
    for roi in rois:
        maps = one["image_view"].sel(roi=roi).isel(step=shown).values
        rows[f"Attention to {roi}"] = np.stack(
            [overlay(image, view) for image, view in zip(clean, maps, strict=True)]
        )
    return rows


def timeline(
    views: xarray.Dataset,
    sample: int,
    rois: Sequence[str],
    scale: int = 2,
    *,
    axes: Axes | None = None,
) -> Image.Image:
    """A grid with a column per shown step: noisy, predicted clean, each ROI's view.

    The stimulus stands once, over the first column.

    Args:
        views: from `load_views`.
        sample: which image, from 0.
        rois: names of ROIs.
        scale: whole-number enlargement of each pixel.
        axes: of a Matplotlib figure, to draw the picture into as well.

    Returns:
        The picture.
    """
    steps = views.sizes["step"]
    labels = [f"step {k + 1} of {steps}" for k in views["shown"].values]
    rows = _rows(views, sample, rois)
    return image_grid(rows, labels, columns=len(labels), scale=scale, axes=axes)


def write_animation(
    path: str | Path, views: xarray.Dataset, sample: int, rois: Sequence[str], scale: int = 3
) -> None:
    """The grid of `timeline` as a GIF of one frame per shown step, whole or not at all.

    Args:
        path: the file.
        views: from `load_views`.
        sample: which image, from 0.
        rois: names of ROIs.
        scale: whole-number enlargement of each pixel.
    """
    rows = _rows(views, sample, rois)
    frames = [
        image_grid(
            {
                f"step {k + 1}": np.stack(
                    [images[min(i, len(images) - 1)] for images in rows.values()]
                )
            },
            list(rows),
            columns=len(rows),
            scale=scale,
            font_size=12,
        )
        for i, k in enumerate(views["shown"].values)
    ]

    def save(partial: Path) -> None:
        frames[0].save(
            partial, "GIF", save_all=True, append_images=frames[1:], duration=500, loop=0
        )

    write_file(path, save)


def share_figure(
    views: xarray.Dataset, rois: Sequence[str], *, figure: Figure | None = None
) -> Figure:
    """Each ROI's share of the attention over steps, mean over images with 95 % intervals.

    The share is divided by the ROI's number of regions over all regions, so that 1 is uniform.

    Args:
        views: from `load_views`.
        rois: names; those without regions are left out.
        figure: an empty one to draw into; a new one when None.

    Returns:
        The figure; the caller closes it.
    """
    figure, ((axis,),) = panels(figure, 1, 1, (7.0, 4.2))
    reduction = views.attrs["reduction"]
    brain, steps = views["brain_view"].values, np.arange(views.sizes["step"]) + 1
    for roi, colour in zip(rois, roi_colours(len(rois)), strict=True):
        members = views["roi_weight"].sel(roi=roi).values > 0
        if not members.any():
            continue
        share = brain[..., members].sum(axis=-1) / members.mean()
        found = [bootstrap_interval(column.astype(float)) for column in share.T]
        low, high = np.array([x["interval"] for x in found]).T
        values = np.array([x["value"] for x in found], float)
        (line,) = axis.plot(steps, values, label=roi, color=colour)
        axis.fill_between(steps, low, high, color=line.get_color(), alpha=0.1, lw=0)
    axis.axhline(1, color="#999", lw=1, ls="--")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("denoising step, from noise to image")
    axis.set_ylabel("share of the attention / uniform share")
    axis.set_title(
        f"{views.sizes['sample']} images, 95 % intervals; layers weighted by "
        f"{views.attrs['layer_weighting']}\n{reduction}: {DEFINITIONS[reduction]}",
        fontsize=8,
        loc="left",
    )
    axis.legend(frameon=False, ncols=2, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def on_vertices(shares: Float[np.ndarray, " p"], regions: Parcellation) -> Float[np.ndarray, " n"]:
    """A number per region on the vertices of the whole cortex; NaN in no region.

    Args:
        shares: one per region.
        regions: the model's, in the order of the shares.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.figures.timelines import on_vertices
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))
        >>> on_vertices(np.array([0.75, 0.25]), regions).tolist()
        [0.75, nan, 0.75, nan, 0.25, nan]
    """
    return regions.on_vertices(shares)
