import jax
import numpy as np
import pytest
import scipy.stats

from neuroadapter_jax.adapter.token_dropout import keep_mask

B, P = 30_011, 7


def kept(rate, drop_all=0.0):
    return np.asarray(keep_mask(jax.random.key(5), (B, P), rate, drop_all))


def assert_counts(mask, expected):
    """Kept tokens per sample against their exact distribution over 0 ... p."""
    counts = np.bincount(mask.sum(axis=1), minlength=P + 1)
    assert scipy.stats.chisquare(counts, B * np.asarray(expected)).pvalue > 1e-3


def test_uniform_rate_keeps_every_number_of_tokens_equally_often():
    mask = kept("uniform")
    # The binomial mixed over r ~ U(0, 1): C(p, k) B(k + 1, p - k + 1) = 1 / (p + 1).
    assert_counts(mask, np.full(P + 1, 1 / (P + 1)))
    # Two tokens share their sample's rate: E[(1 - r)^2] = 1 / 3; one alone stays half the time.
    joint = (mask.T.astype(np.float64) @ mask) / B
    expected = np.full((P, P), 1 / 3) + np.eye(P) / 6
    np.testing.assert_allclose(joint, expected, atol=5 * 0.5 / B**0.5)


@pytest.mark.parametrize("rate", [0.23, 0.5])
def test_fixed_rate_is_binomial(rate):
    mask = kept(rate)
    assert_counts(mask, scipy.stats.binom.pmf(np.arange(P + 1), P, 1 - rate))
    np.testing.assert_allclose(mask.mean(axis=0), 1 - rate, atol=5 * 0.5 / B**0.5)


@pytest.mark.parametrize("rate", [0.23, "uniform"])
def test_some_samples_lose_every_token(rate):
    without = np.full(P + 1, 1 / (P + 1))
    if rate != "uniform":
        without = scipy.stats.binom.pmf(np.arange(P + 1), P, 1 - rate)
    assert_counts(kept(rate, drop_all=0.3), 0.7 * without + 0.3 * (np.arange(P + 1) == 0))


@pytest.mark.parametrize(("rate", "keeps"), [(0.0, True), (1.0, False)])
def test_the_ends(rate, keeps):
    assert np.all(kept(rate) == keeps)


@pytest.mark.parametrize("rate", [-0.1, 1.5, "often", None, float("nan")])
def test_another_rate_is_refused(as_user, rate):
    with pytest.raises(ValueError, match=r"drop_rate is .*; expected 'uniform' or a number from 0"):
        kept(rate)


@pytest.mark.parametrize("drop_all", [-0.1, 1.5, "0.1", None])
def test_another_share_without_tokens_is_refused(as_user, drop_all):
    with pytest.raises(ValueError, match=r"drop_all is .*; expected a number from 0 to 1"):
        kept(0.5, drop_all)
