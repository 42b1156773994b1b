"""NSD's images in training, validation and test, by the names the field knows them by."""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from neuroadapter_jax.datasets.nsd.published import NUM_SHARED
from neuroadapter_jax.datasets.nsd.subject import NSDSubject
from neuroadapter_jax.datasets.prepared.records import SPLITS
from neuroadapter_jax.errors import InputError

NSDSplit = Literal["shared", "shared1000", "shared982", "special515", "algonauts"]
NSD_SPLITS: tuple[str, ...] = get_args(NSDSplit)
RANDOM_VALIDATION = tuple(name for name in NSD_SPLITS if name != "special515")
_SPECIAL_SESSIONS = 30  # what all eight subjects finished
_EARLY_SESSIONS = 37  # of 40, before the last three were published
_WITHHELD_SESSIONS = 3
_REPEATS = 3


def split_images(
    source: NSDSubject, split: str, num_validation: int = 485, seed: int = 0
) -> dict[str, Int64[np.ndarray, " images"]]:
    """Ids of the training, validation and test images, ascending; all trials of one go together.

    ============ ========================================= =================== =================
    split        test                                      validation          training
    ============ ========================================= =================== =================
    `shared`     shared images the subject saw             sampled             other images
    `shared1000` the same, of NSD's 1,000                  sampled             other images
    `shared982`  shared images shown in the first 37       sampled             images not shared
                 sessions
    `special515` shared images shown 3 times in the first  other shared images images not shared
                 30 sessions, so to all eight subjects
    `algonauts`  images shown in the last 3 sessions only  sampled             other images
    ============ ========================================= =================== =================

    Validation images are sampled from the training images by `seed`, except for `special515`.
    `shared982` leaves out the shared images that are shown in sessions 38 to 40 only. When a
    subject has fewer sessions, or fewer are read, the images of those are split by the same rule.

    Args:
        source: the subject.
        split: which of the table.
        num_validation: how many validation images to sample, at least 0.
        seed: of the sampling, at least 0.

    Raises:
        InputError: another split; one for which the design or the sessions do not suffice; or
            `num_validation` leaves nothing for training.
    """
    if split not in NSD_SPLITS:
        raise InputError(f"split is {split!r}; choose one of {', '.join(NSD_SPLITS)}.")
    shown, shared = np.unique(source.trial_image_ids()), source.shared_ids
    if split == "shared1000" and len(shared) != NUM_SHARED:
        raise InputError(
            f"split is 'shared1000', but the design of {source.root} has {len(shared)} shared "
            f"images; choose 'shared' to test on those."
        )
    validation = None
    if split in ("shared", "shared1000"):
        test, others = np.intersect1d(shown, shared), np.setdiff1d(shown, shared)
    elif split == "shared982":
        early = np.unique(_images_of_sessions(source, _EARLY_SESSIONS))
        test = np.intersect1d(shown, np.intersect1d(shared, early))
        others = np.setdiff1d(shown, shared)
    elif split == "special515":
        ids, counts = np.unique(_images_of_sessions(source, _SPECIAL_SESSIONS), return_counts=True)
        special = np.intersect1d(ids[counts == _REPEATS], shared)
        test = np.intersect1d(shown, special)
        validation = np.setdiff1d(np.intersect1d(shown, shared), special)
        others = np.setdiff1d(shown, shared)
    else:
        last = source.listed_sessions[-1]
        first_withheld = last - _WITHHELD_SESSIONS + 1
        earlier = np.unique(_images_of_sessions(source, first_withheld - 1))
        test, others = np.setdiff1d(shown, earlier), np.intersect1d(shown, earlier)
        if source.sessions[-1] < first_withheld:
            raise InputError(
                f"split is 'algonauts', which tests on the last {_WITHHELD_SESSIONS} of "
                f"{last} sessions, but none of those is among the sessions in use; use them, or "
                f"choose another split."
            )
    if validation is None:
        if not 0 < num_validation < len(others) or not len(test):
            raise InputError(
                f"Subject {source.subject} saw {len(test)} test and {len(others)} other images "
                f"(split {split!r}); num_validation is {num_validation}, which must be at least 1 "
                f"and leave images for training, and there must be images for the test."
            )
        order = np.random.default_rng(seed).permutation(others)
        others, validation = order[num_validation:], order[:num_validation]
    for name, ids in zip(SPLITS, (others, validation, test), strict=True):
        if not len(ids):
            raise InputError(
                f"split is {split!r}, but subject {source.subject} saw no image for {name} in the "
                f"sessions in use; use more sessions, or choose another split."
            )
    return {
        name: np.sort(ids) for name, ids in zip(SPLITS, (others, validation, test), strict=True)
    }


def _images_of_sessions(source: NSDSubject, number: int) -> Int64[np.ndarray, " trials"]:
    """Images of the design's first sessions, trial by trial, whichever of them are read."""
    return source.design.images(source.subject)[: max(number, 0) * source.trials_per_session]
