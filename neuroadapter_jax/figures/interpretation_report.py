"""IBBI as one HTML file: pick an image, move through the steps, click an area, turn the cortex."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Shaped, UInt8
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from PIL import Image

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.weights import ASSETS
from neuroadapter_jax.files import write_file
from neuroadapter_jax.ibbi.views import DEFINITIONS

FSAVERAGE5 = (10_242, 10_242)

_TEMPLATE = ASSETS / "report" / "interpretation.html"
_NOTES = (
    "Share of the attention, reduction {reduction}: {definition}; mean over queries, conditional "
    "half of guidance only, layers weighted by {weighting}; it sums to 1 over regions. Maps: the "
    "same per query, mean over the area's regions, resized bilinearly to the latents, each layer "
    "over its sum, layers weighted alike; painted from 0 to the maximum, squared opacity. "
    "Attention is not influence: docs/does-attention-tell-the-truth.md. {licence}"
)


def write_interpretation_report(
    path: str | Path,
    views: xarray.Dataset,
    regions: Parcellation,
    *,
    title: str = "",
    licence: str = "",
) -> None:
    """Write a self-contained page that shows both views, atomically.

    Args:
        path: the HTML file.
        views: from `load_views`; about 1 MB of page per 4 samples.
        regions: the model's, in the order of the views, on fsaverage5.
        title: what was drawn, under the headline.
        licence: of the pictures.

    Raises:
        ValueError: regions of another surface, or another number of them.
    """
    if regions.num_vertices != FSAVERAGE5:
        raise ValueError(
            f"The report draws on fsaverage5, 10242 vertices per hemisphere; the regions are of "
            f"{regions.num_vertices}. Give regions of that surface."
        )
    if len(regions) != views.sizes["region"]:
        raise ValueError(
            f"The views are of {views.sizes['region']} regions, but {len(regions)} were given; "
            "use the regions.npz beside them."
        )
    reduction, weighting = views.attrs["reduction"], views.attrs["layer_weighting"]
    maps = np.nan_to_num(views["image_view"].isel(step=views["shown"].values).values)
    highest = maps.max(axis=(-2, -1), keepdims=True)
    count = views.sizes["sample"]
    data = {
        "lead": f"{title} {count} images, {views.sizes['step']} steps of {views.attrs['sampler']}, "
        f"guidance {views.attrs['guidance_scale']:g}, seed {views.attrs.get('seed', 0)}.".strip(),
        "notes": _NOTES.format(
            weighting=weighting,
            reduction=reduction,
            definition=DEFINITIONS[reduction],
            licence=licence,
        ),
        "timesteps": views["timestep"].values.tolist(),
        "shown": views["shown"].values.tolist(),
        "regions": views["region"].values.tolist(),
        "rois": views["roi"].values.tolist(),
        "side": views.sizes["y"],
        "brain_view": _packed(views["brain_view"].values, np.float32),
        "image_view": _packed(np.round(255 * maps / np.where(highest > 0, highest, 1)), np.uint8),
        "members": _packed(views["roi_weight"].values > 0, np.uint8),
        "effect": _packed(views["effect"].values, np.float32) if "effect" in views else None,
        "samples": [_sample(views.isel(sample=i)) for i in range(count)],
        "mesh": _mesh(regions),
    }
    # A script element ends at the first "</".
    text = json.dumps(data).replace("</", "<\\/")
    page = _TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text)
    write_file(path, lambda partial: partial.write_text(page, encoding="utf-8"))


def _packed(values: Shaped[np.ndarray, "..."], dtype: Any) -> str:
    little = np.ascontiguousarray(values).astype(np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode()


def _picture(image: UInt8[np.ndarray, "y x c"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _sample(views: xarray.Dataset) -> dict[str, Any]:
    return {
        "id": int(views["sample"]),
        "stimulus": _picture(views["stimulus"].values) if "stimulus" in views else None,
        "image": _picture(views["image"].values),
        "noisy": [_picture(x) for x in views["noisy"].values],
        "clean": [_picture(x) for x in views["predicted_clean"].values],
    }


def _mesh(regions: Parcellation) -> list[dict[str, str]]:
    """Both inflated hemispheres, each centred and of radius 1, with each vertex's region."""
    mesh = load_fsaverage("fsaverage5")["inflated"]
    sulci = load_fsaverage_data("fsaverage5", data_type="sulcal")
    result = []
    for hemisphere, side in (("lh", "left"), ("rh", "right")):
        part = mesh.parts[side]
        points = part.coordinates - (part.coordinates.max(0) + part.coordinates.min(0)) / 2
        region = np.full(part.n_vertices, -1)
        for i, own in enumerate(regions.hemispheres):
            if own == hemisphere:
                region[regions.vertices[i]] = i
        # Sulci dark, gyri bright.
        depth = -np.clip(np.asarray(sulci.data.parts[side]).ravel(), -1, 1)
        result.append(
            {
                "points": _packed(points / np.linalg.norm(points, axis=1).max(), np.float32),
                "faces": _packed(part.faces, np.uint16),
                "depth": _packed(np.round(255 * (depth + 1) / 2), np.uint8),
                "region": _packed(region, np.int16),
            }
        )
    return result
