import itertools

import numpy as np
import pytest
from scipy.stats import wilcoxon

from neuroadapter_jax.metrics.comparisons import (
    correct_family,
    holm,
    paired_difference,
    sign_flip_p,
)


def test_the_sign_flip_test_tries_all_patterns():
    differences = np.array([0.4, -0.1, 0.3, 0.9, 0.2, -0.3, 0.7])
    patterns = np.array(list(itertools.product([-1, 1], repeat=7)))
    as_large = np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-12
    assert sign_flip_p(differences) == pytest.approx(as_large.mean())


def test_with_ranks_it_is_wilcoxons_test():
    ranks = np.array([1.0, -2, 3, 4, -5, 6, 7, 8])
    assert sign_flip_p(ranks) == pytest.approx(wilcoxon(ranks, method="exact").pvalue)


def test_false_alarms_are_as_many_as_they_may_be():
    rng = np.random.default_rng(0)
    p = [sign_flip_p(rng.standard_t(3, 29), num_resamples=199) for _ in range(300)]
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09


def test_nothing_differs_where_all_differences_are_nought():
    assert sign_flip_p(np.zeros(13)) == 1
    assert sign_flip_p(np.array([2.0])) == 1


def test_a_paired_difference_has_its_interval_and_probability():
    rng = np.random.default_rng(1)
    other = rng.normal(size=37)
    found = paired_difference(other + 0.5, other)
    np.testing.assert_allclose([found["value"], *found["interval"]], 0.5)
    assert found["p"] == pytest.approx(2 / 10_000)


def test_holms_adjustment_is_rs():
    """R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), and shuffled, tied and large ones."""
    np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.04, 0.05]), [0.05, 0.08, 0.09, 0.09, 0.09])
    np.testing.assert_allclose(holm([0.04, 0.001, 0.04, 0.6]), [0.12, 0.004, 0.12, 0.6])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1, 1])
    assert holm([]) == []


def test_holm_rejects_what_stepping_down_rejects():
    rng = np.random.default_rng(2)
    for _ in range(50):
        p = rng.random(7) ** 3
        rejected = np.zeros(7, bool)
        for step, i in enumerate(np.argsort(p)):
            if p[i] > 0.05 / (7 - step):
                break
            rejected[i] = True
        np.testing.assert_array_equal(np.array(holm(p)) <= 0.05, rejected)


def test_a_family_is_corrected_in_place():
    tests = [{"p": 0.01}, {"p": 0.04}]
    assert correct_family(tests) == 2
    assert [test["p_holm"] for test in tests] == [0.02, 0.04]


def test_unsuited_values_are_refused(as_user):
    with pytest.raises(ValueError, match="one finite number per image"):
        sign_flip_p(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="numbers from 0 to 1"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="expected those of the same images"):
        paired_difference(np.ones(3), np.ones(2))


def test_holm_is_the_closed_test_with_bonferroni(rng):
    """A hypothesis is rejected where every set that holds it is, by size times its smallest p."""
    p = [*rng.random(4).tolist(), 0.004, 0.004]
    sets = [s for n in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), n)]
    closed = [
        min(1.0, max(len(s) * min(p[j] for j in s) for s in sets if i in s)) for i in range(len(p))
    ]
    np.testing.assert_allclose(holm(p), closed)
