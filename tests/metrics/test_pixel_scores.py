import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.metrics.pixel_scores import pixel_scores

pytest.importorskip("skimage")
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity


def test_the_three_scores_are_those_of_other_libraries(rng):
    stimuli = rng.integers(0, 256, (5, 17, 19, 3), np.uint8)
    noisy = np.clip(stimuli + rng.normal(0, 90, stimuli.shape), 0, 255).astype(np.uint8)
    found = pixel_scores(stimuli, noisy)
    assert list(found) == ["two_way_pixels", "pixel_correlation", "ssim"]
    r = np.array([[stats.pearsonr(a.ravel(), b.ravel()).statistic for b in noisy] for a in stimuli])
    np.testing.assert_allclose(found["pixel_correlation"], np.diagonal(r))
    won = (r < np.diagonal(r)[None]).sum(axis=0) / 4
    np.testing.assert_array_equal(found["two_way_pixels"], won)
    for i in range(5):
        similarity = structural_similarity(
            rgb2gray(stimuli[i]),
            rgb2gray(noisy[i]),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
        )
        np.testing.assert_allclose(found["ssim"][i], similarity, atol=1e-4)
