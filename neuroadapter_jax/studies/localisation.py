"""Does a map point at the object? Pointing game and AUC, against chance and two controls."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.recall import derangement
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio


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


def localisation(
    maps: Float[np.ndarray, "b y x"],
    masks: Bool[np.ndarray, "b Y X"],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """How well maps point at what their masks show, over the images whose mask is not empty.

    * ``pointing``: share of images whose highest pixel lies in the mask; ``chance``: the masks'
      mean share of the image; ``pointing_over_chance``: their ratio.
    * ``auc``: see `roc_auc`; chance 0.5.
    * ``mean_map``: the same for the mean map over all images, in place of each image's own: what
      of it is the ROI's habit and not this image.
    * ``permuted``: the same for the map of another image.

    Args:
        maps: one per image, of all images; resized to the masks' size.
        masks: pixels that show the object; all False for images without it.
        seed: of the permutation and the bootstrap.

    Raises:
        InputError: no image shows the object.
    """
    shown = masks.any(axis=(1, 2))
    if not shown.any():
        raise InputError(
            f"None of the {len(masks)} images shows what the maps are to point at; expected at "
            "least one, so take more images."
        )
    large = enlarge(maps, masks.shape[1])
    own = masks[shown]

    def scores(maps: Float[np.ndarray, "b y x"]) -> dict[str, Any]:
        hits, share = pointing_hits(maps, own), own.mean(axis=(1, 2))
        return {
            "pointing": bootstrap_interval(hits.astype(float), seed),
            "pointing_over_chance": bootstrap_ratio(hits.astype(float), share, seed),
            "auc": bootstrap_interval(roc_auc(maps, own), seed),
        }

    mean = np.broadcast_to(large.mean(axis=0), large.shape)
    return {
        "num_images": int(shown.sum()),
        "chance": float(own.mean()),
        **scores(large[shown]),
        "mean_map": scores(mean[shown]),
        "permuted": scores(large[derangement(len(large), seed)][shown]),
    }


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
