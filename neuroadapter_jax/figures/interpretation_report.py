"""IBBI as one HTML file: pick an image, move through the steps, click an ROI, turn the cortex."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from neuroadapter_jax.cortex.parcellation import BOTH, Parcellation
from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.cortex_maps import FLAT, VIEWS, steps_figure, value_figure
from neuroadapter_jax.figures.pages import content_policy, json_for_script
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.figures.timelines import (
    on_vertices,
    share_figure,
    timeline,
    write_animation,
)
from neuroadapter_jax.files import write_text
from neuroadapter_jax.ibbi.views import DEFINITIONS

_TEMPLATE = ASSETS / "report" / "interpretation.html"
_NOTES = (
    "Share of the attention, reduction {reduction}: {definition}; mean over queries, conditional "
    "half of guidance only, layers weighted by {weighting}; it sums to 1 over regions. Maps: the "
    "same per query, mean over the ROI's regions, resized bilinearly to the latents, each layer "
    "over its sum, layers weighted equally; painted from 0 to the maximum, squared opacity. "
    "Attention is not influence: docs/does-attention-tell-the-truth.md. {surface} {smaller} "
    "{licence}"
)
# Pixels of a page's pictures and latent pixels of its maps, at most, so that twenty images of
# Stable Diffusion's size make less than 30 MB; smaller ones stay as they are.
_MOST_PIXELS, _MOST_LATENTS = 256, 32
_JPEG_QUALITY = 85


def write_interpretation_report(
    path: str | Path,
    views: xarray.Dataset,
    regions: Parcellation,
    *,
    surface: ShownSurface | None = None,
    title: str = "",
    licence: str = "",
) -> None:
    """Write a self-contained page that shows both views.

    Regions in voxels, and those on a surface of which there is no mesh, get a page without a
    cortex, which lists every region's share.

    Args:
        path: the HTML file.
        views: from `load_views`; about 1 MB of page per 4 samples of 64 x 64 pixels, per 2 of 256 x
            256 or more.
        regions: the model's, in the order of the views.
        surface: that the regions are on and the meshes that show it; one of FreeSurfer's average
            surfaces, by the number of vertices, when None.
        title: what was reconstructed, under the headline.
        licence: of the pictures.

    Raises:
        InputError: regions of another surface, or another number of them.
    """
    if surface is not None:
        surface.require_of(regions.num_vertices, "the regions")
    elif ShownSurface.known(regions.num_vertices):
        surface = ShownSurface.of(regions.num_vertices)
    if len(regions) != views.sizes["region"]:
        raise InputError(
            f"The views are of {views.sizes['region']} regions, but {len(regions)} were given; "
            "use the regions.npz beside them."
        )
    views = _with_rois(views)
    reduction, weighting = views.attrs["reduction"], views.attrs["layer_weighting"]
    # Version 0.1.0 wrote the sampling's settings beside the others.
    sampling = json.loads(views.attrs["sampling"]) if "sampling" in views.attrs else views.attrs
    maps = np.nan_to_num(views["image_view"].isel(step=views["shown"].values).values)
    maps = _smaller_maps(maps)
    highest = maps.max(axis=(-2, -1), keepdims=True)
    count = views.sizes["sample"]
    data = {
        "lead": f"{title} {count} images, {views.sizes['step']} steps of {sampling['sampler']}, "
        f"guidance {sampling['guidance_scale']:g}, seed {views.attrs.get('seed', 0)}.".strip(),
        "notes": _NOTES.format(
            weighting=weighting,
            reduction=reduction,
            definition=DEFINITIONS[reduction],
            surface=_why_no_cortex(regions) if surface is None else surface.sentence(),
            smaller=_smaller(views),
            licence=licence,
        ),
        "timesteps": views["timestep"].values.tolist(),
        "shown": views["shown"].values.tolist(),
        "regions": views["region"].values.tolist(),
        "rois": views["roi"].values.tolist(),
        "side": maps.shape[-1],
        "brain_view": _packed(views["brain_view"].values, np.float32),
        "image_view": _packed(np.round(255 * maps / np.where(highest > 0, highest, 1)), np.uint8),
        "members": _packed(views["roi_weight"].values > 0, np.uint8),
        "effect": _packed(views["effect"].values, np.float32) if "effect" in views else None,
        "samples": [_sample(views.isel(sample=i)) for i in range(count)],
        "mesh": [] if surface is None else _mesh(regions, surface),
    }
    page = _TEMPLATE.read_text(encoding="utf-8")
    script = page[page.rindex("<script>") + len("<script>") : page.rindex("</script>")]
    page = page.replace("__POLICY__", content_policy(script))
    write_text(path, page.replace("__DATA__", json_for_script(data)))


def write_interpretation_figures(
    folder: str | Path,
    views: xarray.Dataset,
    regions: Parcellation,
    masks: Mapping[str, Bool[np.ndarray, " n"]],
    num_timelines: int = 5,
    *,
    surface: ShownSurface | None = None,
) -> None:
    """Write timelines of the first images, shares over steps, and the brain view on the cortex.

    Args:
        folder: gets ID.png, ID.gif and shares.png, and where the cortex can be shown cortex.png and
            cortex_steps.png.
        views: from `load_views`.
        regions: the model's, in the order of the views.
        masks: ROI -> its vertices, for outlines.
        num_timelines: images with a timeline.
        surface: see `write_interpretation_report`.
    """
    if surface is not None:
        surface.require_of(regions.num_vertices, "the regions")
    elif ShownSurface.known(regions.num_vertices):
        surface = ShownSurface.of(regions.num_vertices)
    folder, views = Path(folder), _with_rois(views)
    rois = [name for name in views["roi"].values if (views["roi_weight"].sel(roi=name) > 0).any()]
    for i in range(min(num_timelines, views.sizes["sample"])):
        name = f"{int(views['sample'][i]):06d}"
        save_picture(folder / f"{name}.png", timeline(views, i, rois))
        write_animation(folder / f"{name}.gif", views, i, rois)
    save_picture(folder / "shares.png", share_figure(views, rois))
    if surface is None:
        return
    reduction, outlines = views.attrs["reduction"], {name: masks[name] for name in rois}
    share = views["brain_view"].mean("sample") * views.sizes["region"]
    label = (
        f"share of the attention / uniform share; mean of {views.sizes['sample']} images\n"
        f"reduction {reduction}: {DEFINITIONS[reduction]}"
    )
    mean, shown = share.mean("step").values, views["shown"].values
    figure = value_figure(
        on_vertices(mean, regions),
        f"all steps: {label}",
        low=float(mean.min()),
        high=float(mean.max()),
        views=("lateral", "ventral", FLAT) if surface.flat else VIEWS,
        outlines=outlines,
        surface=surface,
    )
    save_picture(folder / "cortex.png", figure)
    values = share.isel(step=shown).values
    figure = steps_figure(
        np.stack([on_vertices(own, regions) for own in values]),
        [f"step {step + 1}" for step in shown],
        label,
        low=float(values.min()),
        high=float(values.max()),
        view=FLAT if surface.flat else "posterior",
        outlines=outlines,
        surface=surface,
    )
    save_picture(folder / "cortex_steps.png", figure)


def _with_rois(views: xarray.Dataset) -> xarray.Dataset:
    """The views with today's names; files of version 0.1.0 have a dimension "area"."""
    old = {"area": "roi", "area_weight": "roi_weight", "seen": "stimulus", "drawn": "image"}
    return views.rename({a: b for a, b in old.items() if a in views.variables or a in views.dims})


