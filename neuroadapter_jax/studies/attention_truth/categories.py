"""Which objects are lost when the ROI of their category is perturbed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.ibbi.matching import MatchedSets, RegionTraits, match_sets
from neuroadapter_jax.ibbi.perturbation import Perturbation
from neuroadapter_jax.metrics.comparisons import sign_flip_p
from neuroadapter_jax.metrics.events import event_share, share_difference
from neuroadapter_jax.studies.attention_truth.maps import CATEGORY_OF_ROI
from neuroadapter_jax.studies.causal_tests import NUM_SETS, Reconstruct


class _Test(NamedTuple):
    """An ROI's category, where it was found right, in which images, and the sets to perturb."""

    roi: str
    category_index: int
    wanted: Bool[np.ndarray, "b slot"]
    shown: Int[np.ndarray, " k"]
    matched: MatchedSets
    members: Bool[np.ndarray, "m k p"]  # of each image, the ROI itself first


class _Lost(NamedTuple):
    """Objects per image: lost with the ROI, lost with random sets (mean over sets), all."""

    own: np.ndarray
    random: np.ndarray | None
    number: np.ndarray
    images: np.ndarray


def category_table(
    reconstruct: Reconstruct,
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    category_names: list[str],
    rois: Mapping[str, Bool[np.ndarray, " p"]],
    traits: RegionTraits,
    reader: SceneReader,
    perturbation: Perturbation = "silence",
    *,
    num_random: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """How often perturbing a category's ROI changes a reconstructed object that was right.

    Of the objects whose category the reader finds in the intact reconstruction: the share that it
    no longer finds with the ROI's regions perturbed, same noise, beside random sets of regions. An
    ROI whose category was found right in no image has no row; one that has no matched sets is
    compared with none.

    Args:
        reconstruct: see `causal_tests.perturbed_reconstructions`; rows are those of the next two.
        intact: reconstructions with nothing perturbed.
        categories: true category per slot, -1 for empty.
        category_names: name of each index.
        rois: name -> regions, named as in `CATEGORY_OF_ROI`.
        traits: of the regions, for `match_sets`.
        reader: the scene reader.
        perturbation: see `ibbi.perturbation.perturb`.
        num_random: sets per image, of up to 20 that take turns.
        seed: of the random sets and the tests.

    Returns:
        ROI and "all ROIs" -> ``objects``; ``changed`` and ``changed_by_random_sets``, see
        `event_share`; ``difference`` of the two, see `share_difference`, with ``p`` of a sign-flip
        test over images; and per ROI its number of ``regions`` and ``match``, see `MatchedSets`.
        What was compared with no random set has None. "All ROIs" are those with matched sets.
    """
    right = (read_scenes(reader, intact) == categories) & (categories >= 0)
    tests: list[_Test] = []
    for roi, category in CATEGORY_OF_ROI.items():
        if roi not in rois or not rois[roi].any():
            continue
        index = category_names.index(category)
        wanted = right & (categories == index)
        shown = np.flatnonzero(wanted.any(axis=1))
        if len(shown):
            matched = match_sets(rois[roi], traits, NUM_SETS, seed=seed)
            members = np.tile(rois[roi], (1, len(shown), 1))
            if matched.matched:
                members = np.concatenate([members, matched.in_turn(len(shown), num_random)])
            tests.append(_Test(roi, index, wanted, shown, matched, members))
    if not tests:
        return {}
    # All reconstructions of all ROIs in one go, so that only the last batch is filled up.
    rows = [test.shown for test in tests for _ in test.members]
    sets_of_rows = [own for test in tests for own in test.members]
    images = reconstruct(np.concatenate(rows), np.concatenate(sets_of_rows), perturbation)
    ends = np.cumsum([len(x) for x in rows])[:-1]
    readings = iter(np.split(read_scenes(reader, images), ends))
    result: dict[str, Any] = {}
    compared: list[_Lost] = []
    for roi, index, wanted, shown, matched, sets in tests:
        own, *random = ((wanted[shown] & (next(readings) != index)).sum(axis=1) for _ in sets)
        number = wanted[shown].sum(axis=1)
        lost = _Lost(own, np.mean(random, axis=0) if random else None, number, shown)
        compared += [lost] if random else []
        about = {"regions": int(rois[roi].sum()), "match": matched.report}
        result[roi] = _losses([lost], len(intact), seed) | about
    if compared:
        result["all ROIs"] = _losses(compared, len(intact), seed)
    return result


def _losses(lost: Sequence[_Lost], num_images: int, seed: int) -> dict[str, Any]:
    def per_image(values: Sequence[np.ndarray]) -> np.ndarray:
        total = np.zeros(num_images)
        for each, own in zip(lost, values, strict=True):
            total[each.images] += own
        return total

    own, number = per_image([x.own for x in lost]), per_image([x.number for x in lost])
    result: dict[str, Any] = {"objects": int(number.sum()), "changed": event_share(own, number)}
    random_lost = [x.random for x in lost if x.random is not None]
    if len(random_lost) < len(lost):
        return result | {"changed_by_random_sets": None, "difference": None}
    random = per_image(random_lost)
    by_random = event_share(random, number)
    p = sign_flip_p((own - random)[number > 0], seed)
    difference = share_difference(result["changed"], by_random) | {"p": p}
    return result | {"changed_by_random_sets": by_random, "difference": difference}
