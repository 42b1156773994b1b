"""The contract of a dataset: what `prepare_source` needs to know, whatever the files look like."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.session_agreement import SessionAgreement
from neuroadapter_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Betas:
    """One block of trials: betas [trials, n] and the features [m] that were NaN in all of them.

    Attributes:
        betas: normalised responses, trials in rows.
        nan_vertices: features that were NaN in all trials of the block, now 0.
    """

    betas: Float32[np.ndarray, "trials n"]
    nan_vertices: Int64[np.ndarray, " m"]


@runtime_checkable
class Source(Protocol):
    """Responses of one subject: trials x features, what each trial showed, images, splits.

    Any class with these attributes and methods is a source; it need not inherit. `prepare_source`
    reads it, and examples/own_dataset.py is one in thirty lines. A feature is a vertex of the
    cortical surface, left then right hemisphere, or a voxel. A trial that was not meant to be used
    (a blank, an attention task) is simply not among the trials.

    Attributes:
        name: of the dataset; names the folder of its records.
        subject: its number in the dataset.
        num_vertices: features of the left and of the right hemisphere; (n, 0) where features are
            not told apart by hemisphere.
        settings: every choice that the records depend on, such as the normalisation, as JSON
            values; stored in provenance.json and compared when the folder is asked for again.
        root: folder that the files lie in.
        files: all files that the records depend on.
        blocks: what is read at once, in the order of the trials: sessions, runs.
        regions: the source's own regions over its features; None where parcellations of the
            surface apply.
        stimulus_names: by stimulus id, for stimuli that have a name.
    """

    name: str
    subject: int
    num_vertices: tuple[int, int]
    settings: dict[str, Any]
    root: Path
    stimulus_names: dict[int, str]

    # Properties, since a source's own type may be narrower; a plain attribute fulfils them.
    @property
    def blocks(self) -> Sequence[int | str]:
        """What is read at once, in the order of the trials."""

    @property
    def regions(self) -> Parcellation | None:
        """The source's own regions, if any."""

    @property
    def files(self) -> list[Path]:
        """All files that the records depend on."""

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """The stimulus of each trial, a number of at least 0."""

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """Per split the trials (positions from 0) that its records hold.

        A record is a stimulus of the split with its trials of the split. Training reads the splits
        "train" and "validation"; others have any name.
        """

    def read_block(self, block: Any) -> Betas:
        """The normalised responses, finite, of the trials of one of `blocks`."""

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """Noise-ceiling SNR per feature; NaN where it is not known."""

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """The images of stimuli, of any size; None for a stimulus without one."""


@runtime_checkable
class Trials(Protocol):
    """Responses of any trial, as they are stored.

    Attributes:
        nan_vertices: per block (as text) that has any, its number of features without data.
        empty_vertices: features without data in any block.
        trials_per_session: over which `read` z-scores; 0 if it does not.
    """

    nan_vertices: dict[str, int]
    empty_vertices: Int64[np.ndarray, " _"]
    trials_per_session: int

    def read(
        self, positions: Int64[np.ndarray, " k"]
    ) -> tuple[Float16[np.ndarray, "k n"], Float32[np.ndarray, "k n"] | None]:
        """Trials by position: as stored, and z-scored over their sessions, if that is known."""

    def close(self) -> None:
        """Ends the reading."""


@runtime_checkable
class DirectSource(Source, Protocol):
    """A source whose trials can be read where they lie, and whose values are published.

    Attributes:
        response_files: the files that the responses are in.
    """

    @property
    def response_files(self) -> list[Path]:
        """The files that the responses are in."""

    def open_trials(self, work: Path, done: Callable[[str, bool], None]) -> Trials:
        """Ready to read; what takes time is stored in `work`; for `done` see `do_units`."""

    def store_blocks(
        self, work: Path, blocks: Sequence[Any], done: Callable[[str, bool], None]
    ) -> None:
        """Stores in `work` what `open_trials` needs to know of some of `blocks`."""

    def check_before_preparing(self) -> list[Any]:
        """What is known before any response is read, see `nsd.checks.Check`."""

    def check_responses(
        self,
        ncsnr: Float32[np.ndarray, " n"],
        nan_vertices: dict[str, int],
        agreement: SessionAgreement,
    ) -> list[Any]:
        """What is known once all responses were read.

        Args:
            ncsnr: computed from the repeats.
            nan_vertices: per session, vertices without data.
            agreement: of the sessions with one another.
        """


def check_source(source: Source) -> None:
    """Holds what a source says of its trials against itself, before anything is read or written.

    Args:
        source: any source, such as a class of the user's own.

    Raises:
        InputError: stimuli that are not whole numbers of at least 0, one per trial; trials of a
            split that do not exist or are named twice.
    """
    shown = np.asarray(source.trial_image_ids())
    if shown.ndim != 1 or not np.issubdtype(shown.dtype, np.integer) or (shown < 0).any():
        found = f"{shown.dtype} of shape {shown.shape}" + (
            f" with {shown.min()}" if shown.size and np.issubdtype(shown.dtype, np.number) else ""
        )
        raise InputError(
            f"trial_image_ids of {source.name} gave {found}; expected the stimulus of each trial, "
            f"whole numbers of at least 0 [trials]."
        )
    for split, positions in source.splits().items():
        positions = np.asarray(positions)
        if positions.ndim != 1 or (
            positions.size and not np.issubdtype(positions.dtype, np.integer)
        ):
            raise InputError(
                f"splits of {source.name} gave {positions.dtype} of shape {positions.shape} for "
                f"{split!r}; expected positions of trials, whole numbers [k]."
            )
        if outside := [int(i) for i in positions if not 0 <= i < len(shown)]:
            raise InputError(
                f"splits of {source.name} names trial {outside[0]} in {split!r}, and {len(shown)} "
                f"trials are announced; expected positions from 0 to {len(shown) - 1}."
            )
        if len(np.unique(positions)) < len(positions):
            raise InputError(
                f"splits of {source.name} names a trial twice in {split!r}; expected every trial "
                f"at most once."
            )


def checked_ncsnr(source: Source) -> Float32[np.ndarray, " n"]:
    """A source's SNR per feature, if it has one number for each.

    Args:
        source: any source, such as a class of the user's own.

    Raises:
        InputError: another number of them.
    """
    ncsnr, features = np.asarray(source.ncsnr(), np.float32), sum(source.num_vertices)
    if ncsnr.shape != (features,):
        raise InputError(
            f"ncsnr of {source.name} has shape {ncsnr.shape}; expected one number for each of its "
            f"{features} features, NaN where it is not known."
        )
    return ncsnr
