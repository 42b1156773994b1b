"""A subject of NSD as a `Source`: its splits, its normalisation, its published values."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval, MinLen
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.datasets.normalization import NORMALIZATIONS, Normalization
from neuroadapter_jax.datasets.nsd.checks import Check, check_responses, check_subject
from neuroadapter_jax.datasets.nsd.splits import RANDOM_VALIDATION, NSDSplit, split_images
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.nsd.trials import NSDTrials, store_statistics
from neuroadapter_jax.datasets.session_agreement import SessionAgreement
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, Seed, check_fields


@dataclasses.dataclass(frozen=True)
class NSDSelection:
    """Which responses and images of NSD are prepared, how they are normalised and split.

    Attributes:
        subject: 1 to 8.
        space: surface of the betas, such as `fsaverage`.
        beta_version: one of NSD's three sets of betas.
        sessions: sessions to use, counted from 1; all when None.
        normalize: each vertex is z-scored over the "session", over each "run" of it, by the
            session's training trials ("train-stats"), or not at all ("none").
        split: "shared", "shared1000", "shared982", "special515" or "algonauts"; `split_images` says
            which images each tests with.
        num_validation: number of validation images, where the split samples them.
        seed: determines which images those are.

    Examples:
        >>> from neuroadapter_jax.datasets.nsd.source import NSDSelection
        >>> selection = NSDSelection(subject=2, split="shared982")
        >>> selection.space, selection.normalize
        ('fsaverage', 'session')
    """

    subject: Annotated[int, Interval(ge=1, le=8)] = 1
    space: str = "fsaverage"
    beta_version: str = "betas_fithrf_GLMdenoise_RR"
    sessions: Annotated[Sequence[Count], MinLen(1)] | Annotated[None, "for all"] = None
    normalize: Normalization = "session"
    split: NSDSplit = "shared"
    num_validation: Count = 485
    seed: Seed = 0

    def __post_init__(self):
        check_fields(self)

    def open(self, root: str | Path) -> "NSDSource":
        """The source of this selection in NSD's folder; raises what `NSDSource` raises."""
        reader = NSDSubject(root, self.subject, self.space, self.beta_version, self.sessions)
        return NSDSource(reader, self.normalize, self.split, self.num_validation, self.seed)


class NSDSource:
    """A subject of NSD with a normalisation and splits; see `source.DirectSource`.

    Args:
        subject: the reader.
        normalize: each vertex is z-scored over the "session", over each "run" of it, by the
            session's training trials ("train-stats"), or not at all ("none").
        split: "shared", "shared1000", "shared982", "special515" or "algonauts"; `split_images` says
            which images each tests with.
        num_validation: number of validation images, where the split samples them.
        seed: determines which images those are.

    Raises:
        InputError: another `normalize` or `split`, a split for which the design or the sessions do
            not suffice, or so many validation images that none is left for training.
    """

    name = "nsd"
    regions = None

    def __init__(
        self,
        subject: NSDSubject,
        normalize: str = "session",
        split: str = "shared",
        num_validation: int = 485,
        seed: int = 0,
    ):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self._reader, self._normalize, self._split = subject, normalize, split
        self._image_ids = split_images(subject, split, num_validation, seed)
        self.root, self.subject = subject.root, subject.subject
        self.num_vertices, self.blocks = subject.num_vertices, subject.sessions
        self.stimulus_names: dict[int, str] = {}
        random = split in RANDOM_VALIDATION
        self.settings = {
            "space": subject.space,
            "beta_version": subject.beta_version,
            "sessions": list(subject.sessions),
            "normalize": normalize,
            "split": split,
            "num_validation": num_validation if random else None,
            "seed": seed if random else None,
        }

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """Image shown in each trial of the used sessions, in order (0-based 73k id)."""
        return self._reader.trial_image_ids()

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """Noise-ceiling SNR per vertex, left then right hemisphere, as NSD publishes it."""
        return self._reader.ncsnr()

    def images(self, ids: Int[np.ndarray, " b"]) -> list[UInt8[np.ndarray, "y x 3"]]:
        """Images by 0-based 73k id, in the order of `ids`."""
        return list(self._reader.images(ids))

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        return self._reader.files

    @property
    def response_files(self) -> list[Path]:
        """The files of betas."""
        return self._reader.betas_files

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """All trials of an image are in one split; see `split_images`."""
        shown = self.trial_image_ids()
        return {part: np.flatnonzero(np.isin(shown, ids)) for part, ids in self._image_ids.items()}

    def read_block(self, session: int) -> Betas:
        """One session's responses, left then right hemisphere, normalised as the source is."""
        training = self._training()
        length = self._reader.trials_per_session
        start = length * self._reader.sessions.index(session)
        return self._reader.session_betas(
            session, self._normalize, training[start : start + length]
        )

    def open_trials(self, work: Path, done: Callable[[str, bool], None]) -> NSDTrials:
        """Random access to the normalised trials, see `NSDTrials`."""
        return NSDTrials(self._reader, self._normalize, self._training(), work, done)

    def store_blocks(
        self, work: Path, blocks: Sequence[int], done: Callable[[str, bool], None]
    ) -> None:
        """Stores the statistics of some sessions, see `store_statistics`."""
        store_statistics(self._reader, self._normalize, self._training(), work, blocks, done)

    def check_before_preparing(self) -> list[Check]:
        """Counts, first images and SNR beside the published ones."""
        return check_subject(self._reader, self._split, self._image_ids)

    def check_responses(
        self,
        ncsnr: Float32[np.ndarray, " n"],
        nan_vertices: dict[str, int],
        agreement: SessionAgreement,
    ) -> list[Check]:
        """SNR, noise ceilings and sessions beside the published ones, once all were read."""
        shown = self.trial_image_ids()
        repeats = np.array([np.sum(shown == i) for i in self._image_ids["test"]])
        return check_responses(self._reader, ncsnr, repeats, nan_vertices, agreement)

    def _training(self) -> Bool[np.ndarray, " trials"]:
        return np.isin(self.trial_image_ids(), self._image_ids["train"])
