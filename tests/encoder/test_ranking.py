"""Ranking by masked correlation, against SciPy; what no evidence decides nothing."""

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.encoder.ranking import (
    best_candidates,
    choose,
    masked_correlation,
    pairwise_correlation,
)

N = 101


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    a = 5.0 + 3.0 * rng.standard_normal((2, 3, N)).astype(np.float32)
    b = rng.standard_normal((2, 1, N)).astype(np.float32) + 0.2 * a[:, :1]
    return a, b, rng.random(N) < 0.6


def test_correlation_is_pearsons_over_the_mask(pair):
    a, b, mask = pair
    found = np.asarray(masked_correlation(a, b, mask))
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            expected = stats.pearsonr(a[i, j, mask], b[i, 0, mask]).statistic
            np.testing.assert_allclose(found[i, j], expected, atol=1e-5)


def test_nan_leaves_a_vertex_out_of_its_pair_alone(pair):
    a, b, mask = pair
    whole = np.asarray(masked_correlation(a, b, mask))
    gone = np.flatnonzero(mask)[[0, 7]]
    a[1, 2, gone] = np.nan, np.inf
    found = np.array(masked_correlation(a, b, mask))
    rest = mask.copy()
    rest[gone] = False
    expected = stats.pearsonr(a[1, 2, rest], b[1, 0, rest]).statistic
    np.testing.assert_allclose(found[1, 2], expected, atol=1e-5)
    found[1, 2] = whole[1, 2]
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e4])
def test_a_constant_has_no_correlation(pair, value):
    a, b, mask = pair
    a[0, 1] = value
    found = np.asarray(masked_correlation(a, b, mask))
    assert np.isnan(found[0, 1]) and np.isfinite(np.delete(found, 1)).all()
    assert np.isnan(masked_correlation(b, np.full_like(b, value), mask)).all()


def test_a_single_vertex_has_no_correlation(pair):
    a, b, _ = pair
    assert np.isnan(masked_correlation(a, b, np.arange(N) == 3)).all()


@pytest.mark.parametrize("scale", [1e-18, 1e15])
def test_units_do_not_matter(pair, scale):
    a, b, mask = pair
    np.testing.assert_allclose(
        masked_correlation(a * np.float32(scale), b, mask),
        masked_correlation(a, b, mask),
        atol=1e-5,
    )


def test_choice():
    nan = np.nan
    scores = np.array([[0.1, 0.3, 0.3], [nan, -0.5, nan], [nan, nan, nan], [0.2, nan, 0.1]])
    assert choose(scores).tolist() == [1, 1, 0, 0]


def test_equals_are_chosen_in_their_order_though_their_last_bits_differ():
    nan, bit = np.nan, 1e-7
    scores = np.array(
        [
            [0.3, 0.3 + bit, 0.1, 0.3 + 2 * bit],
            [0.1, 0.2 - bit, 0.2, 0.2 + bit],
            [nan, -0.5, nan, -0.5 + bit],
            [nan] * 4,
        ]
    )
    assert choose(scores).tolist() == [0, 1, 1, 0]
    assert best_candidates(scores, 3).tolist() == [[0, 1, 3], [1, 2, 3], [1, 3, 0], [0, 1, 2]]
    # What differs by more than rounding is in order of the scores.
    apart = np.array([[0.1, 0.10002, 0.10004]])
    assert best_candidates(apart, 3).tolist() == [[2, 1, 0]]


def test_all_pairs_at_once(pair):
    a, b, mask = pair
    a, b = a.reshape(6, N)[:, mask], b.reshape(2, N)[:, mask]
    b = np.concatenate([b, np.full((1, mask.sum()), 0.1, np.float32)])
    found = np.asarray(pairwise_correlation(a, b))
    for i in range(6):
        for j in range(2):
            np.testing.assert_allclose(found[i, j], stats.pearsonr(a[i], b[j]).statistic, atol=1e-5)
    assert np.isnan(found[:, 2]).all()
