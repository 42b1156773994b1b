import numpy as np
import pytest

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.ibbi.perturbation import (
    cumulative_sets,
    perturb,
    replace_responses,
    silence,
)

REGIONS = Parcellation(
    ("a", "b", "c"),
    ("lh", "lh", "rh"),
    tuple(np.array(v, np.int32) for v in ([0, 2], [1], [3, 4])),
    (5, 7),
)


def test_silenced_tokens_are_not_kept():
    keep = silence(np.array([True, False, False]), 2)
    assert keep.tolist() == [[False, True, True]] * 2


def test_responses_of_a_set_come_from_elsewhere(rng):
    fmri, other = rng.standard_normal((2, 3, 12))
    members = np.array([True, False, True])
    taken = [0, 2, 5 + 3, 5 + 4]
    left = [v for v in range(12) if v not in taken]
    swapped = replace_responses(fmri, REGIONS, members, other)
    np.testing.assert_array_equal(swapped[:, taken], other[:, taken])
    np.testing.assert_array_equal(swapped[:, left], fmri[:, left])
    mean = replace_responses(fmri, REGIONS, members)
    assert not mean[:, taken].any()
    np.testing.assert_array_equal(mean[:, left], fmri[:, left])
    np.testing.assert_array_equal(replace_responses(fmri, REGIONS, ~np.ones(3, bool)), fmri)


def test_each_sample_has_its_own_set_perturbed(rng, as_user):
    fmri, others = rng.standard_normal((2, 2, 12))
    members = np.array([[True, False, False], [False, True, True]])
    taken = [[0, 2], [1, 5 + 3, 5 + 4]]
    same, keep = perturb("silence", fmri, REGIONS, members, others)
    assert same is fmri and keep.tolist() == [[False, True, True], [True, False, False]]
    for kind, sources in (("mean", np.zeros((2, 12))), ("swap", others)):
        changed, keep = perturb(kind, fmri, REGIONS, members, others)
        assert keep.all() and keep.shape == (2, 3)
        for i in range(2):
            for v in range(12):
                assert changed[i, v] == (sources if v in taken[i] else fmri)[i, v]
    with pytest.raises(ValueError, match="perturbation is 'drop'; expected one of"):
        perturb("drop", fmri, REGIONS, members, others)


def test_cumulative_sets_run_from_none_to_all():
    order = np.array([3, 0, 4, 1, 2])
    found = list(cumulative_sets(order, 6))
    assert [share for share, _ in found] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert [np.flatnonzero(taken).tolist() for _, taken in found[:4]] == [
        [],
        [3],
        [0, 3],
        [0, 3, 4],
    ]
    assert found[-1][1].all()


def test_cumulative_sets_of_an_order_per_sample():
    order = np.array([[2, 0, 1], [0, 1, 2]])
    found = [taken.tolist() for _, taken in cumulative_sets(order, 4)]
    assert found[1] == [[False, False, True], [True, False, False]]
    assert found[2] == [[True, False, True], [True, True, False]]
