"""A subject of NSD as a `Source`: its splits, its normalisation, its published values."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from neuroadapter_jax.datasets.normalization import NORMALIZATIONS
from neuroadapter_jax.datasets.nsd.checks import Check, check_responses, check_subject
from neuroadapter_jax.datasets.nsd.splits import RANDOM_VALIDATION, split_images
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.nsd.trials import NSDTrials
from neuroadapter_jax.datasets.source import Betas


class NSDSource:
    """A subject of NSD with a normalisation and splits; see `source.DirectSource`.

    Args:
        subject: the reader.
        normalize: see `NSDSubject.session_scaling`.
        split: see `nsd_splits.split_images`.
        num_validation: number of validation images, where the split draws them.
        seed: determines which images those are.

    Raises:
        ValueError: another `normalize`, or as `split_images`.
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
            raise ValueError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self._reader, self._normalize, self._split = subject, normalize, split
        self._image_ids = split_images(subject, split, num_validation, seed)
        self.root, self.subject = subject.root, subject.subject
        self.num_vertices, self.blocks = subject.num_vertices, subject.sessions
        self.stimulus_names: dict[int, str] = {}
        reconstructions = split in RANDOM_VALIDATION
        self.settings = {
            "space": subject.space,
            "beta_version": subject.beta_version,
            "sessions": list(subject.sessions),
            "normalize": normalize,
            "split": split,
            "num_validation": num_validation if reconstructions else None,
            "seed": seed if reconstructions else None,
        }
        self.trial_image_ids, self.ncsnr = subject.trial_image_ids, subject.ncsnr
        self.images = subject.images

    @property
    def files(self) -> list[Path]:
        """See `NSDSubject.files`."""
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
        """See `NSDSubject.session_betas`."""
        training = np.isin(self.trial_image_ids(), self._image_ids["train"])
        length = self._reader.trials_per_session
        start = length * self._reader.sessions.index(session)
        return self._reader.session_betas(
            session, self._normalize, training[start : start + length]
        )

    def open_trials(self, work: Path, done: Callable[[str, bool], None]) -> NSDTrials:
        """See `NSDTrials`."""
        training = np.isin(self.trial_image_ids(), self._image_ids["train"])
        return NSDTrials(self._reader, self._normalize, training, work, done)

    def check(self) -> list[Check]:
        """See `check_subject`."""
        return check_subject(self._reader, self._split, self._image_ids)

    def check_responses(
        self, ncsnr: Float32[np.ndarray, " n"], nan_vertices: dict[str, int]
    ) -> list[Check]:
        """See `nsd_checks.check_responses`."""
        shown = self.trial_image_ids()
        repeats = np.array([np.sum(shown == i) for i in self._image_ids["test"]])
        return check_responses(self._reader, ncsnr, repeats, nan_vertices)
