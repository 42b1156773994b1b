import numpy as np
import pytest
from scipy.stats import rankdata

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.selection import (
    region_snr,
    select_group_regions,
    select_regions,
    shuffle_regions,
)

SETS = [("lh", [0, 3]), ("rh", [1, 2]), ("lh", [1]), ("rh", [0]), ("lh", [4, 2]), ("rh", [3, 4])]
PARCELS = Parcellation(
    names=tuple(f"r{i}" for i in range(len(SETS))),
    hemispheres=tuple(h for h, _ in SETS),
    vertices=tuple(np.array(sorted(v), np.int32) for _, v in SETS),
    num_vertices=(5, 7),
)
NCSNR = np.array([0.1, 0.9, np.nan, 0.5, 0.4, 2.0, 0.2, 0.4, np.nan, np.nan, 7, 7], np.float32)


def test_region_snr_leaves_nan_vertices_out():
    np.testing.assert_allclose(
        region_snr(PARCELS, NCSNR), [0.3, 0.3, 0.9, 2.0, 0.4, np.nan], rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"11 vertices.*5 . 7"):
        region_snr(PARCELS, NCSNR[:-1])


def test_selection_order():
    assert select_regions(PARCELS, NCSNR, 4).names == ("r2", "r4", "r3", "r1")
    assert select_regions(PARCELS, NCSNR, 3, per_hemisphere=False).names == ("r2", "r4", "r3")
    # All-NaN regions come last.
    assert select_regions(PARCELS, NCSNR, 6).names[-1] == "r5"
    flat = np.ones(12, np.float32)
    assert select_regions(PARCELS, flat, 4).names == ("r0", "r2", "r1", "r3")


@pytest.mark.parametrize(("p", "per_hemisphere"), [(3, True), (8, True), (0, True), (7, False)])
def test_impossible_numbers_are_refused(p, per_hemisphere):
    with pytest.raises(ValueError, match=f"p = {p} regions"):
        select_regions(PARCELS, NCSNR, p, per_hemisphere)


def test_shuffled_regions_keep_sizes_and_vertices_of_each_hemisphere():
    sizes, side = [31, 53, 17, 61, 37], {"lh": [0, 2, 4], "rh": [1, 3]}
    order = np.random.default_rng(1).permutation(211).astype(np.int32)
    sets = tuple(np.sort(v) for v in np.split(order[: sum(sizes)], np.cumsum(sizes)[:-1]))
    regions = Parcellation(tuple("abcde"), ("lh", "rh", "lh", "rh", "lh"), sets, (211, 223))
    shuffled = shuffle_regions(regions, seed=3)
    assert shuffled.hemispheres == regions.hemispheres
    assert [len(v) for v in shuffled.vertices] == sizes
    for own in side.values():
        before, after = (
            np.sort(np.concatenate([r.vertices[i] for i in own])) for r in (regions, shuffled)
        )
        np.testing.assert_array_equal(after, before)
        for i in own:
            # A random set of this size: hypergeometric, here within five standard deviations.
            n, m = len(before), sizes[i]
            deviation = (m * m / n * (n - m) / n * (n - m) / (n - 1)) ** 0.5
            overlap = len(np.intersect1d(shuffled.vertices[i], regions.vertices[i]))
            assert abs(overlap - m * m / n) < 5 * deviation
    assert shuffle_regions(regions, 3).fingerprint() == shuffled.fingerprint()
    assert shuffle_regions(regions, 4).fingerprint() != shuffled.fingerprint()


# ---- one choice for several subjects


def many_regions(seed, count=53, size=3):
    """Regions of equal size, left and right in turn; the second half of the vertices is empty."""
    rng = np.random.default_rng(seed)
    sides = tuple("lr"[i % 2] + "h" for i in range(count))
    pools = {h: np.split(rng.permutation(size * count), count) for h in ("lh", "rh")}
    vertices = tuple(np.sort(pools[h][i]).astype(np.int32) for i, h in enumerate(sides))
    return Parcellation(tuple(f"r{i}" for i in range(count)), sides, vertices, (size * count,) * 2)


@pytest.mark.parametrize("per_hemisphere", [True, False])
def test_group_choice_is_by_mean_rank(per_hemisphere):
    parcels, rng = many_regions(3), np.random.default_rng(4)
    maps = [rng.gamma(2, 0.2, 2 * 159).astype(np.float32) * 10**k for k in range(4)]
    maps[1][parcels.cortex_indices(5)] = np.nan  # a region without a number comes last there
    snr = np.array([[np.mean(m[parcels.cortex_indices(i)]) for i in range(53)] for m in maps])
    snr[1, 5] = -1
    sides = np.array(parcels.hemispheres)
    ranks = np.zeros((4, 53))
    for side in ("lh", "rh") if per_hemisphere else (None,):
        own = sides == side if side else sides != ""
        ranks[:, own] = rankdata(-snr[:, own], axis=1)
    mean = ranks.mean(axis=0)
    chosen = select_group_regions(parcels, maps, 20, per_hemisphere)
    index = [int(name[1:]) for name in chosen.names]
    left = [i for i in index if sides[i] == "lh"]
    assert index == left + [i for i in index if sides[i] == "rh"]
    for own in (left, index[len(left) :]):
        assert (np.diff(mean[own]) >= 0).all()
    if per_hemisphere:
        assert len(left) == 10
        for side, own in (("lh", left), ("rh", index[10:])):
            rest = np.setdiff1d(np.flatnonzero(sides == side), own)
            assert mean[own].max() <= mean[rest].min()
    else:
        assert mean[index].max() <= mean[np.setdiff1d(np.arange(53), index)].min()
    # Not what the mean of the maps would give: the last subject's would decide alone.
    assert set(index) != {
        int(n[1:]) for n in select_regions(parcels, maps[-1], 20, per_hemisphere).names
    }
    assert (
        select_group_regions(parcels, maps[:1], 20).names
        == select_regions(parcels, maps[0], 20).names
    )


def test_equal_mean_ranks_do_not_fall_to_the_order_of_the_file():
    parcels, rng = many_regions(3), np.random.default_rng(6)
    maps = [rng.integers(0, 3, 2 * 159).astype(np.float32) for _ in range(2)]  # many ties
    order = rng.permutation(53)
    one = select_group_regions(parcels, maps, 10)
    other = select_group_regions(parcels.subset(order), maps, 10)
    assert one.names == other.names
    with pytest.raises(ValueError, match="p = 3 regions"):
        select_group_regions(parcels, maps, 3)
