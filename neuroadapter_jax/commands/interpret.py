r"""Show which region drove a reconstruction, and where.

    neuroadapter interpret --model neuroadapter-simulated --prepared runs/simulated/prepared \
        --root runs/simulated/nsd --extra_atlases simulated-vtc --out runs/views
    neuroadapter interpret --model DIR --prepared DIR --rois rois.json --out DIR

Views tell for every step where in the image each ROI looked; they are written as netCDF files, with
a report and figures. ROIs come from a subject's label files in NSD's layout under --root (visual
areas and the face, body, place and word areas), or from --rois, a JSON file {"name": ["region",
...]}.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from neuroadapter_jax.commands.choices import DEFAULT_REDUCTION, REDUCTIONS
from neuroadapter_jax.commands.machine import use_cpu_cores
from neuroadapter_jax.commands.shared_flags import (
    CommandFlags,
    define_sampling,
    define_shared,
    sampling_from,
)

if TYPE_CHECKING:
    import numpy as np
    import xarray

    from neuroadapter_jax.ibbi.roi import ROIAssignment
    from neuroadapter_jax.ibbi.views import Reduction
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

NUM_REPORTED = 40  # about 10 MB of page at 64 x 64 pixels
NUM_TIMELINES = 5


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "out", "split", "num_images", "root", "subject",
        "extra_atlases", "seed", "progress",
        required=("model", "prepared", "out"),
        defaults={"num_images": 20, "subject": "1"},
        helps={
            "out": "Folder for the views, the report and its figures.",
            "num_images": "The first so many of the split.",
            "root": "Folder in NSD's layout with the subject's label files.",
            "subject": "Number of the subject under --root.",
        },
    )  # fmt: skip
    define_sampling(values, num_steps=50)
    flags.DEFINE_string(
        "rois", None, "JSON file of ROIs as lists of the model's regions.", flag_values=values
    )
    flags.DEFINE_float(
        "threshold",
        0.5,
        "Share of a region's vertices that a ROI has to exceed; the ROI of the highest share gets "
        "the region. With 0 any overlap is enough.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "reduction", DEFAULT_REDUCTION, REDUCTIONS, "How attention is reduced.", flag_values=values
    )
    flags.DEFINE_enum(
        "layer_weighting", "queries", ["queries", "equal"], "Weights of the layers in the views.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "effects", True, "Also drop each ROI's tokens at the shown steps.", flag_values=values
    )
    flags.DEFINE_integer(
        "num_shown", 6, "Steps whose images are stored.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "group_size", 20, "Images per file and call.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_string(
        "licence", "", "Of the pictures; a sentence under the report.", flag_values=values
    )


def read_subject(text: str) -> int:
    """The number in --subject."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--subject is {text!r}; expected a number from 1.")
    return int(text)


def rois_of(
    values: CommandFlags, pipeline: "NeuroAdapterPipeline"
) -> tuple["ROIAssignment", dict[str, "np.ndarray"]]:
    """The ROIs that the flags name, over the model's regions and as masks over vertices."""
    from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
    from neuroadapter_jax.figures.timelines import on_vertices
    from neuroadapter_jax.ibbi.roi import assign_by_name, assign_regions

    if (values.rois is None) == (values.root is None):
        raise ValueError("give either --rois or --root.")
    if values.rois is not None:
        rois = assign_by_name(pipeline.regions, json.loads(Path(values.rois).read_text()))
        named = zip(rois.names, rois.members, strict=True)
        return rois, {n: on_vertices(own, pipeline.regions) == 1 for n, own in named}
    subject = f"subj{read_subject(values.subject):02d}"
    masks = group_rois(
        read_rois(
            Path(values.root) / "nsddata" / "freesurfer" / subject / "label",
            Path(values.root) / "nsddata" / "ppdata" / subject / "transforms",
            (*NSD_ATLASES, *values.extra_atlases),
        )
    )
    return assign_regions(pipeline.regions, masks, values.threshold), masks


