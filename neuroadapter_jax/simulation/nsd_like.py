"""What is simulated of a subject that is as noisy as those of the Natural Scenes Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from neuroadapter_jax.ranges import (
    Count,
    NonNegative,
    Seed,
    SettingError,
    Share,
    ShareBelowOne,
    check_fields,
)

SUBJECTS = range(1, 9)
# Median ncsnr within nsdgeneral of NSD's subjects 1 to 8, on fsaverage, betas_fithrf_GLMdenoise_RR:
# brain-score's packaging of NSD, whose mean noise ceiling is the one of Allen et al. (2022).
MEDIAN_NCSNR = dict(
    zip(SUBJECTS, (0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323), strict=True)
)
# Models train on these, as the paper's; and one whom no model has seen.
TRAINING_SUBJECTS, HELD_OUT_SUBJECT = (1, 2, 5, 7), 3
COHORT = (*TRAINING_SUBJECTS, HELD_OUT_SUBJECT)

SubjectNumber = Annotated[int, Interval(ge=1, le=8)]


@dataclass(frozen=True)
class NSDLikeConfig:
    """What is simulated, of all subjects of one root.

    A subject is a function of these settings and of its number, whoever else is in the root. All
    subjects see the shared images. As in NSD, the special ones among them are seen three times
    within the first three quarters of the sessions (30 of 40), which makes them the test images of
    the split special515, and the others are free for alignment and validation.

    Attributes:
        noise: which kind of subject this is.
        num_images: distinct images of each subject.
        num_shared: of these, how many all subjects see.
        num_special: of these, how many are for testing.
        trials_per_session: 3 * num_images must be a multiple of it.
        num_unseen: images of each set of the unseen experiment.
        seed: of everything.
        regions_per_hemisphere: regions of the parcellation that is written beside.
        smooth_noise: share of a trial's noise variance that neighbours have in common.
        shared_noise: share that the whole brain has in common.
        signal_like_noise: share, in responsive vertices, in directions in which signals vary.
        factors: how many such directions each area has, of objects' categories and of identities.
        bad_runs: share of the runs whose noise sd is doubled.
        drift: sds of a session's offset, trend and gain, in units of the clean subject's.
    """

    noise: Literal["nsd_like"] = "nsd_like"
    num_images: Count = 2560
    num_shared: Count = 260
    num_special: Count = 200
    trials_per_session: Annotated[int, Ge(2)] = 192
    num_unseen: Count = 96
    seed: Seed = 1
    regions_per_hemisphere: Count = 320
    smooth_noise: ShareBelowOne = 0.25
    shared_noise: ShareBelowOne = 0.05
    signal_like_noise: ShareBelowOne = 0.6
    factors: Count = 300
    bad_runs: Share = 0.05
    drift: NonNegative = 1.0

    def __post_init__(self):
        check_fields(self)
        for key, most in (("num_shared", self.num_images), ("num_special", self.num_shared)):
            if getattr(self, key) >= most:
                raise SettingError(key, getattr(self, key), f"less than {most}")
        if self.num_trials % self.trials_per_session:
            raise SettingError(
                "trials_per_session",
                self.trials_per_session,
                f"a divisor of 3 * num_images, {self.num_trials}",
            )
        if (parts := self.smooth_noise + self.shared_noise + self.signal_like_noise) > 1:
            raise SettingError(
                "signal_like_noise",
                self.signal_like_noise,
                f"at most 1 together with smooth_noise and shared_noise; they make {parts:g}",
            )

    @property
    def num_repeats(self) -> int:
        """Presentations of each image."""
        return 3

    @property
    def num_trials(self) -> int:
        """Of each subject."""
        return self.num_repeats * self.num_images

    @property
    def num_sessions(self) -> int:
        """Whole sessions of trials."""
        return self.num_trials // self.trials_per_session
