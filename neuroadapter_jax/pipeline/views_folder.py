"""IBBI over a split: both views of every reconstruction, in files that describe themselves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from jaxtyping import Float

from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.hdf5 import open_hdf5
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import (
    INPUTS,
    json_values,
    refuse_foreign,
    refuse_other_kind,
    require_same_settings,
    write_file,
    write_json,
)
from neuroadapter_jax.ibbi.roi import ROIAssignment, write_assignment
from neuroadapter_jax.ibbi.views import (
    DEFAULT_REDUCTION,
    LayerWeighting,
    Reduction,
    concentration,
    relative_entropy,
)
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline.checks import require_same_regions, require_same_surface
from neuroadapter_jax.pipeline.contract import (
    recorded_precision,
    recorded_sampling,
    with_unrecorded_precision,
)
from neuroadapter_jax.pipeline.interpret import Interpretation
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.view_coordinates import regions_snr, with_coordinates
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.ranges import Count, Seed, check_fields
from neuroadapter_jax.readers import read_json

SETTINGS, REGIONS, ASSIGNMENT = "settings.json", "regions.npz", "rois.csv"
NORMALISATION = (
    "brain_view sums to 1 over regions; image_view and effect_view sum to 1 over y and x"
)


@dataclasses.dataclass(frozen=True)
class InterpretationSettings:
    """How a split is interpreted.

    Attributes:
        sampling: the pipeline's own when None.
        reduction: what of the attention counts: "paper", "attention", "value_norm", "difference" or
            "gradient"; `NeuroAdapterPipeline.interpret` says what each is.
        layer_weighting: in the brain view a layer weighs by its number of "queries", or all layers
            are "equal".
        seed: of the noise, at least 0.
        num_images: how many of the split, from its first on; None for all.
        num_shown: steps, evenly spaced, whose noisy and predicted clean images are kept.
        group_size: images per file and call.
        effects: also measure `NeuroAdapterPipeline.effects` of each ROI at the shown steps.
        allow_other: what may differ between the data that the model was trained on and the
            records; see `datasets.belonging.made_for`.
    """

    sampling: Sampling | None = None
    reduction: Reduction = DEFAULT_REDUCTION
    layer_weighting: LayerWeighting = "queries"
    seed: Seed = 0
    num_images: Count | None = None
    num_shown: Count = 6
    group_size: Count = 20
    effects: bool = True
    allow_other: tuple[str, ...] = ()

    def __post_init__(self):
        check_fields(self)

    def shown(self, num_steps: int) -> list[int]:
        """The steps that are shown, without the first."""
        spaced = np.linspace(0, num_steps - 1, self.num_shown + 1).round().astype(int)
        return np.unique(spaced[1:]).tolist()


@runs_alone("out", "an interpretation")
def interpret_split(
    pipeline: NeuroAdapterPipeline,
    dataset: PreparedDataset,
    out: str | Path,
    rois: ROIAssignment,
    settings: InterpretationSettings = InterpretationSettings(),
    *,
    progress: bool = True,
) -> Path:
    """Reconstruct images of a split and write what the attention to the regions was meanwhile.

    Files: views-00000.nc, ... (netCDF, one per group of images, see `views_dataset`), regions.npz
    (the model's regions, in the order of `region`), rois.csv (which region belongs to which ROI)
    and settings.json. A call that was killed goes on at the first group that is missing.

    Args:
        pipeline: trained on the same subject and normalisation.
        dataset: the split.
        out: the folder.
        rois: which regions stand for which ROI, such as `assign_regions` says.
        settings: sampling, reduction and size.
        progress: show a bar.

    Raises:
        InputError: the folder holds views of other settings; the records are not of the model's
            data (see `made_for`), surface or regions; or see `NeuroAdapterPipeline.interpret`.
    """
    out = Path(out)
    sampling = settings.sampling or pipeline.sampling
    num_images = min(settings.num_images or len(dataset), len(dataset))
    shown = settings.shown(sampling.num_steps)
    model = Origin.of("the model", pipeline.provenance)
    other_data = made_for(model, dataset.origin, settings.allow_other)
    require_same_surface(dataset, pipeline.regions)
    require_same_regions(dataset, pipeline.regions)
    own = dataclasses.asdict(settings)
    del own["allow_other"]
    record = json_values(
        {
            "model": pipeline.provenance,
            "prepared": str(dataset.path),
            "split": dataset.split,
            "rois": {
                name: np.flatnonzero(row).tolist()
                for name, row in zip(rois.names, rois.members, strict=True)
            },
            "shown": shown,
            **own,
            "num_images": num_images,
            "sampling": recorded_sampling(pipeline, sampling).to_dict(),
            **recorded_precision(pipeline),
            **({"other_data": other_data} if other_data else {}),
            INPUTS: {"prepared": dataset.fingerprint, "weights": pipeline.fingerprint},
        }
    )
    refuse_other_kind(out, "views")
    names = (REGIONS, ASSIGNMENT, "views-00000.nc", "report.html", "figures", "maps")
    refuse_foreign(out, names, ours=(out / SETTINGS).is_file())
    begun = any(out.glob("views-*.nc"))
    # What a call noted that ended before its first views binds nobody.
    if (out / SETTINGS).is_file():
        found = read_json(out / SETTINGS, "the settings of `neuroadapter interpret`")
        found = with_unrecorded_precision(found, record)
        if "areas" in found:
            raise InputError(
                f"{out} was written by version 0.1.0, which load_views still reads; expected a "
                "folder of this version to go on with; name another folder or delete this one."
            )
        if begun or found.keys() - record.keys():
            require_same_settings(out, found, record, "views")
    require_same_surface(dataset, pipeline.regions)
    with Bar(total=num_images, unit="image", disable=not progress) as bar:
        for group, batch in enumerate(eval_batches(dataset, settings.group_size)):
            first = group * settings.group_size
            count = min(int(batch["num_valid"]), num_images - first)
            if count <= 0:
                break
            path = out / f"views-{group:05d}.nc"
            if not path.is_file():
                views = _group_views(pipeline, batch, first, rois, settings, shown, sampling)
                views = views.isel(sample=slice(count))
                ids = dataset.image_ids[first : first + count]
                views = with_coordinates(
                    views.assign_coords(sample=ids), regions_snr(dataset, pipeline.regions)
                )
                views.attrs |= {
                    # netCDF has no booleans and no dictionaries.
                    key: value if type(value) in (int, float, str) else json.dumps(value)
                    for key, value in record.items()
                }
                if not begun:
                    write_json(out / SETTINGS, record)
                    pipeline.regions.save(out / REGIONS)
                    write_assignment(out / ASSIGNMENT, pipeline.regions, rois)
                    begun = True
                _write_netcdf(path, views)
            bar.update(count)
    return out


def _group_views(
    pipeline: NeuroAdapterPipeline,
    batch: dict[str, Any],
    first: int,
    rois: ROIAssignment,
    settings: InterpretationSettings,
    shown: list[int],
    sampling: Sampling,
) -> xarray.Dataset:
    """The views of one batch, padding included, so that one compilation serves all."""
    fmri = batch["betas"].astype(np.float32)
    found = pipeline.interpret(
        fmri,
        rois.weights,
        sampling,
        reduction=settings.reduction,
        layer_weighting=settings.layer_weighting,
        shown=shown,
        seed=settings.seed,
        sample_ids=np.arange(first, first + settings.group_size),
    )
    changes = None
    if settings.effects:
        changes = np.stack(
            [
                pipeline.effects(fmri, x, int(found.timesteps[step]), rois.members)
                for x, step in zip(found.noisy, found.shown, strict=True)
            ]
        )
    noisy = np.stack([pipeline.decode(x) for x in found.noisy])
    views = views_dataset(pipeline, rois, found, noisy, changes, np.arange(len(fmri)))
    views["stimulus"] = (
        ("sample", "row", "column", "channel"),
        batch["image"],
        {"long_name": "stimulus", "units": "0 to 255"},
    )
    return views


def _write_netcdf(path: Path, views: xarray.Dataset) -> None:
    # By way of memory: HDF5 brings the process down where a disk gets full while it writes.
    content: Any = views.to_netcdf(engine="h5netcdf", encoding=_compressed(views))
    write_file(path, lambda partial: partial.write_bytes(content))


def views_dataset(
    pipeline: NeuroAdapterPipeline,
    rois: ROIAssignment,
    found: Interpretation,
    noisy: np.ndarray,
    changes: Float[np.ndarray, "k b r y x"] | None,
    image_ids: np.ndarray,
) -> xarray.Dataset:
    """The first samples of an interpretation as a dataset with named axes.

    Dimensions: sample, step, shown (some of the steps), region, layer, roi, y and x (latent
    pixels), row, column and channel (image pixels).
    """
    count = len(image_ids)
    regions = pipeline.regions
    per_image = ("sample", "row", "column", "channel")
    per_shown = ("sample", "shown", "row", "column", "channel")
    grey = {"units": "0 to 255"}

    def of_samples(x: Any) -> np.ndarray:
        return np.moveaxis(np.asarray(x), 0, 1)[:count]

    brain = of_samples(found.views.brain)
    variables: dict[str, Any] = {
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
            {"long_name": "where the ROI is attended", "units": "1, sums to 1 over y and x"},
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
        "roi_weight": (("roi", "region"), rois.weights, {"units": "1, sums to 1 per ROI"}),
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
                "long_name": "where the noise prediction changes without the ROI's tokens",
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
    """All groups of a folder of `interpret_split`, read into memory, as one dataset.

    Dimensions are those of `views_dataset`; "image_id" names the samples, "timestep" the steps,
    "hemisphere" and, where the records have it, "noise_ceiling_snr" the regions.
    `xarray.open_mfdataset(f"{folder}/views-*.nc")` opens the same without reading it.

    Args:
        folder: of `neuroadapter interpret`.

    Args:
        folder: of `interpret_split`.

    Raises:
        MissingFileError: there are none.
    """
    paths = sorted(Path(folder).glob("views-*.nc"))
    if not paths:
        raise MissingFileError(
            f"{folder}: holds no views-*.nc; expected a folder of `neuroadapter interpret`."
        )
    expected = "views of `neuroadapter interpret` (netCDF)"
    groups = []
    for path in paths:
        with open_hdf5(path, expected):  # h5netcdf's own complaint about no HDF5 file has no name
            groups.append(_current_words(xarray.load_dataset(path, engine="h5netcdf")))
            json.loads(groups[-1].attrs["sampling"])
    # A folder that an earlier version began has it in none, or in some, of its files.
    groups = [views if "image_id" in views.coords else with_coordinates(views) for views in groups]
    if not all("noise_ceiling_snr" in views.coords for views in groups):
        groups = [views.drop_vars("noise_ceiling_snr", errors="ignore") for views in groups]
    with reading(paths[-1], f"{expected} that go with those beside them"):
        return xarray.concat(groups, "sample", data_vars="minimal", combine_attrs="override")


def _compressed(views: xarray.Dataset) -> dict[str, dict[str, Any]]:
    return {
        str(name): {"zlib": True, "complevel": 4}
        for name, x in views.items()
        if x.dtype.kind in "fu"
    }


def _current_words(views: xarray.Dataset) -> xarray.Dataset:
    """Views whose names are today's.

    Version 0.1.0 said "area" for a ROI and had the settings of the sampling beside the others;
    those that it did not store are not made up.
    """
    former = {"area": "roi", "area_weight": "roi_weight"}
    views = views.rename({old: new for old, new in former.items() if old in views.variables})
    attributes = dict(views.attrs)
    if "areas" in attributes:
        attributes["rois"] = attributes.pop("areas")
    if "sampling" not in attributes:
        flat = [field.name for field in dataclasses.fields(Sampling) if field.name in attributes]
        # netCDF gives numbers back as NumPy's.
        sampling = {name: np.asarray(attributes.pop(name)).item() for name in flat}
        attributes["sampling"] = json.dumps(sampling)
    views.attrs = attributes
    return views
