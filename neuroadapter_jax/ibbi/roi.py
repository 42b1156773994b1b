"""ROIs as weights over a model's regions: which region belongs to which ROI."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.cortex.parcellation import HEMISPHERES, Parcellation
from neuroadapter_jax.cortex.roi import ROI_LEVELS
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_text

# NeuroAdapter (arXiv 2509.23566), appendix P: subject 1, 200 regions, more than half of a region.
PAPER_COUNTS = {"low-level": 50, "high-level": 53, "labelled": 103}


@dataclass(frozen=True)
class ROIAssignment:
    """Which regions stand for which ROI.

    Attributes:
        names: of the ROIs.
        overlap: share of each region's vertices that lie in the ROI, 0 to 1.
        members: True for the regions that are assigned to the ROI.
        vertices: number of vertices of each ROI.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.roi import ROIAssignment
        >>> members = np.array([[True, True, False], [False, False, False]])
        >>> found = ROIAssignment(("V1", "Word"), members.astype(float), members, np.array([20, 5]))
        >>> found.weights.tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
        >>> len(found.without_regions())  # no region stands for Word
        1
    """

    names: tuple[str, ...]
    overlap: Float[np.ndarray, "r p"]
    members: Bool[np.ndarray, "r p"]
    vertices: Int[np.ndarray, " r"]

    @property
    def weights(self) -> Float[np.ndarray, "r p"]:
        """Equal weights over a ROI's regions, summing to 1; all zero without regions."""
        counts = self.members.sum(axis=1, keepdims=True)
        return (self.members / np.maximum(counts, 1)).astype(np.float32)

    def without_regions(self) -> list[str]:
        """A sentence for each ROI that no region stands for."""
        return [
            f"{name}: none of the {self.members.shape[1]} regions lies in it by more than the "
            f"threshold (ROI of {count} vertices, highest overlap {best:.2f}); its view is NaN."
            for name, count, best, own in zip(
                self.names, self.vertices, self.overlap.max(axis=1), self.members, strict=True
            )
            if not own.any()
        ]


def assign_regions(
    regions: Parcellation,
    rois: Mapping[str, Bool[np.ndarray, " n"]],
    threshold: float = 0.5,
    exclusive: bool = True,
) -> ROIAssignment:
    """Assigns regions to ROIs by the share of their vertices that lie in a ROI.

    Region p belongs to ROI r if ::

        (vertices in both p and r) / (vertices of p) > threshold

    and with `exclusive` only to the ROI of the highest share. NeuroAdapter (arXiv 2509.23566),
    appendix P: more than half, which leaves out regions that are cut across by narrow ROIs; with 0
    every region that holds a labelled vertex goes to the ROI that holds most of them (the first
    named of equals).

    Args:
        regions: the model's.
        rois: name -> mask over the left, then the right hemisphere's vertices.
        threshold: 0 to below 1; the released scripts have 0.1, 0.5 and 0.75 as well.
        exclusive: False for ROIs that overlap on purpose, such as a hemisphere and its ROIs.

    Raises:
        InputError: a mask of another number of vertices, no ROIs, or a threshold out of range.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.ibbi.roi import assign_regions
        >>> a, b = np.array([0, 1, 2], np.int32), np.array([3, 4], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "lh"), (a, b), (5, 0))
        >>> rois = {
        ...     "V1": np.array([True, True, False, False, False]),
        ...     "Face": np.array([False, False, True, True, False]),
        ... }
        >>> found = assign_regions(regions, rois)
        >>> found.overlap.round(2).tolist()
        [[0.67, 0.0], [0.33, 0.5]]
        >>> found.members.tolist()  # half of B lies in Face, which is not more than half
        [[True, False], [False, False]]
    """
    if not 0.0 <= threshold < 1.0:
        raise InputError(f"threshold is {threshold}; expected 0 to below 1.")
    if not rois:
        raise InputError("There are no ROIs; name at least one.")
    total = sum(regions.num_vertices)
    for name, mask in rois.items():
        if mask.shape != (total,):
            raise InputError(
                f"ROI {name!r} has a mask of shape {mask.shape}, the regions are of {total} "
                "vertices, left then right; use ROIs of the same surface."
            )
    overlap = np.array(
        [
            [mask[regions.cortex_indices(i)].mean() for i in range(len(regions))]
            for mask in rois.values()
        ]
    )
    members = overlap > threshold
    if exclusive:
        members &= np.arange(len(overlap))[:, None] == overlap.argmax(axis=0)
    vertices = np.array([mask.sum() for mask in rois.values()])
    return ROIAssignment(tuple(rois), overlap, members, vertices)


def concatenate(*assignments: ROIAssignment) -> ROIAssignment:
    """The ROIs of several assignments over the same regions, one after the other.

    Args:
        assignments: of the same regions, in the same order.
    """
    return ROIAssignment(
        tuple(name for each in assignments for name in each.names),
        *(
            np.concatenate([getattr(each, field) for each in assignments])
            for field in ("overlap", "members", "vertices")
        ),
    )


