"""IBBI over a split: which ROIs, which views, and their report and pictures."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray
from jaxtyping import Bool

from neuroadapter_jax.cortex.map_rois import MapROI
from neuroadapter_jax.cortex.parcellation import BOTH
from neuroadapter_jax.cortex.roi import NSD_ATLASES, group_rois, read_rois
from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.cortex.surface_files import write_surface_maps
from neuroadapter_jax.datasets.belonging import Origin, made_for, require_same_root
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.interpretation_report import (
    write_interpretation_figures,
    write_interpretation_report,
)
from neuroadapter_jax.figures.timelines import on_vertices
from neuroadapter_jax.ibbi.roi import ROIAssignment, assign_by_name, assign_regions
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import (
    InterpretationSettings,
    NeuroAdapterPipeline,
    interpret_split,
    load_views,
)
from neuroadapter_jax.readers import read_json

NUM_REPORTED = 40  # about 10 MB of page at 64 x 64 pixels
Masks = dict[str, Bool[np.ndarray, " n"]]

_ROIS = "ROIs, each a list of names of regions (JSON)"


def subject_rois(
    root: str | Path, subject: int, extra_atlases: Sequence[str] = (), maps: Sequence[str] = ()
) -> Masks:
    """ROIs of a subject's label files in NSD's layout, as masks over the cortex's vertices.

    Args:
        root: folder in NSD's layout.
        subject: its number, 1 to 8.
        extra_atlases: label files beside NSD's own five.
        maps: ROIs of maps in the same folder, see `MapROI.parse`.
    """
    name = f"subj{subject:02d}"
    return group_rois(
        read_rois(
            Path(root) / "nsddata" / "freesurfer" / name / "label",
            Path(root) / "nsddata" / "ppdata" / name / "transforms",
            (*NSD_ATLASES, *extra_atlases),
            [MapROI.parse(text) for text in maps],
        )
    )


def folder_rois(
    label_dir: str | Path, atlases: Sequence[str] = (), maps: Sequence[str] = ()
) -> Masks:
    """ROIs of label files on the surface of the regions, as masks over the cortex's vertices.

    Args:
        label_dir: the folder.
        atlases: names of label files, without hemisphere and suffix.
        maps: ROIs of maps in the same folder, see `MapROI.parse`.

    Raises:
        InputError: neither atlases nor maps.
    """
    if not atlases and not maps:
        raise InputError(
            f"--label_dir is {label_dir}, but neither --atlases nor --maps names files in it; name "
            f"some, such as --atlases wang15_mplbl.v1_0."
        )
    maps_of = [MapROI.parse(text) for text in maps]
    return group_rois(read_rois(label_dir, atlases=atlases, maps=maps_of))


@dataclass(frozen=True)
class ROISource:
    """Where ROIs come from: a JSON file, a subject's label files, or a folder of label files.

    Attributes:
        file: JSON file {"name": ["region", ...]} of the model's regions.
        root: folder in NSD's layout with the subject's label files.
        subject: number of the subject under `root`; the model's own when None.
        extra_atlases: label files beside NSD's own five.
        threshold: share of a region's vertices that an ROI has to exceed.
        label_dir: folder of label files on the surface of the model's regions.
        atlases: names of label files in `label_dir`.
        maps: ROIs of maps in the folder of label files, see `MapROI.parse`.
    """

    file: str | Path | None = None
    root: str | Path | None = None
    subject: int | None = None
    extra_atlases: tuple[str, ...] = ()
    threshold: float = 0.5
    label_dir: str | Path | None = None
    atlases: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()

    def __post_init__(self):
        places = {"--rois": self.file, "--root": self.root, "--label_dir": self.label_dir}
        given = [flag for flag, value in places.items() if value is not None]
        if len(given) != 1:
            raise InputError(
                f"ROIs come from one place, but {' and '.join(given) or 'none'} is given; give "
                f"either --rois, --root or --label_dir."
            )
        belongs = {
            "--extra_atlases": (self.extra_atlases, ("--root",)),
            "--atlases": (self.atlases, ("--label_dir",)),
            "--maps": (self.maps, ("--root", "--label_dir")),
        }
        for flag, (value, owners) in belongs.items():
            if value and given[0] not in owners:
                raise InputError(
                    f"{flag} is {','.join(value)}, which {given[0]} does not use; give it with "
                    f"{' or '.join(owners)}."
                )

    def check_files(self) -> None:
        """Refuse what can be refused before a model is loaded.

        Raises:
            InputError: the JSON file is damaged, of another form, or names no ROI.
        """
        if self.file is not None:
            self._named_regions()

    def _named_regions(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = read_json(str(self.file), _ROIS, dict[str, list[str]])
        if not found:
            raise InputError(f"{self.file} names no ROI; expected {_ROIS}, at least one.")
        return found

    def load(
        self,
        pipeline: NeuroAdapterPipeline,
        records: PreparedDataset | None = None,
        allow_other: Collection[str] = (),
    ) -> tuple[ROIAssignment, Masks]:
        """The ROIs over the model's regions, and as masks over vertices.

        Args:
            pipeline: the model.
            records: what is to be interpreted; `root` has to be their subject's.
            allow_other: with "subject" the label files may be another subject's than the model's.

        Raises:
            InputError: both sources are given or none, or the label files are another subject's;
                see also `assign_regions` and `assign_by_name`.
        """
        if self.file is not None:
            rois = assign_by_name(pipeline.regions, self._named_regions())
            named = zip(rois.names, rois.members, strict=True)
            return rois, {
                name: on_vertices(own.astype(float), pipeline.regions) == 1 for name, own in named
            }
        if self.root is not None:
            model = Origin.of("the model", pipeline.provenance)
            own = model.data.get("subject", 1)
            subject = own if self.subject is None else self.subject
            made_for(model, Origin("the label files", {"subject": subject}), allow_other)
            if records is not None and "subject" not in allow_other:
                require_same_root(self.root, records)
            if not isinstance(subject, int):
                raise InputError(
                    f"the model's subject is {subject!r}; expected a number, as NSD's folders have "
                    "them, so name the subject of the label files (--subject)."
                )
            masks = subject_rois(self.root, subject, self.extra_atlases, self.maps)
        else:
            masks = folder_rois(str(self.label_dir), self.atlases, self.maps)
        return assign_regions(pipeline.regions, masks, self.threshold), masks


@runs_alone("out", "an interpretation")
def interpret(
    pipeline: NeuroAdapterPipeline,
    dataset: PreparedDataset,
    out: str | Path,
    rois: ROIAssignment,
    masks: Masks,
    settings: InterpretationSettings,
    *,
    surface: ShownSurface | None = None,
    title: str = "",
    licence: str = "",
) -> xarray.Dataset:
    """Writes the views of a split, their maps, report.html and figures/.

    maps/ holds each region's share of the attention, mean over images and steps, as FreeSurfer and
    GIFTI files of the model's own surface, see `write_surface_maps`; 0 is in no region.

    Args:
        pipeline: the model.
        dataset: the split.
        out: the folder; see `interpret_split` for its files.
        rois: over the model's regions.
        masks: the same ROIs over vertices, for outlines on the cortex.
        settings: of the views.
        surface: of the regions and the meshes that show it; one of FreeSurfer's average surfaces,
            by the number of vertices, when None. Where there is none the page has no cortex.
        title: under the report's headline.
        licence: of the pictures; a sentence under the report.

    Returns:
        The views.
    """
    out = Path(out)
    views = load_views(interpret_split(pipeline, dataset, out, rois, settings))
    regions = pipeline.regions
    # Voxels have no surface; a dataset that brings its regions along has voxels.
    if BOTH not in regions.hemispheres and dataset.regions is None:
        share = views["brain_view"].mean(("sample", "step")).values
        on_cortex = on_vertices(share, regions)
        write_surface_maps(out / "maps", "attention_share", on_cortex, regions.num_vertices)
    write_interpretation_figures(out / "figures", views, regions, masks, surface=surface)
    write_interpretation_report(
        out / "report.html",
        views.isel(sample=slice(NUM_REPORTED)),
        regions,
        surface=surface,
        title=title,
        licence=licence,
    )
    return views
