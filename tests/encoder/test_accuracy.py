"""Encoding accuracy against SciPy and closed forms."""

import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.encoder.accuracy import (
    encoding_accuracy,
    noise_ceiling,
    normalised_accuracy,
    vertex_correlation,
)

IMAGES, N = 29, 11


@pytest.fixture
def responses(rng):
    measured = rng.standard_normal((IMAGES, N)).astype(np.float32)
    predicted = measured * np.linspace(0, 1, N) + rng.standard_normal((IMAGES, N))
    return predicted.astype(np.float32), measured


def test_correlation_per_vertex(responses):
    predicted, measured = responses
    found = vertex_correlation(predicted, measured)
    expected = [stats.pearsonr(predicted[:, v], measured[:, v]).statistic for v in range(N)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_constant_or_not_finite_has_no_correlation(responses):
    predicted, measured = responses
    whole = vertex_correlation(predicted, measured)
    predicted[:, 2], measured[:, 5], measured[7, 8], predicted[3, 9] = 1.7, 0.0, np.nan, np.inf
    found = vertex_correlation(predicted, measured)
    lost = [2, 5, 8, 9]
    np.testing.assert_array_equal(found[lost], 0)
    rest = np.setdiff1d(np.arange(N), lost)
    np.testing.assert_allclose(found[rest], whole[rest], atol=1e-6)


def test_the_ceiling_is_what_the_best_model_reaches(rng):
    """A model that knows the signal, correlated with averages of noisy trials."""
    ncsnr = np.array([0.3, 0.8, 1.5], np.float32)
    signal = rng.standard_normal((40_009, 3)) * ncsnr
    noise = rng.standard_normal((3, *signal.shape))
    for trials in (1, 3):
        reached = vertex_correlation(signal, signal + noise[:trials].mean(axis=0))
        np.testing.assert_allclose(noise_ceiling(ncsnr, trials), reached, atol=0.01)
    assert noise_ceiling(np.array([np.nan, 0.0], np.float32), 3).tolist() == [0, 0]


def test_explained_share():
    r = np.array([0.5, -0.4, 0.9, 0.2], np.float32)
    ceiling = np.array([0.7, 0.6, 0.8, 0.0], np.float32)
    found = normalised_accuracy(r, ceiling)
    np.testing.assert_allclose(found[:3], [0.25 / 0.49, 0, 1], atol=1e-6)
    assert np.isnan(found[3])


def test_the_summary_names_rois(responses):
    predicted, measured = responses
    ncsnr = np.where(np.arange(N) % 2, 2.0, 0.1).astype(np.float32)
    roi = np.array(["", "V1", "V1", "FFA", "", "", "FFA", "FFA", "", "", ""])
    found, r = encoding_accuracy(predicted, measured, ncsnr, 3, roi)
    expected = vertex_correlation(predicted, measured)
    np.testing.assert_array_equal(r, expected)
    ceiling = np.sqrt(4 / (4 + 1 / 3))
    odd = np.arange(N) % 2 == 1
    assert found["predictable"]["num_vertices"] == 5
    np.testing.assert_allclose(
        [found["predictable"][k] for k in ("correlation", "ceiling", "correlation_over_ceiling")],
        [np.median(expected[odd]), ceiling, np.median(expected[odd]) / ceiling],
        rtol=1e-5,
    )
    assert found["rois"].keys() == {"V1", "FFA"}
    np.testing.assert_allclose(
        found["rois"]["FFA"]["correlation"], np.median(expected[[3, 6, 7]]), rtol=1e-6
    )
    np.testing.assert_allclose(
        found["median_correlation_without_roi"], np.median(expected[roi == ""]), rtol=1e-6
    )
