import numpy as np
import pytest
from scipy.stats import bootstrap

from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio


def test_the_mean_and_its_interval_are_scipys():
    values = np.random.default_rng(0).gamma(2, size=97)
    found = bootstrap_interval(values, seed=1, num_resamples=8000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found["value"] == pytest.approx(values.mean())
    # Quantiles of 8,000 resamples scatter by about 0.02 standard errors of the mean.
    error = values.std() / np.sqrt(97)
    np.testing.assert_allclose(found["interval"], expected, atol=0.15 * error)


def test_a_ratio_resamples_both_sums_together():
    rng = np.random.default_rng(3)
    below = rng.integers(1, 4, 89)
    above = rng.binomial(below, 0.7)
    found = bootstrap_ratio(above, below, seed=4, num_resamples=8000)
    expected = bootstrap(
        (above, below),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        paired=True,
        n_resamples=8000,
        method="percentile",
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert found["value"] == above.sum() / below.sum()
    np.testing.assert_allclose(found["interval"], expected, atol=0.006)
    # A sum divided by itself leaves nothing uncertain.
    assert bootstrap_ratio(below, below)["interval"] == [1, 1]


def test_the_seed_decides():
    values = np.random.default_rng(6).normal(size=31)
    assert bootstrap_interval(values, seed=7) == bootstrap_interval(values, seed=7)
    assert bootstrap_interval(values, seed=7) != bootstrap_interval(values, seed=8)


def test_nothing_below_gives_nothing():
    empty = bootstrap_ratio(np.zeros(5), np.zeros(5))
    assert empty == {"value": None, "interval": None}


def test_unsuited_values_are_refused(as_user):
    with pytest.raises(ValueError, match="finite values, found NaN"):
        bootstrap_interval(np.array([1, np.nan]))
    with pytest.raises(ValueError, match=r"at least one image, found arrays of shape \(0,\)"):
        bootstrap_interval(np.array([]))
    with pytest.raises(ValueError, match=r"shape \(3,\) and \(2,\)"):
        bootstrap_ratio(np.ones(3), np.ones(2))
