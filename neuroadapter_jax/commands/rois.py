"""Count which ROIs the chosen regions lie in.

    neuroadapter rois --config nsd --config.data.root=DIR
    neuroadapter rois --config nsd_subjects:5 --config.data.root=DIR --thresholds 0.5 --out rois.csv
    neuroadapter rois --config nsd --config.data.root=DIR --label_dir DIR --atlases streams

The regions are those that `neuroadapter train` would choose with this config; nothing but the
parcellation, the noise-ceiling maps and the subject's label files is read. A region lies in a ROI
where more than the threshold of its vertices do, and belongs to the one of the highest share. With
--label_dir the ROIs come from label files on the surface of the regions, such as fsaverage's.
"""

from collections.abc import Sequence
from typing import Annotated

from absl import flags
from annotated_types import MinLen
from ml_collections.config_flags import get_config_filename

from neuroadapter_jax.commands.config_values import (
    open_nsd_subject,
    per_subject,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import SettingError, ShareBelowOne, check


def define(values: CommandFlags) -> None:
    define_config(values)
    flags.DEFINE_list(
        "thresholds", ["0.5", "0.1", "0.75"], "Shares of a region's vertices.", flag_values=values
    )
    define_shared(
        values, "out", "extra_atlases", "label_dir", "atlases", "maps",
        helps={"out": "CSV file to write: each region's ROI at the first threshold."},
    )  # fmt: skip
    values.written_files.add("out")


def read_thresholds(texts: list[str]) -> list[float]:
    """The shares in --thresholds."""
    try:
        shares = [float(text) for text in texts]
    except ValueError:
        raise SettingError("--thresholds", texts, "numbers such as 0.5,0.1") from None
    check("--thresholds", shares, Annotated[Sequence[ShareBelowOne], MinLen(1)])
    return shares


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.studies.roi_counts import count_regions_in_rois

    config, thresholds = values.config, read_thresholds(values.thresholds)
    if "train" not in config:
        raise InputError(
            f"the config {get_config_filename(values['config'])} has no section `train`, which "
            "says what is chosen; give the config of a training on label files and data."
        )
    if "dataset" in config.data:
        raise InputError(
            f"data.dataset is {config.data.dataset!r}; this command reads the label files of NSD's "
            "subjects, so give a config such as nsd or nsd_subjects."
        )
    text = count_regions_in_rois(
        training_settings(config),
        [open_nsd_subject(one.data) for one in per_subject(config)],
        thresholds,
        extra_atlases=values.extra_atlases,
        label_dir=values.label_dir,
        atlases=values.atlases,
        maps=values.maps,
        out=values.out,
    )
    print(text, end="")