def assign_by_name(
    regions: Parcellation, region_sets: Mapping[str, Sequence[str]]
) -> ROIAssignment:
    """ROIs given as lists of region names.

    A name stands for both hemispheres unless it begins with "lh." or "rh."; regions in voxels have
    their name alone.

    Args:
        regions: the model's.
        region_sets: name of the ROI -> names of its regions.

    Raises:
        InputError: a name that is no region of the model.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.ibbi.roi import assign_by_name
        >>> a, b = np.array([0], np.int32), np.array([0, 1], np.int32)
        >>> regions = Parcellation(("V1", "V1", "FFA"), ("lh", "rh", "rh"), (a, a, b + 1), (3, 3))
        >>> rois = assign_by_name(regions, {"early": ["V1"], "right": ["rh.V1", "FFA"]})
        >>> rois.weights.tolist()
        [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    """
    keys = [(n, f"{h}.{n}") for h, n in zip(regions.hemispheres, regions.names, strict=True)]
    members = np.zeros((len(region_sets), len(regions)), bool)
    for row, (roi, names) in zip(members, region_sets.items(), strict=True):
        for name in names:
            found = [i for i, key in enumerate(keys) if name in key]
            if not found:
                raise InputError(
                    f"ROI {roi!r} names region {name!r}, which is none of the model's "
                    f"{len(regions)} regions; the model keeps those of the highest SNR only."
                )
            row[found] = True
    sizes = np.array([len(v) for v in regions.vertices])
    return ROIAssignment(tuple(region_sets), members.astype(float), members, members @ sizes)


def by_hemisphere(
    rois: Mapping[str, Bool[np.ndarray, " n"]], num_vertices: tuple[int, int]
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Each ROI's left and right part, named "lh.NAME" and "rh.NAME".

    Args:
        rois: name -> mask over the left, then the right hemisphere's vertices.
        num_vertices: of the left and of the right hemisphere.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.roi import by_hemisphere
        >>> parts = by_hemisphere({"V1": np.array([True, False, True, True])}, (2, 2))
        >>> {name: mask.tolist() for name, mask in parts.items()}
        {'lh.V1': [True, False, False, False], 'rh.V1': [False, False, True, True]}
    """
    left = np.arange(sum(num_vertices)) < num_vertices[0]
    halves = dict(zip(HEMISPHERES, (left, ~left), strict=True))
    return {f"{h}.{name}": mask & half for name, mask in rois.items() for h, half in halves.items()}


def level_counts(assignment: ROIAssignment) -> dict[str, int]:
    """How many regions belong to a low-level ROI, to a high-level one, and to either.

    The levels are `cortex.ROI_LEVELS`; ROIs beside them do not count.

    Args:
        assignment: with the ROI groups of `group_rois`.
    """
    rows = {level: np.isin(assignment.names, groups) for level, groups in ROI_LEVELS.items()}
    rows["labelled"] = np.logical_or.reduce(list(rows.values()))
    return {level: int(assignment.members[own].any(axis=0).sum()) for level, own in rows.items()}


def overlap_table(
    regions: Parcellation,
    rois: Mapping[str, Bool[np.ndarray, " n"]],
    thresholds: Sequence[float] = (0.1, 0.5, 0.75),
) -> str:
    """A line per threshold: regions of each level and ROI; the paper's counts below.

    Args:
        regions: the p chosen regions.
        rois: name -> mask over the left, then the right hemisphere's vertices; grouped by
            `group_rois`.
        thresholds: shares of a region's vertices, each 0 to below 1.

    Raises:
        InputError: a mask of another number of vertices, no ROIs, or a threshold out of range.
    """
    found = {t: assign_regions(regions, rois, t) for t in thresholds}
    head = ["threshold", *PAPER_COUNTS, "of", *rois]
    rows = [
        [f"> {t:g}", *level_counts(each).values(), len(regions), *each.members.sum(axis=1)]
        for t, each in found.items()
    ]
    paper = ["paper", *PAPER_COUNTS.values(), 200, *["" for _ in rois]]
    cells = [[str(cell) for cell in row] for row in (head, *rows, paper)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = [
        "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    note = "paper: arXiv 2509.23566, appendix P; subject 1, p = 200, more than half of a region."
    return "\n".join([*lines, note]) + "\n"


def assignment_table(regions: Parcellation, assignment: ROIAssignment) -> str:
    """CSV: a row per region with its best ROI, that overlap, and the ROI it is assigned to.

    Args:
        regions: the model's.
        assignment: of these regions.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["region", "hemisphere", "vertices", "best_roi", "overlap", "assigned"])
    for i in range(len(regions)):
        best = int(assignment.overlap[:, i].argmax())
        overlap = assignment.overlap[best, i]
        assigned = [
            n for n, own in zip(assignment.names, assignment.members[:, i], strict=True) if own
        ]
        writer.writerow(
            [
                regions.names[i],
                regions.hemispheres[i],
                len(regions.vertices[i]),
                assignment.names[best] if overlap > 0 else "",
                f"{overlap:.4f}",
                ";".join(assigned),
            ]
        )
    return text.getvalue()


def write_assignment(path: str | Path, regions: Parcellation, assignment: ROIAssignment) -> None:
    """Write `assignment_table`, whole or not at all.

    Args:
        path: the CSV file.
        regions: the model's.
        assignment: of these regions.
    """
    write_text(path, assignment_table(regions, assignment))
