"""Which objects are lost when the ROI of their category is perturbed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.ibbi.perturbation import Perturbation, matched_sets
from neuroadapter_jax.metrics.statistics import bootstrap_ratio
from neuroadapter_jax.studies.attention_truth.maps import CATEGORY_OF_ROI
from neuroadapter_jax.studies.causal_tests import Reconstruct


class _Test(NamedTuple):
    """An ROI's category, where it was found right, in which images, and the sets to perturb."""

    roi: str
    category_index: int
    wanted: Bool[np.ndarray, "b slot"]
    shown: Int[np.ndarray, " k"]
    region_sets: list[Bool[np.ndarray, " p"]]


def category_table(
    reconstruct: Reconstruct,
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    category_names: list[str],
    rois: Mapping[str, Bool[np.ndarray, " p"]],
    snr: Float[np.ndarray, " p"],
    reader: SceneReader,
    perturbation: Perturbation = "silence",
    *,
    num_random: int = 3,
    seed: int = 0,
) -> dict[str, Any]:
    """How often perturbing a category's ROI changes a reconstructed object that was right.

    Of the objects whose category the reader finds in the intact reconstruction: the share that it
    no longer finds with the ROI's regions perturbed, same noise, beside matched random sets. An
    ROI whose category was found right in no image has no row.

    Args:
        reconstruct: see `causal_tests.perturbed_reconstructions`; rows are those of the next two.
        intact: reconstructions with nothing perturbed.
        categories: true category per slot, -1 for empty.
        category_names: name of each index.
        rois: name -> regions, named as in `CATEGORY_OF_ROI`.
        snr: of each region, for `matched_sets`.
        reader: the scene reader.
        perturbation: see `ibbi.perturbation.perturb`.
        num_random: random sets per ROI.
        seed: of the random sets and the bootstrap.
    """
    right = (read_scenes(reader, intact) == categories) & (categories >= 0)
    tests: list[_Test] = []
    for roi, category in CATEGORY_OF_ROI.items():
        if roi in rois and rois[roi].any():
            index = category_names.index(category)
            wanted = right & (categories == index)
            shown = np.flatnonzero(wanted.any(axis=1))
            region_sets = [rois[roi], *matched_sets(rois[roi], snr, num_random, seed)]
            if len(shown):
                tests.append(_Test(roi, index, wanted, shown, region_sets))
    if not tests:
        return {}
    # All reconstructions of all ROIs in one go, so that only the last batch is filled up.
    rows = [test.shown for test in tests for _ in test.region_sets]
    members = [np.tile(x, (len(test.shown), 1)) for test in tests for x in test.region_sets]
    images = reconstruct(np.concatenate(rows), np.concatenate(members), perturbation)
    ends = np.cumsum([len(x) for x in rows])[:-1]
    readings = iter(np.split(read_scenes(reader, images), ends))
    result: dict[str, Any] = {}
    pooled: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for roi, index, wanted, shown, region_sets in tests:
        own, *random = (
            (wanted[shown] & (next(readings) != index)).sum(axis=1) for _ in region_sets
        )
        number = wanted[shown].sum(axis=1)
        pooled.append((own, np.mean(random, axis=0), number))
        result[roi] = _losses(*pooled[-1], seed) | {"regions": int(rois[roi].sum())}
    lost, lost_at_random, numbers = (np.concatenate(x) for x in zip(*pooled, strict=True))
    result["all ROIs"] = _losses(lost, lost_at_random, numbers, seed)
    return result


def _losses(own: np.ndarray, random: np.ndarray, number: np.ndarray, seed: int) -> dict[str, Any]:
    return {
        "objects": int(number.sum()),
        "changed": bootstrap_ratio(own, number, seed),
        "changed_by_random_sets": bootstrap_ratio(random, number, seed),
        "over_random": bootstrap_ratio(own, random, seed) if random.sum() else {"value": None},
    }
