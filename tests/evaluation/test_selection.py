"""Gains of a choice, against hand-made candidates."""

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.evaluation.selection import selection_scores


@pytest.fixture
def drawn(rng):
    """Three candidates with little, more and most noise, in a known order per image."""
    seen = rng.integers(0, 256, (23, 5, 7, 3), np.uint8)
    order = np.stack([rng.permutation(3) for _ in range(23)])
    noise = np.array([20.0, 60.0, 120.0])[order][..., None, None, None]
    noisy = seen[:, None] + noise * rng.standard_normal((23, 3, 5, 7, 3))
    return seen, np.clip(noisy, 0, 255).astype(np.uint8), order


def test_values_and_gains(drawn):
    seen, candidates, order = drawn
    best, worst = order.argmin(axis=1), order.argmax(axis=1)
    found = selection_scores(seen, candidates, worst)["pixel_correlation"]
    r = np.array(
        [
            [stats.pearsonr(image.ravel(), one.ravel()).statistic for one in several]
            for image, several in zip(seen, candidates, strict=True)
        ]
    )
    rows = np.arange(23)
    np.testing.assert_allclose(found["mean"]["value"], r.mean(), atol=1e-9)
    np.testing.assert_allclose(found["chosen"]["value"], r[rows, worst].mean(), atol=1e-9)
    np.testing.assert_allclose(found["oracle"]["value"], r[rows, best].mean(), atol=1e-9)
    gain = found["chosen"]["gain"]
    np.testing.assert_allclose(gain["value"], (r[rows, worst] - r.mean(axis=1)).mean(), atol=1e-9)
    assert gain["interval"][0] < gain["value"] < gain["interval"][1] < 0
    assert found["oracle"]["gain"]["interval"][0] > 0
    low, high = found["random"]["gain"]["interval"]
    assert low < 0 < high


def test_further_scores_are_taken_alike(drawn):
    seen, candidates, order = drawn
    own = {"rank": -order.astype(float)}
    found = selection_scores(seen, candidates, order.argmin(axis=1), further=own)["rank"]
    assert found["chosen"]["value"] == 0 and found["mean"]["value"] == -1
    assert found["chosen"]["gain"]["value"] == 1
