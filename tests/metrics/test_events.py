import numpy as np
import pytest
from scipy.stats import binomtest

from neuroadapter_jax.metrics.events import event_share, share_difference


@pytest.mark.parametrize(("events", "images"), [(0, 23), (1, 23), (7, 23), (22, 23), (23, 23)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_with_one_trial_per_image_the_interval_is_clopper_and_pearsons(events, images, level):
    found = event_share(1.0 * (np.arange(images) < events), np.ones(images), level)
    expected = binomtest(events, images).proportion_ci(level, "exact")
    assert found["value"] == events / images
    np.testing.assert_allclose(found["interval"], [expected.low, expected.high], rtol=1e-9)


def test_events_that_come_together_count_once():
    """Five trials per image that all end alike tell no more than one trial per image."""
    once = np.arange(17) < 5
    found = event_share(5 * once, np.full(17, 5))
    expected = binomtest(5, 17).proportion_ci(method="exact")
    np.testing.assert_allclose(found["interval"], [expected.low, expected.high], rtol=1e-9)
    # Nor do five trials without an event, where images cannot vary.
    none = event_share(np.zeros(17), np.full(17, 5))
    np.testing.assert_allclose(none["interval"], [0, binomtest(0, 17).proportion_ci().high])


def test_the_interval_covers_the_share_of_clustered_events():
    """Images have shares of their own around 0.03; four trials each."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        own = rng.beta(0.3, 9.7, 61)
        low, high = event_share(rng.binomial(4, own), np.full(61, 4))["interval"]
        covered += low <= 0.03 <= high
    assert covered >= 0.93 * 400


def test_images_without_trials_do_not_count():
    events, trials = np.array([1, 0, 0, 2]), np.array([2, 0, 3, 2])
    assert event_share(events, trials) == event_share(events[trials > 0], trials[trials > 0])
    assert event_share(np.zeros(3), np.zeros(3)) == {"value": None, "interval": None}


def test_a_difference_of_shares_is_newcombes():
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 is 0.0524 to 0.3339 (Wilson's)."""
    shares = {}
    for k, n in ((56, 70), (48, 80)):
        wilson = binomtest(k, n).proportion_ci(method="wilson")
        shares[k] = {"value": k / n, "interval": [wilson.low, wilson.high]}
    found = share_difference(shares[56], shares[48])
    np.testing.assert_allclose(found["interval"], [0.0524, 0.3339], atol=5e-5)
    assert found["value"] == pytest.approx(0.2)


def test_a_difference_of_no_events_keeps_an_interval():
    none = event_share(np.zeros(11), np.ones(11))
    low, high = share_difference(none, none)["interval"]
    assert low == -high and high == none["interval"][1] > 0.2
    lacking = {"value": None, "interval": None}
    assert share_difference(none, lacking) == lacking


def test_impossible_numbers_of_events_are_refused(as_user):
    with pytest.raises(ValueError, match="more events than trials"):
        event_share(np.array([3.0]), np.array([2.0]))
    with pytest.raises(ValueError, match=r"Events have shape \(2,\) and trials \(3,\)"):
        event_share(np.ones(2), np.ones(3))
