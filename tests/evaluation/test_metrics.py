import numpy as np
import pytest
from scipy.stats import pearsonr
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from neuroadapter_jax.evaluation.metrics import pixel_correlation, ssim


def pairs(seed, b=5, y=23, x=17):
    """Images and noisy versions of them."""
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 256, (b, y, x, 3))
    mixed = np.linspace(0, 1, b)[:, None, None, None]
    other = rng.integers(0, 256, a.shape)
    return a.astype(np.uint8), np.rint(mixed * a + (1 - mixed) * other).astype(np.uint8)


def test_pixel_correlation_is_scipys():
    a, b = pairs(0)
    expected = [pearsonr(p.ravel().astype(float), q.ravel())[0] for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(pixel_correlation(a, b), expected, atol=1e-12)
    assert expected[-1] == pytest.approx(1)


def test_a_constant_image_correlates_with_nothing():
    a, b = pairs(1)
    b[2] = 77
    assert pixel_correlation(a, b)[2] == 0
    assert np.isfinite(pixel_correlation(a, b)).all()


def test_ssim_is_scikit_images():
    a, b = pairs(2)
    b[1] = 130  # a constant image
    expected = [
        structural_similarity(
            rgb2gray(p),
            rgb2gray(q),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-10)


@pytest.mark.parametrize("score", [pixel_correlation, ssim])
def test_unequal_or_unsuited_stacks_are_refused(score, as_user):
    a, b = pairs(3)
    with pytest.raises(ValueError, match=r"one shape .*\(5, 23, 17, 3\) and \(4, 23, 17, 3\)"):
        score(a, b[:4])
    with pytest.raises(ValueError, match=r"must be uint8 in 0\.\.255, found uint8 and float64"):
        score(a, b / 255)


def test_ssim_refuses_images_smaller_than_its_window():
    a, b = pairs(4, x=7)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, found 23 x 7"):
        ssim(a, b)
