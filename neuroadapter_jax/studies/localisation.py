"""Does a map point at the object? Pointing game and AUC, against chance and two controls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.comparisons import sign_flip_p
from neuroadapter_jax.metrics.events import event_share
from neuroadapter_jax.metrics.recall import derangement
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio

_KINDS = ("own", "mean_map", "permuted")


def enlarge(maps: Float[np.ndarray, "b y x"], side: int) -> Float[np.ndarray, "b Y X"]:
    """Maps resized bilinearly to `side` rows and columns."""
    shape = (len(maps), side, side)
    return np.asarray(jax.image.resize(maps, shape, "linear", antialias=False))


def pointing_hits(
    maps: Float[np.ndarray, "b y x"], masks: Bool[np.ndarray, "b y x"]
) -> Bool[np.ndarray, " b"]:
    """Whether a map's highest pixel lies in the mask (Zhang et al. 2018, arXiv 1608.00507)."""
    flat = maps.reshape(len(maps), -1)
    return masks.reshape(len(masks), -1)[np.arange(len(flat)), flat.argmax(axis=1)]


def roc_auc(
    maps: Float[np.ndarray, "b y x"], masks: Bool[np.ndarray, "b y x"]
) -> Float[np.ndarray, " b"]:
    """Probability that a pixel in the mask is higher than one outside, ties counted half.

    AUC = (sum of the ranks inside - n_in (n_in + 1) / 2) / (n_in n_out)

    NaN where a mask is empty or full.
    """
    values = np.full(len(maps), np.nan)
    for i, (pixels, mask) in enumerate(zip(maps, masks, strict=True)):
        inside = int(mask.sum())
        outside = mask.size - inside
        if inside and outside:
            ranks = rankdata(pixels)[mask.ravel()].sum()
            values[i] = (ranks - inside * (inside + 1) / 2) / (inside * outside)
    return values


class _Pairs(NamedTuple):
    """Scores of one ROI's maps, for each image that shows the object.

    Attributes:
        images: which images show it.
        share: the mask's share of the image, which is the chance of a hit.
        hits: kind of map -> whether its highest pixel lies in the mask; of several, their mean.
        auc: kind of map -> area under the curve.
    """

    images: Int[np.ndarray, " k"]
    share: Float[np.ndarray, " k"]
    hits: dict[str, Float[np.ndarray, " k"]]
    auc: dict[str, Float[np.ndarray, " k"]]


def _pairs(
    maps: Float[np.ndarray, "b y x"],
    masks: Bool[np.ndarray, "b Y X"],
    seed: int,
    num_permutations: int,
) -> _Pairs:
    shown = masks.any(axis=(1, 2)) & ~masks.all(axis=(1, 2))
    if not shown.any():
        raise InputError(
            f"None of the {len(masks)} images shows what the maps are to point at; expected at "
            "least one, so take more images."
        )
    large, own = enlarge(maps, masks.shape[1]), masks[shown]

    def scores(maps: Float[np.ndarray, "b y x"]) -> tuple[np.ndarray, np.ndarray]:
        return pointing_hits(maps, own).astype(float), roc_auc(maps, own)

    mean = np.broadcast_to(large.mean(axis=0), large.shape)
    others = [
        scores(large[derangement(len(large), seed + i)][shown]) for i in range(num_permutations)
    ]
    found = {
        "own": scores(large[shown]),
        "mean_map": scores(mean[shown]),
        "permuted": tuple(np.mean(x, axis=0) for x in zip(*others, strict=True)),
    }
    return _Pairs(
        np.flatnonzero(shown),
        own.mean(axis=(1, 2)),
        {kind: hits for kind, (hits, _) in found.items()},
        {kind: auc for kind, (_, auc) in found.items()},
    )


