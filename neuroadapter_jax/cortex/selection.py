"""Choice of the regions whose measurements are most reliable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer

from neuroadapter_jax.cortex.parcellation import BOTH, HEMISPHERES, Parcellation
from neuroadapter_jax.errors import InputError


def region_snr(
    parcellation: Parcellation, ncsnr: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " N"]:
    """Mean noise-ceiling SNR of each region's vertices, NaN vertices left out.

    Args:
        parcellation: N regions.
        ncsnr: noise-ceiling SNR per vertex, left then right hemisphere; at least 0, or NaN.

    Returns:
        One number per region; NaN where all of a region's vertices are NaN.

    Raises:
        InputError: another number of vertices than the parcellation's.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, region_snr
        >>> pair, single = np.array([0, 1], np.int32), np.array([2], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (pair, single), (3, 3))
        >>> region_snr(regions, np.array([0.5, 1.5, 0.0, 0.0, 0.0, np.nan])).tolist()
        [1.0, nan]
    """
    if len(ncsnr) != sum(parcellation.num_vertices):
        raise InputError(
            f"The SNR map has {len(ncsnr)} vertices, but the parcellation was made for "
            f"{parcellation.num_vertices[0]} + {parcellation.num_vertices[1]}; use a parcellation "
            f"of the surface the responses are on."
        )
    result = np.full(len(parcellation), np.nan)
    for i in range(len(parcellation)):
        values = ncsnr[parcellation.cortex_indices(i)]
        values = values[~np.isnan(values)]
        if len(values):
            result[i] = values.mean(dtype=np.float64)
    return result


def select_regions(
    parcellation: Parcellation,
    ncsnr: Float[np.ndarray, " n"],
    p: int,
    per_hemisphere: bool = True,
) -> Parcellation:
    """The p regions of the highest mean noise-ceiling SNR.

    The result lists the left hemisphere's regions, then the right's, each by descending SNR, as
    the released code does; equal SNR keeps the parcellation's order. The paper takes p = 200 of
    Schaefer's 1,000 (arXiv 2509.23566).

    Args:
        parcellation: the regions to choose from.
        ncsnr: noise-ceiling SNR per vertex, left then right hemisphere; at least 0, or NaN where it
            is not known.
        p: how many regions, 1 to as many as there are; even with per_hemisphere.
        per_hemisphere: take p / 2 of each hemisphere (the released code); otherwise the best p of
            both together.

    Raises:
        InputError: p is odd with per_hemisphere, there are fewer regions, the SNR has another
            number of vertices, or the regions cannot be ranked or have no hemisphere.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, select_regions
        >>> vertices = tuple(np.array([i], np.int32) for i in (0, 1, 2, 0, 1))
        >>> hemispheres = ("lh", "lh", "lh", "rh", "rh")
        >>> atlas = Parcellation(("A", "B", "C", "D", "E"), hemispheres, vertices, (3, 2))
        >>> ncsnr = np.array([0.2, 0.9, 0.5, 0.1, 0.7])  # a vertex each, left then right
        >>> select_regions(atlas, ncsnr, p=2).names
        ('B', 'E')
        >>> select_regions(atlas, ncsnr, p=3, per_hemisphere=False).names
        ('B', 'C', 'E')
    """
    snr = region_snr(parcellation, ncsnr)
    if np.isnan(snr).all() and p < len(parcellation):
        raise InputError(
            f"Cannot take p = {p} of {len(parcellation)} regions: the data came without an SNR map "
            f"to rank them by; take all of them, or prepare the data with one."
        )
    order = np.argsort(-np.nan_to_num(snr, nan=-np.inf), kind="stable")
    return _best(parcellation, order, p, per_hemisphere)


def select_group_regions(
    parcellation: Parcellation,
    ncsnr: Sequence[Float[np.ndarray, " n"]],
    p: int,
    per_hemisphere: bool = True,
) -> Parcellation:
    """The p regions whose SNR ranks highest on average over subjects, for all of them.

    rank_u[i] = 1 for subject u's region of the highest SNR, 2 for the next; the regions with the
    lowest mean_u rank_u[i] are taken, in that order. Ranks count within a hemisphere with
    per_hemisphere, else over both. The released code does so over NSD's eight subjects, whichever
    it trains on; here the subjects given count.

    Mean ranks are often equal. Then the higher mean SNR decides, and last the first vertex, so
    that the choice does not depend on a file's order; the released code leaves it to its sort.

    Args:
        parcellation: the regions to choose from.
        ncsnr: one map of the noise-ceiling SNR per subject, left then right hemisphere; at least 0,
            or NaN where it is not known.
        p: how many regions, 1 to as many as there are; even with per_hemisphere.
        per_hemisphere: take p / 2 of each hemisphere (the released code); otherwise the best p of
            both together.

    Raises:
        InputError: p is odd with per_hemisphere, there are fewer regions, a map has another number
            of vertices, or the regions have no hemisphere.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, select_group_regions
        >>> vertices = tuple(np.array([i], np.int32) for i in range(3))
        >>> atlas = Parcellation(("A", "B", "C"), ("lh", "lh", "lh"), vertices, (3, 0))
        >>> subjects = [np.array([0.9, 0.8, 0.1]), np.array([0.2, 0.8, 0.9])]
        >>> select_group_regions(atlas, subjects, p=1, per_hemisphere=False).names  # second, second
        ('B',)
    """
    snr = np.stack([region_snr(parcellation, each) for each in ncsnr])
    snr = np.nan_to_num(snr, nan=-np.inf)
    first = np.array([v[0] for v in parcellation.vertices])
    hemispheres = np.array(parcellation.hemispheres)
    ranks = np.empty(snr.shape)
    groups = [np.arange(len(parcellation))]
    if per_hemisphere:
        groups = [np.flatnonzero(hemispheres == h) for h in HEMISPHERES]
    for own in groups:
        for subject, values in enumerate(snr[:, own]):
            ranks[subject, own[np.lexsort((first[own], -values))]] = np.arange(len(own))
    order = np.lexsort((hemispheres, first, -snr.mean(axis=0), ranks.sum(axis=0)))
    return _best(parcellation, order, p, per_hemisphere)


def _best(
    parcellation: Parcellation, order: Integer[np.ndarray, " N"], p: int, per_hemisphere: bool
) -> Parcellation:
    """The first p of an order from best to worst, the left hemisphere's before the right's."""
    sides = {
        h: [int(i) for i in order if parcellation.hemispheres[i] == h] for h in (*HEMISPHERES, BOTH)
    }
    if per_hemisphere:
        if sides.pop(BOTH):
            raise InputError(
                "Cannot take regions of each hemisphere: these are not told apart by hemisphere; "
                "set per_hemisphere to False."
            )
        fewest = min(len(side) for side in sides.values())
        if p < 2 or p % 2 or p // 2 > fewest:
            raise InputError(
                f"Cannot take p = {p} regions, half of them from each hemisphere: p must be even "
                f"and between 2 and {2 * fewest} with this parcellation."
            )
        return parcellation.subset(i for side in sides.values() for i in side[: p // 2])
    if not 1 <= p <= len(parcellation):
        raise InputError(
            f"Cannot take p = {p} regions from the {len(parcellation)} of this parcellation."
        )
    best = {int(i) for i in order[:p]}
    return parcellation.subset(i for side in sides.values() for i in side if i in best)


def shuffle_regions(regions: Parcellation, seed: int) -> Parcellation:
    """Regions of the same sizes over the same vertices, but without anatomical identity.

    Within each hemisphere the vertices of all regions are shuffled and dealt out again, so the
    model sees the same responses through as many tokens, and no token stands for a place. This is
    the control "without region structure"; the released code has no such option.

    Args:
        regions: the chosen regions, in token order.
        seed: of the order, at least 0.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.cortex.selection import shuffle_regions
        >>> a, b = np.array([0, 1, 2], np.int32), np.array([5, 6], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "lh"), (a, b), (9, 9))
        >>> shuffled = shuffle_regions(regions, seed=0)
        >>> shuffled.names, [len(v) for v in shuffled.vertices]
        (('shuffled_0', 'shuffled_1'), [3, 2])
        >>> sorted(np.concatenate(shuffled.vertices).tolist())
        [0, 1, 2, 5, 6]
    """
    rng = np.random.default_rng(seed)
    vertices = list(regions.vertices)
    for hemisphere in (*HEMISPHERES, BOTH):
        side = [i for i in range(len(regions)) if regions.hemispheres[i] == hemisphere]
        if not side:
            continue
        pool = rng.permutation(np.concatenate([regions.vertices[i] for i in side]))
        ends = np.cumsum([len(regions.vertices[i]) for i in side])
        for i, dealt in zip(side, np.split(pool, ends[:-1]), strict=True):
            vertices[i] = np.sort(dealt)
    names = tuple(f"shuffled_{i}" for i in range(len(regions)))
    return Parcellation(names, regions.hemispheres, tuple(vertices), regions.num_vertices)