def write_figures(
    folder: Path,
    views: "xarray.Dataset",
    pipeline: "NeuroAdapterPipeline",
    masks: dict[str, "np.ndarray"],
    reduction: "Reduction",
) -> None:
    """Timelines of the first images, shares over steps, and the mean brain view on the cortex."""
    import numpy as np

    from neuroadapter_jax.figures.cortex_maps import FLAT, save_figure, steps_figure, value_figure
    from neuroadapter_jax.figures.grids import save_picture
    from neuroadapter_jax.figures.timelines import (
        on_vertices,
        share_figure,
        timeline,
        write_animation,
    )
    from neuroadapter_jax.ibbi.views import DEFINITIONS

    rois = [name for name in views["roi"].values if (views["roi_weight"].sel(roi=name) > 0).any()]
    outlines = {name: masks[name] for name in rois}
    for i in range(min(NUM_TIMELINES, views.sizes["sample"])):
        name = f"{int(views['sample'][i]):06d}"
        save_picture(folder / f"{name}.png", timeline(views, i, rois))
        write_animation(folder / f"{name}.gif", views, i, rois)
    save_figure(folder / "shares.png", share_figure(views, rois))
    share = views["brain_view"].mean("sample") * views.sizes["region"]
    label = (
        f"share of the attention / uniform share; mean of {views.sizes['sample']} images\n"
        f"reduction {reduction}: {DEFINITIONS[reduction]}"
    )
    mean = share.mean("step").values
    scale: dict[str, Any] = {
        "low": float(mean.min()),
        "high": float(mean.max()),
        "outlines": outlines,
    }
    maps = ("lateral", "ventral", FLAT)
    figure = value_figure(
        on_vertices(mean, pipeline.regions), f"all steps: {label}", views=maps, **scale
    )
    save_figure(folder / "cortex.png", figure)
    shown = views["shown"].values
    of_steps = share.isel(step=shown).values
    scale |= {"low": float(of_steps.min()), "high": float(of_steps.max())}
    titles = [f"step {step + 1}" for step in shown]
    by_step = np.stack([on_vertices(own, pipeline.regions) for own in of_steps])
    save_figure(folder / "cortex_steps.png", steps_figure(by_step, titles, label, **scale))


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.group_size)

    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.figures.interpretation_report import (
        FSAVERAGE5,
        write_interpretation_report,
    )
    from neuroadapter_jax.pipeline import (
        InterpretationSettings,
        NeuroAdapterPipeline,
        interpret_split,
        load_views,
    )

    pipeline = NeuroAdapterPipeline.from_pretrained(values.model)
    rois, masks = rois_of(values, pipeline)
    for sentence in rois.without_regions():
        print(f"interpret: {sentence}", file=sys.stderr)
    interpret_split(
        pipeline,
        PreparedDataset(values.prepared, values.split),
        values.out,
        rois,
        InterpretationSettings(
            sampling=sampling_from(values, pipeline.sampling),
            reduction=values.reduction,
            layer_weighting=values.layer_weighting,
            num_images=values.num_images,
            num_shown=values.num_shown,
            group_size=values.group_size,
            effects=values.effects,
            seed=values.seed,
        ),
        progress=values.progress,
    )
    print(f"Views: {values.out} (views-*.nc, regions.npz, rois.csv)")
    if pipeline.regions.num_vertices != FSAVERAGE5:
        print("No report: its maps of the cortex are of fsaverage5 only.")
        return
    report, figures = Path(values.out) / "report.html", Path(values.out) / "figures"
    views = load_views(values.out)
    write_figures(figures, views, pipeline, masks, values.reduction)
    write_interpretation_report(
        report,
        views.isel(sample=slice(NUM_REPORTED)),
        pipeline.regions,
        title=f"{values.model}, {values.split} images of {values.prepared}.",
        licence=values.licence,
    )
    print(f"Report: {report}, and pictures in {figures}")
