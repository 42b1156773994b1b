r"""Show which region drove a reconstruction, and where.

    neuroadapter interpret --model neuroadapter-simulated --prepared runs/simulated/prepared \
        --root runs/simulated/nsd --extra_atlases simulated-vtc --out runs/views
    neuroadapter interpret --model DIR --prepared DIR --rois rois.json --out DIR

Views tell for every step where in the image each ROI looked; they are written as netCDF files, with
a report, figures, and maps (.mgh, .shape.gii) that FreeSurfer and Connectome Workbench show. ROIs
come from a subject's label files in NSD's layout under --root (visual areas and the face, body,
place and word areas), from label files on the regions' own surface under --label_dir, such as
atlases on fsaverage, or from --rois, a JSON file {"name": ["region", ...]}.

Average surfaces of FreeSurfer are shown on fsaverage5; a subject's own surface is shown on the
meshes that --meshes names. Without meshes, and for regions in voxels, the page has no cortex.
"""

import sys
from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.choices import DEFAULT_REDUCTION, REDUCTIONS
from neuroadapter_jax.commands.given import exactly_one, is_given, must_exist, needs, pair
from neuroadapter_jax.commands.machine import plan_memory, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import (
    CommandFlags,
    define_sampling,
    define_shared,
    sampling_from,
    within,
)
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import SettingError, ShareBelowOne


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "prepared", "out", "split", "num_images", "root", "subject",
        "extra_atlases", "label_dir", "atlases", "maps", "meshes", "images_at_once", "seed",
        "precision", "allow_other", "licence",
        required=("model", "prepared", "out"),
        defaults={"num_images": 20, "licence": ""},
        helps={
            "out": "Folder for the views, the report and its figures.",
            "num_images": "The first so many of the split.",
            "root": "Folder in NSD's layout with the subject's label files.",
            "licence": "Of the pictures; a sentence under the report.",
            "subject": "Number of the subject under --root; the model's own when not given.",
        },
    )  # fmt: skip
    define_sampling(values)
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
    within(values, "threshold", ShareBelowOne)
    exactly_one(values, "rois", "root", "label_dir")
    for name in ("subject", "extra_atlases"):
        needs(values, name, "root")
    for name in ("threshold", "maps"):
        needs(values, name, "root", "label_dir")
    needs(values, "atlases", "label_dir")
    pair(values, "meshes")
    must_exist(values, "rois", "label_dir", "meshes")


def read_subject(text: str | None) -> int | None:
    """The number in --subject; None where it is not given."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"--subject is {text!r}; expected a number from 1.")
    return int(text)


def main(values: CommandFlags, arguments: list[str]) -> None:
    subject = read_subject(values.subject)
    use_cpu_cores(values.group_size)

    from neuroadapter_jax.cortex.shown_surface import ShownSurface
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.pipeline import InterpretationSettings, NeuroAdapterPipeline
    from neuroadapter_jax.pipeline.saving import read_sampling
    from neuroadapter_jax.studies.interpretation import ROISource, interpret

    # What is cheap to read comes first, so that what is wrong is said before the model is loaded.
    out = Path(values.out)
    dataset = PreparedDataset(values.prepared, values.split)
    sampling = sampling_from(values, read_sampling(values.model)[0])
    if is_given(values, "num_shown") and values.num_shown > sampling.num_steps:
        raise SettingError(
            "--num_shown", values.num_shown, f"at most {sampling.num_steps}, the denoising steps"
        )
    source = ROISource(
        values.rois,
        values.root,
        subject,
        tuple(values.extra_atlases),
        values.threshold,
        values.label_dir,
        tuple(values.atlases),
        tuple(values.maps),
    )
    source.check_files()
    surface = None
    if values.meshes:
        surface = ShownSurface.from_files(values.meshes)
        surface.require_of(dataset.num_vertices, f"the responses of {values.prepared}")
    pipeline = NeuroAdapterPipeline.from_pretrained(values.model, allow_other=values.allow_other)
    pipeline = pipeline.with_precision(values.precision)
    dataset = PreparedDataset(values.prepared, values.split)
    rois, masks = source.load(pipeline, dataset, values.allow_other)
    for sentence in rois.without_regions():
        print(f"interpret: {sentence}", file=sys.stderr)
    plan_memory(values, pipeline, sampling, len(rois.names))
    interpret(
        pipeline,
        dataset,
        out,
        rois,
        masks,
        InterpretationSettings(
            sampling=sampling,
            reduction=values.reduction,
            layer_weighting=values.layer_weighting,
            num_images=values.num_images,
            num_shown=values.num_shown,
            group_size=values.group_size,
            effects=values.effects,
            seed=values.seed,
            allow_other=tuple(values.allow_other),
        ),
        surface=surface,
        title=f"{values.model}, {values.split} images of {values.prepared}.",
        licence=values.licence,
    )
    print(f"Views: {out} (views-*.nc, regions.npz, rois.csv)")
    if (out / "maps").exists():
        print(
            f"Maps of the regions' shares for FreeSurfer and Connectome Workbench: {out / 'maps'}"
        )
    print(f"Report: {out / 'report.html'}, and pictures in {out / 'figures'}")
