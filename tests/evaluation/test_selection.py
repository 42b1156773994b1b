"""Gains of a choice, against hand-made candidates."""

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.evaluation.protocol import score_candidates
from neuroadapter_jax.evaluation.selection import selection_scores, selection_table


@pytest.fixture
def reconstructions(rng):
    """Three candidates with little, more and most noise, in a known order per image."""
    stimuli = rng.integers(0, 256, (23, 5, 7, 3), np.uint8)
    order = np.stack([rng.permutation(3) for _ in range(23)])
    noise = np.array([20.0, 60.0, 120.0])[order][..., None, None, None]
    noisy = stimuli[:, None] + noise * rng.standard_normal((23, 3, 5, 7, 3))
    return stimuli, np.clip(noisy, 0, 255).astype(np.uint8), order


def test_values_and_gains(reconstructions):
    stimuli, candidates, order = reconstructions
    best, worst = order.argmin(axis=1), order.argmax(axis=1)
    r = np.array(
        [
            [stats.pearsonr(image.ravel(), one.ravel()).statistic for one in several]
            for image, several in zip(stimuli, candidates, strict=True)
        ]
    )
    rank = -order.astype(float)
    result = selection_scores({"pixcorr": r, "rank": rank}, worst)
    found, rows = result["pixcorr"], np.arange(23)
    np.testing.assert_allclose(found["mean"]["value"], r.mean(), atol=1e-9)
    np.testing.assert_allclose(found["chosen"]["value"], r[rows, worst].mean(), atol=1e-9)
    np.testing.assert_allclose(found["oracle"]["value"], r[rows, best].mean(), atol=1e-9)
    gain = found["chosen"]["gain"]
    np.testing.assert_allclose(gain["value"], (r[rows, worst] - r.mean(axis=1)).mean(), atol=1e-9)
    assert gain["interval"][0] < gain["value"] < gain["interval"][1] < 0
    assert found["oracle"]["gain"]["interval"][0] > 0
    low, high = found["random"]["gain"]["interval"]
    assert low < 0 < high
    # The oracle goes by pixels, whatever the score.
    assert result["rank"]["oracle"]["value"] == 0 and result["rank"]["mean"]["value"] == -1
    header, _, *lines = selection_table(result, {"pixcorr": "PixCorr"}).splitlines()
    assert header.count("|") == lines[0].count("|") == 6 and len(lines) == 2
    assert lines[0].startswith(f"| PixCorr | {r.mean():.4f} | {r[rows, worst].mean():.4f}, -")


def test_each_candidate_is_scored_as_if_it_were_alone(rng):
    stimuli = rng.integers(0, 256, (5, 29, 29, 3), np.uint8)
    noise = rng.normal(0, 60, (5, 2, 29, 29, 3))
    candidates = np.clip(stimuli[:, None] + noise, 0, 255).astype(np.uint8)
    found = score_candidates(stimuli, candidates, convention="neuroadapter", networks=())
    assert found.keys() == {"pixcorr", "ssim"}
    torch = pytest.importorskip("torch")
    large = [
        torch.nn.functional.interpolate(
            torch.from_numpy(x).movedim(-1, 1) / 255, (425, 425), mode="bilinear"
        )
        for x in (stimuli, candidates[:, 1])
    ]
    r = [stats.pearsonr(a.ravel(), b.ravel()).statistic for a, b in zip(*large, strict=True)]
    np.testing.assert_allclose(found["pixcorr"][:, 1], r, atol=1e-4)
