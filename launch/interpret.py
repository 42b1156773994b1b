"""Which region drove a reconstruction, and where in the image each area looked, step by step.

    python launch/interpret.py --model neuroadapter-simulated --prepared runs/simulated/prepared \
        --root runs/simulated/nsd --subject 1 --extra_atlases simulated-vtc --out runs/views

Areas come from a subject's label files in NSD's layout under --root (visual areas and the face,
body, place and word areas), or from --areas, a JSON file {"name": ["region", ...]}.
"""

import json
import sys
from pathlib import Path

import command_line
import numpy as np
import xarray
from absl import flags

from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import SAMPLERS
from neuroadapter_jax.figures.cortex_maps import FLAT, save_figure, steps_figure, value_figure
from neuroadapter_jax.figures.grids import save_picture
from neuroadapter_jax.figures.interpretation_report import FSAVERAGE5, write_interpretation_report
from neuroadapter_jax.figures.timelines import (
    on_vertices,
    share_figure,
    timeline,
    write_animation,
)
from neuroadapter_jax.ibbi.roi import ROIAssignment, assign_by_name, assign_regions
from neuroadapter_jax.ibbi.views import DEFAULT_REDUCTION, DEFINITIONS, REDUCTIONS
from neuroadapter_jax.pipeline.interpret import interpret_split, load_views
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

FLAGS = flags.FLAGS
NUM_REPORTED = 40  # about 10 MB of page at 64 x 64 pixels
NUM_TIMELINES = 5


def rois_of(pipeline: NeuroAdapterPipeline) -> tuple[ROIAssignment, dict[str, np.ndarray]]:
    """The areas that the flags name, over the model's regions and as masks over vertices."""
    if (FLAGS.rois is None) == (FLAGS.root is None):
        raise ValueError("give either --areas or --root.")
    if FLAGS.rois is not None:
        rois = assign_by_name(pipeline.regions, json.loads(Path(FLAGS.rois).read_text()))
        named = zip(rois.names, rois.members, strict=True)
        return rois, {n: on_vertices(own, pipeline.regions) == 1 for n, own in named}
    subject = f"subj{FLAGS.subject:02d}"
    masks = group_rois(
        read_rois(
            Path(FLAGS.root) / "nsddata" / "freesurfer" / subject / "label",
            Path(FLAGS.root) / "nsddata" / "ppdata" / subject / "transforms",
            (*NSD_ATLASES, *FLAGS.extra_atlases),
        )
    )
    return assign_regions(pipeline.regions, masks, FLAGS.threshold), masks


def write_figures(
    folder: Path,
    views: xarray.Dataset,
    pipeline: NeuroAdapterPipeline,
    masks: dict[str, np.ndarray],
) -> None:
    """Timelines of the first images, shares over steps, and the mean brain view on the cortex."""
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
        f"reduction {FLAGS.reduction}: {DEFINITIONS[FLAGS.reduction]}"
    )
    mean = share.mean("step").values
    scale = {"low": float(mean.min()), "high": float(mean.max()), "outlines": outlines}
    maps = ("lateral", "ventral", FLAT)
    values = on_vertices(mean, pipeline.regions)
    save_figure(
        folder / "cortex.png",
        value_figure(values, f"all steps: {label}", views=maps, **scale),
    )
    shown = views["shown"].values
    values = share.isel(step=shown).values
    scale |= {"low": float(values.min()), "high": float(values.max())}
    titles = [f"step {step + 1}" for step in shown]
    by_step = np.stack([on_vertices(own, pipeline.regions) for own in values])
    save_figure(folder / "cortex_steps.png", steps_figure(by_step, titles, label, **scale))


def main(_) -> None:
    command_line.use_cpu_cores(FLAGS.group_size)
    try:
        pipeline = NeuroAdapterPipeline.from_pretrained(FLAGS.model)
        rois, masks = rois_of(pipeline)
        for sentence in rois.without_regions():
            print(f"interpret: {sentence}", file=sys.stderr)
        interpret_split(
            pipeline,
            PreparedDataset(FLAGS.prepared, FLAGS.split),
            FLAGS.out,
            rois,
            num_images=FLAGS.num_images,
            num_shown=FLAGS.num_shown,
            group_size=FLAGS.group_size,
            effects=FLAGS.effects,
            reduction=FLAGS.reduction,
            layer_weighting=FLAGS.layer_weighting,
            num_steps=FLAGS.num_steps,
            sampler=FLAGS.sampler,
            guidance_scale=FLAGS.guidance_scale,
            seed=FLAGS.seed,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"interpret: {error}")
    print(f"Views: {FLAGS.out} (views-*.nc, regions.npz, areas.csv)")
    if pipeline.regions.num_vertices != FSAVERAGE5:
        print("No report: it draws models on fsaverage5 only.")
        return
    report, figures = Path(FLAGS.out) / "report.html", Path(FLAGS.out) / "figures"
    views = load_views(FLAGS.out)
    write_figures(figures, views, pipeline, masks)
    write_interpretation_report(
        report,
        views.isel(sample=slice(NUM_REPORTED)),
        pipeline.regions,
        title=f"{FLAGS.model}, {FLAGS.split} images of {FLAGS.prepared}.",
        licence=FLAGS.licence,
    )
    print(f"Report: {report}, and pictures in {figures}")


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "Folder of launch/export.py, or a shipped model's name.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records.")
    flags.DEFINE_string("out", None, "Folder for the views.")
    flags.DEFINE_string("split", "test", "Which images: a split of the prepared records.")
    flags.DEFINE_integer("num_images", 20, "The first so many of the split.", lower_bound=1)
    flags.DEFINE_string("root", None, "Folder in NSD's layout with the subject's label files.")
    flags.DEFINE_integer("subject", 1, "Number of the subject under --root.", lower_bound=1)
    flags.DEFINE_list("extra_atlases", [], "Label files beside NSD's own five.")
    flags.DEFINE_string("rois", None, "JSON file of areas as lists of the model's regions.")
    flags.DEFINE_float(
        "threshold",
        0.5,
        "Share of a region's vertices that an area has to exceed; the area of the highest share "
        "gets the region. 0: any overlap will do.",
    )
    flags.DEFINE_enum("reduction", DEFAULT_REDUCTION, REDUCTIONS, "How attention is reduced.")
    flags.DEFINE_enum("layer_weighting", "queries", ["queries", "equal"], "Of the brain view.")
    flags.DEFINE_bool("effects", True, "Also drop each area's tokens at the shown steps.")
    flags.DEFINE_integer("num_shown", 6, "Steps whose images are kept.", lower_bound=1)
    flags.DEFINE_integer("group_size", 20, "Images per file and call.", lower_bound=1)
    own = "the model's own when not given."
    flags.DEFINE_enum("sampler", None, SAMPLERS, f"Which sampler; {own}")
    flags.DEFINE_integer("num_steps", 50, "Denoising steps.", lower_bound=1)
    flags.DEFINE_float("guidance_scale", None, f"1 is none; {own}")
    flags.DEFINE_integer("seed", 0, "Of the noise.")
    flags.DEFINE_string("licence", "", "Of the pictures; a sentence under the report.")
    flags.mark_flags_as_required(["model", "prepared", "out"])
    command_line.run(main)
