"""IBBI over a split: both views of every reconstruction, in files that describe themselves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Float
from tqdm import tqdm

from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.files import write_json
from neuroadapter_jax.ibbi.roi import ROIAssignment, write_assignment
from neuroadapter_jax.ibbi.views import DEFAULT_REDUCTION, concentration, relative_entropy
from neuroadapter_jax.pipeline.pipeline import Interpretation, NeuroAdapterPipeline

SETTINGS, REGIONS, ASSIGNMENT = "settings.json", "regions.npz", "rois.csv"
NORMALISATION = (
    "brain_view sums to 1 over regions; image_view and effect_view sum to 1 over y and x"
)


def interpret_split(
    pipeline: NeuroAdapterPipeline,
    dataset: PreparedDataset,
    out: str | Path,
    rois: ROIAssignment,
    *,
    num_images: int | None = None,
    num_shown: int = 6,
    group_size: int = 20,
    effects: bool = True,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Draw images of a split and write what the attention to the regions was meanwhile.

    Files: views-00000.nc, ... (netCDF, one per group of images, see `views_dataset`), regions.npz
    (the model's regions, in the order of `region`), areas.csv (which region belongs to which area)
    and settings.json. A call that was killed goes on at the first group that is missing.

    Args:
        pipeline: trained on the same subject and normalisation.
        dataset: the split.
        out: the folder.
        rois: see `assign_regions`.
        num_images: the first so many; all when None.
        num_shown: steps, evenly spaced, whose noisy and predicted clean images are kept.
        group_size: images per file and call.
        effects: also measure `NeuroAdapterPipeline.effects` of each area at the shown steps.
        progress: show a bar.
        options: of `NeuroAdapterPipeline.interpret`.

    Raises:
        ValueError: the folder holds views of other settings, or see `interpret`.
    """
    out = Path(out)
    num_images = min(num_images or len(dataset), len(dataset))
    num_steps = options.setdefault("num_steps", 50)
    shown = np.unique(np.linspace(0, num_steps - 1, num_shown + 1).round().astype(int)[1:])
    settings = {
        "model": pipeline.provenance,
        "prepared": str(dataset.path),
        "split": dataset.split,
        "num_images": num_images,
        "group_size": group_size,
        "rois": {
            name: np.flatnonzero(row).tolist()
            for name, row in zip(rois.names, rois.members, strict=True)
        },
        "shown": shown.tolist(),
        "effects": effects,
        "reduction": options.setdefault("reduction", DEFAULT_REDUCTION),
        "layer_weighting": options.setdefault("layer_weighting", "queries"),
        "sampler": options.get("sampler") or pipeline.sampler,
        "guidance_scale": options.get("guidance_scale") or pipeline.guidance_scale,
        **{key: options[key] for key in sorted(options) if options[key] is not None},
    }
    settings = json.loads(json.dumps(settings))
    known = out / SETTINGS
    if known.is_file() and (found := json.loads(known.read_text())) != settings:
        different = sorted(key for key in settings if found.get(key) != settings[key])
        raise ValueError(
            f"{out} holds views made with other {', '.join(different)}; name another folder or "
            "delete this one."
        )
    if dataset.num_vertices != pipeline.regions.num_vertices:
        raise ValueError(
            f"{dataset.path} has {dataset.num_vertices} vertices per hemisphere, the model's "
            f"regions {pipeline.regions.num_vertices}; use records of the model's surface."
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(known, settings)
    pipeline.regions.save(out / REGIONS)
    write_assignment(out / ASSIGNMENT, pipeline.regions, rois)
    bar = tqdm(total=num_images, unit="image", disable=not progress)
    for group, batch in enumerate(eval_batches(dataset, group_size)):
        first = group * group_size
        count = min(int(batch["num_valid"]), num_images - first)
        if count <= 0:
            break
        path = out / f"views-{group:05d}.nc"
        if not path.is_file():
            # The last group is filled up, so that one compilation serves all.
            betas = batch["betas"].astype(np.float32)
            numbers = np.arange(first, first + group_size)
            found = pipeline.interpret(
                betas, rois.weights, shown=shown.tolist(), sample_ids=numbers, **options
            )
            changes = None
            if effects:
                changes = np.stack(
                    [
                        pipeline.effects(betas, x, int(found.timesteps[step]), rois.members)
                        for x, step in zip(found.noisy, found.shown, strict=True)
                    ]
                )
            noisy = np.stack([pipeline.decode(x) for x in found.noisy])
            views = views_dataset(
                pipeline, rois, found, noisy, changes, dataset.image_ids[first : first + count]
            )
            views["stimulus"] = (
                ("sample", "row", "column", "channel"),
                batch["image"][:count],
                {"long_name": "what was seen", "units": "0 to 255"},
            )
            views.attrs |= {
                # netCDF has no booleans and no dictionaries.
                key: value if type(value) in (int, float, str) else json.dumps(value)
                for key, value in settings.items()
            }
            partial = path.with_suffix(".partial")
            views.to_netcdf(partial, engine="h5netcdf", encoding=_compressed(views))
            partial.replace(path)
        bar.update(count)
    bar.close()
    return out


def views_dataset(
    pipeline: NeuroAdapterPipeline,
    rois: ROIAssignment,
    found: Interpretation,
    noisy: np.ndarray,
    changes: Float[np.ndarray, "k b r y x"] | None,
    image_ids: np.ndarray,
) -> xarray.Dataset:
    """The first samples of an interpretation as a dataset with named axes.

    Dimensions: sample, step, shown (some of the steps), region, layer, area, y and x (latent
    pixels), row, column and channel (image pixels).
    """
    count = len(image_ids)
    brain = np.moveaxis(found.views.brain, 0, 1)[:count]
    regions = pipeline.regions
    per_image = ("sample", "row", "column", "channel")
    per_shown = ("sample", "shown", "row", "column", "channel")
    grey = {"units": "0 to 255"}

    def of_samples(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, 0, 1)[:count]

    variables = {
        "image": (per_image, found.images[:count], {"long_name": "reconstruction", **grey}),
        "noisy": (per_shown, of_samples(noisy), {"long_name": "noisy latents, decoded", **grey}),
        "predicted_clean": (
            per_shown,
            of_samples(found.predicted_clean),
            {"long_name": "clean image predicted at the step", **grey},
        ),
        "brain_view": (
            ("sample", "step", "region"),
            brain,
            {"long_name": "share of the attention", "units": "1, sums to 1 over regions"},
        ),
        "brain_view_by_layer": (
            ("sample", "step", "layer", "region"),
            of_samples(found.views.brain_by_layer),
            {"units": "1, sums to 1 over regions"},
        ),
        "image_view": (
            ("sample", "step", "roi", "y", "x"),
            of_samples(found.views.image),
            {"long_name": "where the area is attended", "units": "1, sums to 1 over y and x"},
        ),
        "entropy": (
            ("sample", "step"),
            np.asarray(relative_entropy(brain)),
            {"long_name": "entropy of the brain view over its maximum", "units": "1"},
        ),
        "concentration": (
            ("sample", "step"),
            np.asarray(concentration(brain)),
            {"long_name": "share of the most attended tenth of the regions", "units": "1"},
        ),
        "roi_weight": (("roi", "region"), rois.weights, {"units": "1, sums to 1 per area"}),
    }
    if changes is not None:
        changes = of_samples(changes)
        totals = changes.sum(axis=(-2, -1))
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = changes / totals[..., None, None]
        variables["effect_view"] = (
            ("sample", "shown", "roi", "y", "x"),
            shares.astype(np.float32),
            {
                "long_name": "where the noise prediction changes without the area's tokens",
                "units": "1, sums to 1 over y and x",
            },
        )
        variables["effect"] = (
            ("sample", "shown", "roi"),
            totals.astype(np.float32),
            {"long_name": "squared change of the noise prediction", "units": "latent units^2"},
        )
    names = [f"{h} {n}" for h, n in zip(regions.hemispheres, regions.names, strict=True)]
    coordinates = {
        "sample": np.asarray(image_ids),
        "step": np.arange(len(found.timesteps)),
        "timestep": ("step", found.timesteps),
        "shown": list(found.shown),
        "region": names,
        "roi": list(rois.names),
        "layer": [name for name, _ in pipeline.backbone.unet.cross_attentions()],
    }
    return xarray.Dataset(variables, coordinates, {"normalisation": NORMALISATION})


def load_views(folder: str | Path) -> xarray.Dataset:
    """All groups of a folder of `interpret_split`, read into memory.

    Raises:
        FileNotFoundError: there are none.
    """
    paths = sorted(Path(folder).glob("views-*.nc"))
    if not paths:
        raise FileNotFoundError(
            f"{folder}: holds no views-*.nc; expected a folder of launch/interpret.py."
        )
    groups = [xarray.load_dataset(path, engine="h5netcdf") for path in paths]
    return xarray.concat(groups, "sample", data_vars="minimal", combine_attrs="override")


def _compressed(views: xarray.Dataset) -> dict[str, dict[str, Any]]:
    return {
        name: {"zlib": True, "complevel": 4} for name, x in views.items() if x.dtype.kind in "fu"
    }
