import json

import numpy as np
import pytest

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.ibbi.matching import MatchRule, RegionTraits, match_sets

P = 61


@pytest.fixture
def traits(rng):
    """Regions of both hemispheres, whose places and sizes have nothing to do with their SNR."""
    return RegionTraits(
        rng.gamma(4.0, 0.1, P),
        rng.integers(20, 40, P),
        tuple(rng.permutation(["lh"] * 31 + ["rh"] * 30).tolist()),
        rng.normal(0, 50, (P, 3)),
    )


def set_of(*regions):
    return np.isin(np.arange(P), regions)


def test_matched_sets_meet_every_part_of_the_rule(traits, rng):
    members = set_of(*rng.permutation(P)[:7])
    found = match_sets(members, traits, 11, seed=3)
    assert found.matched and len(found.region_sets) == 11
    assert len(np.unique(found.region_sets, axis=0)) == 11
    assert not (found.region_sets & members).any()
    snr, side = traits.snr, np.array(traits.hemispheres)

    def distance(own):
        pairs = [
            np.linalg.norm(traits.centres[a] - traits.centres[b])
            for a in np.flatnonzero(own)
            for b in np.flatnonzero(own)
            if a < b and side[a] == side[b]
        ]
        return np.mean(pairs)

    mean, vertices = snr[members].mean(), traits.num_vertices
    for own in found.region_sets:
        assert own.sum() == 7
        assert abs(snr[own].mean() - mean) <= 0.1 * mean
        assert abs(snr[own].std() - snr[members].std()) <= 0.1 * mean
        assert abs(vertices[own].sum() / vertices[members].sum() - 1) <= 0.1
        assert (side[own] == "lh").sum() == (side[members] == "lh").sum()
        assert abs(distance(own) / distance(members) - 1) <= 0.5
    report = json.loads(json.dumps(found.report))
    assert report["mean_snr"]["own"] == pytest.approx(snr[members].mean())
    means = [snr[own].mean() for own in found.region_sets]
    assert report["mean_snr"]["mean"] == pytest.approx(np.mean(means))
    assert report["mean_snr"]["range"] == pytest.approx([min(means), max(means)])
    assert report["distance"]["own"] == pytest.approx(distance(members))
    assert report["failed"] == [] and report["num_sets"] == 11


def test_a_set_of_the_highest_snr_has_no_match(traits):
    """What made means of 0.92 and 0.63 pass for matched: the best third against the rest."""
    best = np.argsort(traits.snr)[-20:]
    found = match_sets(set_of(*best), traits, 5)
    assert not found.matched and "mean_snr" in found.report["failed"]
    nearest = found.report["mean_snr"]
    assert nearest["mean"] < 0.7 * nearest["own"] and len(found.region_sets) >= 1
    with pytest.raises(ValueError, match=r"V1 to V3: no set outside it is matched: mean SNR 0\."):
        found.require("V1 to V3")


def test_a_match_is_required_only_in_what_the_rule_names(rng):
    snr, sizes = np.full(P, 0.5), np.where(np.arange(P) < 5, 90, 30)
    traits = RegionTraits(snr, sizes, ("lh",) * 9 + ("rh",) * (P - 9))
    members = set_of(*range(5))
    assert match_sets(members, traits, 2).report["failed"] == ["num_vertices", "left_hemisphere"]
    loose = MatchRule(num_vertices=None, hemisphere=False)
    found = match_sets(members, traits, 2, loose)
    assert found.matched and found.require("it").sum(axis=1).tolist() == [5, 5]


def test_a_set_of_more_than_half_has_none(traits):
    found = match_sets(set_of(*range(40)), traits, 2)
    assert not found.matched and found.region_sets.shape == (0, P)
    assert "fewer regions lie outside it" in found.sentence()


def test_the_seed_decides(traits):
    members = set_of(1, 2, 3)
    one, again, other = (match_sets(members, traits, 3, seed=s).region_sets for s in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_traits_are_those_of_the_regions():
    nilearn = pytest.importorskip("nilearn.datasets")
    own = (np.array([3, 8], np.int32), np.array([0], np.int32))
    regions = Parcellation(("a", "b"), ("lh", "rh"), own, (10242, 10242))
    ncsnr = np.zeros(20484)
    ncsnr[[3, 8, 10242]] = 0.2, 0.6, 0.5
    traits = RegionTraits.of(regions, ncsnr)
    np.testing.assert_allclose(traits.snr, [0.4, 0.5])
    assert traits.num_vertices.tolist() == [2, 1] and traits.hemispheres == ("lh", "rh")
    sphere = nilearn.load_fsaverage("fsaverage5")["sphere"].parts
    np.testing.assert_allclose(
        traits.centres, [sphere["left"].coordinates[[3, 8]].mean(0), sphere["right"].coordinates[0]]
    )
    voxels = Parcellation(("a",), ("both",), (np.array([0], np.int32),), (3, 0))
    assert RegionTraits.of(voxels, np.ones(3)).centres is None


def test_unsuited_sets_are_refused(traits, as_user):
    with pytest.raises(ValueError, match="marks 0 of 61 regions"):
        match_sets(np.zeros(P, bool), traits, 1)
    with pytest.raises(ValueError, match="num_sets is 0"):
        match_sets(set_of(1), traits, 0)
    with pytest.raises(ValueError, match="1 regions have no SNR"):
        RegionTraits(np.array([1.0, np.nan]), np.ones(2, int), ("lh", "lh"))
    with pytest.raises(ValueError, match="one per region"):
        RegionTraits(np.ones(2), np.ones(3, int), ("lh", "lh"))