def _summary(pairs: Sequence[_Pairs], num_images: int, seed: int) -> dict[str, Any]:
    """Scores of the pairs of all ROIs, with images as the unit of every interval and test."""

    def per_image(values: Sequence[np.ndarray]) -> Float[np.ndarray, " b"]:
        total = np.zeros(num_images)
        for pair, own in zip(pairs, values, strict=True):
            total[pair.images] += own
        return total

    number = per_image([np.ones(len(pair.images)) for pair in pairs])
    chance = float(per_image([pair.share for pair in pairs]).sum() / number.sum())
    any_shown = number > 0
    auc = {k: per_image([pair.auc[k] for pair in pairs]) for k in _KINDS}

    def scores(kind: str) -> dict[str, Any]:
        pointing = event_share(per_image([pair.hits[kind] for pair in pairs]), number)
        value, interval = pointing["value"], pointing["interval"]
        over = {"value": value / chance, "interval": [end / chance for end in interval]}
        auc_of_kind = bootstrap_ratio(auc[kind], number, seed)
        return {"pointing": pointing, "pointing_over_chance": over, "auc": auc_of_kind}

    def above(kind: str) -> dict[str, Any]:
        differences = (auc["own"] - auc[kind])[any_shown]
        return bootstrap_ratio(differences, number[any_shown], seed) | {
            "p": sign_flip_p(differences, seed)
        }

    controls = [kind for kind in _KINDS if kind != "own"]
    return {
        "num_images": int(any_shown.sum()),
        "num_pairs": int(number.sum()),
        "chance": chance,
        **scores("own"),
        **{kind: scores(kind) for kind in controls},
        **{f"auc_above_{kind}": above(kind) for kind in controls},
    }


def localisation(
    maps: Float[np.ndarray, "b y x"],
    masks: Bool[np.ndarray, "b Y X"],
    *,
    seed: int = 0,
    num_permutations: int = 5,
) -> dict[str, Any]:
    """How well an ROI's maps point at what their masks show, over the images that show it.

    * ``pointing``: share of images whose highest pixel lies in the mask, with the interval of
      `event_share`; ``chance``: the masks' mean share of the image; ``pointing_over_chance``: their
      ratio, the chance taken as known.
    * ``auc``: see `roc_auc`; chance 0.5; by bootstrap over images.
    * ``mean_map``: the same for the ROI's mean map over all images, in place of each image's own:
      what of it is the ROI's habit and not this image.
    * ``permuted``: the same for the ROI's map of another image, mean over permutations.
    * ``auc_above_mean_map``, ``auc_above_permuted``: the area under the curve less the control's,
      by image, with ``p`` of `sign_flip_p`.

    An image whose mask is full is left out as one whose mask is empty is.

    Args:
        maps: one per image, of all images; resized to the masks' size.
        masks: pixels that show the object; all False for images without it.
        seed: of permutations, bootstrap and test.
        num_permutations: how many other images each map is compared with, at least 1.

    Raises:
        InputError: no image shows the object.
    """
    pairs = _pairs(maps, masks, seed, num_permutations)
    return _summary([pairs], len(masks), seed)


def pooled_localisation(
    of_rois: Sequence[tuple[Float[np.ndarray, "b y x"], Bool[np.ndarray, "b Y X"]]],
    *,
    seed: int = 0,
    num_permutations: int = 5,
) -> dict[str, Any]:
    """`localisation` over several ROIs, each compared with controls of its own.

    The scores are means over all pairs of an image and an ROI whose object it shows. A map's
    controls are the same ROI's mean map and the same ROI's map of another image, never another
    ROI's: pooling maps of all ROIs first makes a habit of each ROI look like chance. Intervals and
    tests take images as the unit, since the pairs of one image are not independent.

    Args:
        of_rois: per ROI its maps and the masks of its object, of the same images in the same order.
        seed: of permutations, bootstrap and tests.
        num_permutations: how many other images each map is compared with, at least 1.

    Returns:
        As `localisation`, with ``num_pairs`` besides ``num_images``.

    Raises:
        InputError: there is no ROI, or they have different numbers of images, or no image shows an
            object.
    """
    if len(counts := {len(masks) for _, masks in of_rois}) != 1:
        raise InputError(
            f"The ROIs have maps of {sorted(counts) or 'no'} images; expected at least one ROI, "
            "and the same images for all."
        )
    pairs = [_pairs(maps, masks, seed, num_permutations) for maps, masks in of_rois]
    return _summary(pairs, counts.pop(), seed)


def half_share(maps: Float[np.ndarray, "b y x"], half: str, seed: int = 0) -> dict[str, Any]:
    """Share of a map's sum in the left or right half of the image; 0.5 when it favours neither.

    Raises:
        InputError: `half` is neither "left" nor "right".
    """
    if half not in ("left", "right"):
        raise InputError(f"half is {half!r}; expected 'left' or 'right'.")
    columns = maps.shape[2]
    left = maps[:, :, : columns // 2].sum(axis=(1, 2)) + (
        0.5 * maps[:, :, columns // 2].sum(axis=1) if columns % 2 else 0.0
    )
    share = left / maps.sum(axis=(1, 2))
    return bootstrap_interval(share if half == "left" else 1.0 - share, seed)
