import numpy as np
import pytest

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.selection import region_snr, select_regions, shuffle_regions

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