def _packed(values: Shaped[np.ndarray, "..."], dtype: Any) -> str:
    little = np.ascontiguousarray(values).astype(np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


def _picture(image: UInt8[np.ndarray, "y x c"]) -> str:
    """An image as the address of a picture: PNG as it is, or if it is large, a smaller JPEG."""
    picture, buffer = Image.fromarray(image), io.BytesIO()
    if max(picture.size) <= _MOST_PIXELS:
        picture.save(buffer, format="PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.BOX)
    picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _smaller_maps(maps: Float[np.ndarray, "b k r y x"]) -> Float[np.ndarray, "b k r _ _"]:
    """Maps whose pixels are means of equal blocks, so that a side has at most `_MOST_LATENTS`."""
    side = maps.shape[-1]
    block = next(n for n in range(1, side + 1) if side % n == 0 and side // n <= _MOST_LATENTS)
    return maps.reshape(*maps.shape[:-2], side // block, block, side // block, block).mean((-3, -1))


def _smaller(views: xarray.Dataset) -> str:
    """What is said of pictures that the page has smaller than they are."""
    if (most := max(views.sizes["row"], views.sizes["column"])) <= _MOST_PIXELS:
        return ""
    return f"Pictures of {most} pixels are shown at {_MOST_PIXELS}, as JPEG."


def _why_no_cortex(regions: Parcellation) -> str:
    if BOTH in regions.hemispheres:
        return "The regions are sets of voxels, so there is no surface of the cortex to show."
    left, right = regions.num_vertices
    return (
        f"The regions are on a surface of {left} and {right} vertices, which is none of "
        "FreeSurfer's average surfaces; with its meshes (--meshes) the page shows the cortex."
    )


def _sample(views: xarray.Dataset) -> dict[str, Any]:
    return {
        "id": int(views["sample"]),
        "stimulus": _picture(views["stimulus"].values) if "stimulus" in views else None,
        "image": _picture(views["image"].values),
        "noisy": [_picture(x) for x in views["noisy"].values],
        "clean": [_picture(x) for x in views["predicted_clean"].values],
    }


def _mesh(regions: Parcellation, surface: ShownSurface) -> list[dict[str, str | None]]:
    """Both hemispheres, inflated and flat, each centred and of radius 1, with vertices' regions."""
    every = np.nan_to_num(on_vertices(np.arange(len(regions), dtype=float), regions), nan=-1)
    found = surface(every)
    split = len(surface.hemispheres[0].mesh)
    result: list[dict[str, str | None]] = []
    for shown, region in zip(surface.hemispheres, np.split(found, [split]), strict=True):
        # Sulci dark, gyri bright.
        depth = np.zeros(len(region)) if shown.depth is None else -np.clip(shown.depth, -1, 1)
        side: dict[str, str | None] = {
            "points": _packed(_centred(shown.mesh.points), np.float32),
            "faces": _packed(shown.mesh.faces, np.uint16),
            "flat": None,
            "flat_faces": None,
            "depth": _packed(np.round(255 * (depth + 1) / 2), np.uint8),
            "region": _packed(region, np.int16),
        }
        if shown.flat is not None:
            side["flat"] = _packed(_centred(shown.flat.points)[:, :2], np.float32)
            side["flat_faces"] = _packed(shown.flat.faces, np.uint16)
        result.append(side)
    return result


def _centred(points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    points = points - (points.max(0) + points.min(0)) / 2
    return points / np.linalg.norm(points, axis=1).max()
