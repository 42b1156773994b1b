"""Count which visual areas the chosen regions lie in.

    neuroadapter rois --config nsd --config.data.root=DIR
    neuroadapter rois --config nsd_subjects:5 --config.data.root=DIR --thresholds 0.5 --out rois.csv

The regions are those that `neuroadapter train` would choose with this config; nothing but the
parcellation, the noise-ceiling maps and the subject's label files is read. A region lies in a ROI
where more than the threshold of its vertices do, and belongs to the one of the highest share.
"""

from pathlib import Path

from absl import flags

from neuroadapter_jax.commands.config_values import (
    open_nsd_subject,
    per_subject,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    define_config(values)
    flags.DEFINE_list(
        "thresholds", ["0.5", "0.1", "0.75"], "Shares of a region's vertices.", flag_values=values
    )
    define_shared(
        values, "out", "extra_atlases",
        helps={"out": "CSV file to write: each region's ROI at the first threshold."},
    )  # fmt: skip


def main(values: CommandFlags, arguments: list[str]) -> None:
    import numpy as np

    from neuroadapter_jax.cortex.parcellation import read_parcellation
    from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
    from neuroadapter_jax.ibbi.roi import assign_regions, overlap_table, write_assignment
    from neuroadapter_jax.training.setup import choose_regions

    config = values.config
    thresholds = [float(t) for t in values.thresholds]
    settings = training_settings(config)
    if "dataset" in config.data:
        raise ValueError(
            f"data.dataset is {config.data.dataset!r}; this command reads the label files of NSD's "
            "subjects, so give a config such as nsd or nsd_subjects."
        )
    sources = [open_nsd_subject(one.data) for one in per_subject(config)]
    left, right = settings.parcellation
    parcellation = read_parcellation(left, right, sources[0].num_vertices, settings.parcels)
    ncsnr = [np.asarray(source.ncsnr(), np.float32) for source in sources]
    for source, regions in zip(sources, choose_regions(parcellation, ncsnr, settings), strict=True):
        subject = f"subj{source.subject:02d}"
        masks = group_rois(
            read_rois(
                Path(source.root) / "nsddata" / "freesurfer" / subject / "label",
                Path(source.root) / "nsddata" / "ppdata" / subject / "transforms",
                (*NSD_ATLASES, *values.extra_atlases),
            )
        )
        print(f"{subject}: {len(regions)} regions of {parcellation.atlas}")
        print(overlap_table(regions, masks, thresholds))
        if values.out is not None:
            out = Path(values.out)
            out = out.with_stem(f"{out.stem}-{subject}") if len(sources) > 1 else out
            write_assignment(out, regions, assign_regions(regions, masks, thresholds[0]))
            print(f"Each region, over {thresholds[0]:g}: {out}")
