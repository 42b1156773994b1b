import numpy as np
import pytest
from scipy.spatial.distance import correlation
from scipy.stats import pearsonr

from neuroadapter_jax.metrics.pixels import (
    correlation_distance,
    correlation_matrix,
    pixel_correlation,
    ssim,
)


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


def test_the_matrix_is_numpys_whatever_the_block():
    rng = np.random.default_rng(5)
    a, b = rng.normal(3, 1, (5, 40009)), rng.normal(-2, 7, (3, 40009))
    b[0] += 5 * a[1]
    np.testing.assert_allclose(correlation_matrix(a, b), np.corrcoef(a, b)[:5, 5:], atol=1e-12)
    b[1] = 1 / 3  # constant: its centred values are rounding noise
    np.testing.assert_array_equal(correlation_matrix(a, b)[:, 1], 0)


def test_the_distance_is_scipys(as_user):
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(2, 7, 29)).astype(np.float32)
    expected = [correlation(p, q) for p, q in zip(a.astype(float), b.astype(float), strict=True)]
    np.testing.assert_allclose(correlation_distance(a, b), expected, atol=1e-12)
    with pytest.raises(ValueError, match=r"one shape \[b, f\], found \(7, 29\) and \(5, 29\)"):
        correlation_distance(a, b[:5])


def test_floats_score_as_bytes_do():
    a, b = pairs(7)
    for score in (pixel_correlation, ssim):
        np.testing.assert_allclose(score(a / 255, b / 255), score(a, b), atol=1e-12)


def test_ssim_is_scikit_images():
    pytest.importorskip("skimage")
    from skimage.color import rgb2gray
    from skimage.metrics import structural_similarity

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
    for wrong in ((a, b / 255), (a / 1.0, b / 255)):
        with pytest.raises(
            ValueError, match=r"must be uint8 in 0\.\.255, or both floats in 0\.\.1"
        ):
            score(*wrong)


def test_ssim_refuses_images_smaller_than_its_window():
    a, b = pairs(4, x=7)
    with pytest.raises(ValueError, match="at least 11 x 11 pixels, found 23 x 7"):
        ssim(a, b)
