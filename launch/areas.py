"""How many of the chosen regions lie in which visual areas, to hold against the paper's counts.

    python launch/areas.py --config configs/nsd.py --config.data.root=<NSD's folder>
    python launch/areas.py --config configs/nsd_subjects.py:5 --thresholds 0.5 --out areas.csv

The regions are those that launch/train.py would choose with this config; nothing but the
parcellation, the noise-ceiling maps and the subject's label files is read. A region lies in an
area where more than the threshold of its vertices do, and belongs to the one of the highest share.
"""

import sys
from pathlib import Path

import command_line
import numpy as np
from absl import flags
from train import settings_of

from neuroadapter_jax.cortex.parcellation import read_parcellation
from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.ibbi.roi import assign_regions, overlap_table, write_assignment
from neuroadapter_jax.training.setup import choose_regions

FLAGS = flags.FLAGS


def main(_) -> None:
    config = _CONFIG.value
    try:
        thresholds = [float(t) for t in FLAGS.thresholds]
        settings, subjects = settings_of(config), command_line.per_subject(config)
        sources = [
            NSDSubject(d.root, d.subject, d.space, d.beta_version, d.get("sessions"))
            for d in (one.data for one in subjects)
        ]
        parcellation = read_parcellation(
            *settings.parcellation, sources[0].num_vertices, settings.parcels
        )
        ncsnr = [np.asarray(source.ncsnr(), np.float32) for source in sources]
        for source, regions in zip(
            sources, choose_regions(parcellation, ncsnr, settings), strict=True
        ):
            subject = f"subj{source.subject:02d}"
            masks = group_rois(
                read_rois(
                    Path(source.root) / "nsddata" / "freesurfer" / subject / "label",
                    Path(source.root) / "nsddata" / "ppdata" / subject / "transforms",
                    (*NSD_ATLASES, *FLAGS.extra_atlases),
                )
            )
            print(f"{subject}: {len(regions)} regions of {parcellation.atlas}")
            print(overlap_table(regions, masks, thresholds))
            if FLAGS.out is not None:
                out = Path(FLAGS.out)
                out = out.with_stem(f"{out.stem}-{subject}") if len(sources) > 1 else out
                write_assignment(out, regions, assign_regions(regions, masks, thresholds[0]))
                print(f"Each region, over {thresholds[0]:g}: {out}")
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"areas: {error}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    flags.DEFINE_list("thresholds", ["0.5", "0.1", "0.75"], "Shares of a region's vertices.")
    flags.DEFINE_list("extra_atlases", [], "Label files beside NSD's own five.")
    flags.DEFINE_string("out", None, "CSV file: each region's area at the first threshold.")
    command_line.run(main)
