"""Where the views look: maps of ROIs against what the images of the simulated subject show."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.ibbi.views import contrast
from neuroadapter_jax.metrics.comparisons import correct_family
from neuroadapter_jax.studies.localisation import half_share, localisation, pooled_localisation

# ROI -> the category of objects that drives it in the simulated subject.
CATEGORY_OF_ROI = {
    "Face": "face",
    "Body": "body",
    "VTC-animal": "animal",
    "VTC-food": "food",
    "Word": "word",
    "LO": "object",
}
RETINOTOPIC = ("V1", "V2", "V3", "V4")
_ABOVE = ("auc_above_mean_map", "auc_above_permuted")


def category_masks(
    truth: Mapping[str, np.ndarray], image_ids: Int[np.ndarray, " b"]
) -> dict[str, Bool[np.ndarray, "b y x"]]:
    """Pixels that show an object of each category; `truth` is from `load_truth`."""
    masks, slots = truth["masks"][image_ids], truth["mask_slots"][image_ids]
    categories = truth["categories"][image_ids]
    shown = np.take_along_axis(categories, np.maximum(slots, 0), axis=1)
    shown = np.where(slots >= 0, shown, -1)
    return {
        str(name): (masks & (shown == i)[:, :, None, None]).any(axis=1)
        for i, name in enumerate(truth["category_names"])
    }


def maps_of(views: xarray.Dataset) -> dict[str, Float[np.ndarray, "b r y x"]]:
    """One map per sample and ROI from the views of all steps, in every way that is compared.

    "attention" (or the views' reduction) is the mean of the image view over steps, "... contrast"
    that relative to its mean over samples (see `contrast`), and "effect" the mean of the effect
    view over the shown steps, where it was measured.
    """
    name = views.attrs["reduction"]
    mean = views["image_view"].mean("step").values
    maps = {name: mean, f"{name}, contrast": contrast(mean)}
    if "effect_view" in views:
        maps["effect"] = views["effect_view"].mean("shown").values
        maps["effect, contrast"] = contrast(maps["effect"])
    return maps


def localisation_tables(
    views: xarray.Dataset, masks: Mapping[str, Bool[np.ndarray, "b y x"]], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """`localisation` of every way of making a map and every category ROI.

    Args:
        views: of many images, with ROIs named as in `CATEGORY_OF_ROI`.
        masks: from `category_masks`, of the same images.
        seed: of permutations and bootstrap.

    Returns:
        way -> ROI -> scores, and way -> "all ROIs": see `pooled_localisation`. The tests against
        the controls have ``p_holm``, corrected over the ROIs and both controls of the way; how many
        they are is under ``family``.
    """
    names = list(views["roi"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        own: dict[str, Any] = {}
        everywhere = []
        for roi, category in CATEGORY_OF_ROI.items():
            of_roi = maps[:, names.index(roi)] if roi in names else None
            if of_roi is None or not np.isfinite(of_roi).all() or not masks[category].any():
                continue
            own[roi] = localisation(of_roi, masks[category], seed=seed)
            everywhere.append((of_roi, masks[category]))
        tests = [each[test] for each in own.values() for test in _ABOVE]
        family = correct_family(tests)
        for each in own.values():
            each["family"] = family
        own["all ROIs"] = pooled_localisation(everywhere, seed=seed)
        result[way] = own
    return result


def retinotopy_tables(views: xarray.Dataset, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Share of each hemisphere's retinotopic maps in the opposite half of the image.

    The left hemisphere's visual field is the right half. ROIs are named "lh.V1" and so on; 0.5 is
    chance.
    """
    names = list(views["roi"].values)
    result: dict[str, dict[str, Any]] = {}
    for way, maps in maps_of(views).items():
        result[way] = {
            f"{h}.{roi}": half_share(maps[:, names.index(f"{h}.{roi}")], half, seed)
            for roi in RETINOTOPIC
            for h, half in (("lh", "right"), ("rh", "left"))
            if f"{h}.{roi}" in names and np.isfinite(maps[:, names.index(f"{h}.{roi}")]).all()
        }
    return result
