"""How many of the chosen regions lie in which ROIs, beside the paper's counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign
from neuroadapter_jax.ibbi.roi import assign_regions, overlap_table, write_assignment
from neuroadapter_jax.studies.interpretation import folder_rois, subject_rois
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.setup import choose_regions


def count_regions_in_rois(
    settings: Settings,
    subjects: Sequence[NSDSubject],
    thresholds: Sequence[float] = (0.5, 0.1, 0.75),
    *,
    extra_atlases: Sequence[str] = (),
    label_dir: str | Path | None = None,
    atlases: Sequence[str] = (),
    maps: Sequence[str] = (),
    out: str | Path | None = None,
) -> str:
    """The overlap table of each subject, of the regions that a training would choose.

    Args:
        settings: of the training, which say how regions are chosen.
        subjects: NSD's subjects; nothing but their noise ceilings and label files is read.
        thresholds: shares of a region's vertices, each 0 to below 1.
        extra_atlases: label files beside NSD's own five.
        label_dir: folder of label files on the regions' surface, instead of the subjects' own.
        atlases: names of label files in `label_dir`.
        maps: ROIs of maps in the folder of label files, see `MapROI.parse`.
        out: CSV file with each region's ROI at the first threshold; a file per subject, where
            there are several.

    Returns:
        The tables as text.

    Raises:
        MissingFileError, InputError: files are missing or of another surface, or a threshold is
            out of range.
    """
    if label_dir is None and atlases:
        raise InputError(
            f"--atlases is {','.join(atlases)}, but --label_dir names no folder of them; give it, "
            f"or --extra_atlases for files beside the subject's own."
        )
    if label_dir is not None and extra_atlases:
        raise InputError(
            f"--extra_atlases is {','.join(extra_atlases)}, which --label_dir does not use; give "
            f"--atlases."
        )
    left, right = settings.parcellation
    parcellation = read_parcellation(left, right, subjects[0].num_vertices, settings.parcels)
    ncsnr = [np.asarray(subject.ncsnr(), np.float32) for subject in subjects]
    text = ""
    chosen = choose_regions(parcellation, ncsnr, settings)
    for subject, regions in zip(subjects, chosen, strict=True):
        name = f"subj{subject.subject:02d}"
        if label_dir is None:
            masks = subject_rois(subject.root, subject.subject, extra_atlases, maps)
        else:
            masks = folder_rois(label_dir, atlases, maps)
        text += f"{name}: {len(regions)} regions of {parcellation.atlas}\n"
        text += overlap_table(regions, masks, thresholds) + "\n"
        if out is not None:
            path = Path(out)
            path = path.with_stem(f"{path.stem}-{name}") if len(subjects) > 1 else path
            _refuse_other_table(path)
            write_assignment(path, regions, assign_regions(regions, masks, thresholds[0]))
            text += f"Each region, over {thresholds[0]:g}: {path}\n"
    return text


def _refuse_other_table(path: Path) -> None:
    """Refuses to write over a file that is no table of regions and ROIs."""
    try:
        with path.open(encoding="utf-8") as file:
            ours = file.readline().startswith("region,hemisphere,")
    except (OSError, ValueError):
        ours = False
    refuse_foreign(path.parent, [path.name], ours=ours)
