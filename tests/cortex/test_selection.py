import numpy as np
import pytest

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.selection import region_snr, select_regions

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
