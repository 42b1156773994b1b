"""BOLD5000's responses: one array per ROI over all sessions, or volumes within masks of ROIs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from neuroadapter_jax.cortex.parcellation import BOTH, Parcellation
from neuroadapter_jax.datasets.bold5000_files import MASKS, RELEASE, Folder, Run
from neuroadapter_jax.datasets.responses import fill_nan_vertices
from neuroadapter_jax.datasets.volumes import nifti_shape, read_mask, read_voxels
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.readers import read_npy

_WHERE = f"get it from {RELEASE}"
_ROI_BETAS = "the betas of a ROI over all sessions (.npy), trials x voxels"
_VOLUMES = "the betas of a session (.nii.gz), one volume per trial"
_MASK = "the mask of a ROI (.nii.gz)"
_Block = tuple[Float32[np.ndarray, "trials n"], Int64[np.ndarray, " m"]]


class Responses(Protocol):
    """The betas of one subject's ROIs.

    Attributes:
        regions: a region per ROI and side over the voxels of all, in the order of the features.
        files: that they are read from.
    """

    regions: Parcellation
    files: list[Path]

    def read(self, session: int) -> _Block:
        """The trials of a session, and the features without data in all of them, which are 0."""


class ROIArrays:
    """`CSI1_GLMbetas-..._allses_LHPPA.npy`: [trials of all sessions, voxels] per ROI and side.

    Args:
        folder: of the subject.
        version: of the betas.
        rois: names without side, in the order of the tokens.
        every: all runs of the subject, whose trials are the rows.

    Raises:
        MissingFileError: a file is missing.
        InputError: an unknown ROI, or another number of rows than trials.
    """

    def __init__(self, folder: Folder, version: str, rois: Sequence[str], every: Sequence[Run]):
        self._arrays = _chosen(folder.roi_betas(version), rois, folder, _WHERE)
        self.files = list(self._arrays.values())
        self._rows = _rows_of_sessions(every)
        trials = sum(len(run.names) for run in every)
        counts = {}
        for name, path in self._arrays.items():
            array = read_npy(path, _ROI_BETAS, mapped=True)
            if array.ndim != 2 or array.dtype.kind not in "fiu" or not array.shape[1]:
                raise InputError(
                    f"{path} holds {array.dtype} of shape {array.shape}; expected {_ROI_BETAS}, so "
                    f"{_WHERE} again."
                )
            if len(array) != trials:
                raise InputError(
                    f"{path} has {len(array)} rows, but the presentation lists of {folder.name} "
                    f"have {trials} trials; expected a row per trial, so take both of the same "
                    f"subject, and {_WHERE} again."
                )
            counts[name] = array.shape[1]
        self.regions = _parcellation(counts)

    def read(self, session: int) -> _Block:
        """See `Responses`."""
        parts, empty, start = [], [], 0
        for path in self.files:
            array = read_npy(path, _ROI_BETAS, mapped=True)
            with np.errstate(over="ignore"):  # what becomes infinite is refused below
                part = array[self._rows[session]].astype(np.float32)
            empty.append(start + fill_nan_vertices(part, path))
            parts.append(part)
            start += part.shape[1]
        return np.concatenate(parts, axis=1), np.concatenate(empty)


class SessionVolumes:
    """`CSI1_GLMbetas-..._ses-01.nii.gz`: [x, y, z, trials] per session, within masks of ROIs.

    Args:
        folder: of the subject.
        version: of the betas.
        rois: names without side, in the order of the tokens.
        runs: those of the sessions that are read.

    Raises:
        MissingFileError: a file is missing.
        InputError: an unknown ROI, an empty mask, or a volume of another grid or number of trials.
    """

    def __init__(self, folder: Folder, version: str, rois: Sequence[str], runs: Sequence[Run]):
        where = (
            f"get it by `aws s3 sync --no-sign-request {MASKS}/sub-{folder.name} "
            f"{folder.root / f'sub-{folder.name}'}`"
        )
        masks = _chosen(folder.masks(), rois, folder, where)
        voxels: dict[str, np.ndarray] = {}
        grid: tuple[int, ...] = ()
        for name, path in masks.items():
            mask = read_mask(path, _MASK, where)
            grid = grid or mask.shape
            voxels[name] = np.flatnonzero(mask.reshape(-1, order="F"))
            if mask.shape != grid or not len(voxels[name]):
                raise InputError(
                    f"{path} marks {len(voxels[name])} of {mask.shape} voxels; expected at least "
                    f"one, on the grid of the subject's other masks, {grid}; {where} again."
                )
        self._voxels = np.concatenate(list(voxels.values()))
        self.regions = _parcellation({name: len(own) for name, own in voxels.items()})
        rows = _rows_of_sessions(runs)
        self._sessions = {
            session: _volume(folder, version, session, (*grid, own.stop - own.start))
            for session, own in rows.items()
        }
        self.files = [*masks.values(), *self._sessions.values()]

    def read(self, session: int) -> _Block:
        """See `Responses`."""
        path = self._sessions[session]
        betas = read_voxels(path, self._voxels, _VOLUMES, _WHERE)
        return betas, fill_nan_vertices(betas, path)


def _volume(folder: Folder, version: str, session: int, expected: tuple[int, ...]) -> Path:
    path = folder.session_betas(version, session)
    if path is None:
        raise MissingFileError(
            f"{folder.root} holds no {folder.name}_GLMbetas-{version}_ses-{session:02d}.nii.gz; "
            f"{_WHERE}, or name the sessions that are there as sessions."
        )
    found = nifti_shape(path, _VOLUMES, _WHERE)
    if found != expected:
        raise InputError(
            f"{path} has the shape {found}; expected {expected}, the grid of the masks and the "
            f"trials of the presentation lists; take all files of one subject from one release."
        )
    return path


def _chosen(
    files: Mapping[tuple[str, str], Path], rois: Sequence[str], folder: Folder, where: str
) -> dict[str, Path]:
    """Name of region -> file, in the order of the tokens: ROI by ROI, left before right."""
    if not files:
        raise MissingFileError(
            f"{folder.root} holds none of the files of {folder.name}'s ROIs; {where}, and unpack "
            f"it in this folder."
        )
    known = {roi for _, roi in files}
    if (unknown := [roi for roi in rois if roi not in known]) or not rois:
        raise InputError(
            f"{folder.root} has no files of the ROI {', '.join(unknown)} of {folder.name}; its "
            f"ROIs are {', '.join(sorted(known))}, so name some of these as rois, or {where}."
        )
    order = [(side, roi) for roi in dict.fromkeys(rois) for side in ("LH", "RH")]
    if lacking := [side + roi for side, roi in order if (side, roi) not in files]:
        raise MissingFileError(
            f"{folder.root} lacks the files of {', '.join(lacking)} of {folder.name}; {where}."
        )
    return {side + roi: files[side, roi] for side, roi in order}


def _rows_of_sessions(runs: Sequence[Run]) -> dict[int, slice]:
    """Session -> its trials among those of all these runs."""
    rows: dict[int, slice] = {}
    row = 0
    for run in runs:
        first = rows[run.session].start if run.session in rows else row
        row += len(run.names)
        rows[run.session] = slice(first, row)
    return rows


def _parcellation(counts: Mapping[str, int]) -> Parcellation:
    ends = np.cumsum(list(counts.values()))
    vertices = [
        np.arange(end - count, end, dtype=np.int32)
        for count, end in zip(counts.values(), ends, strict=True)
    ]
    total = (int(ends[-1]), 0)
    return Parcellation(tuple(counts), (BOTH,) * len(counts), tuple(vertices), total)
