"""Depth and colour distances against scikit-learn, SciPy and closed forms."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from sklearn.metrics import (
    mean_absolute_percentage_error,
    root_mean_squared_error,
    root_mean_squared_log_error,
)

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.colour import colour_errors, colour_palette
from neuroadapter_jax.metrics.depth import depth_errors


def test_depth_errors_are_scikit_learns_over_the_pixels_with_a_depth(rng):
    truth = rng.uniform(0.3, 1.0, (3, 5, 7))
    truth[:, 0] = 0.0  # the sky
    depth = rng.uniform(0.2, 1.2, truth.shape)
    errors = depth_errors(depth, truth)
    for i in range(3):
        t, d = truth[i, 1:].ravel(), depth[i, 1:].ravel()
        assert errors["depth_abs_rel"][i] == pytest.approx(mean_absolute_percentage_error(t, d))
        assert errors["depth_rmse"][i] == pytest.approx(root_mean_squared_error(t, d))
        # scikit-learn's logarithm is of 1 + x, so both are made large.
        assert errors["depth_rmse_log"][i] == pytest.approx(
            root_mean_squared_log_error(1e9 * t - 1, 1e9 * d - 1)
        )
        assert errors["depth_sq_rel"][i] == pytest.approx(np.average((d - t) ** 2, weights=1 / t)
                                                          * (1 / t).mean())  # fmt: skip


def test_a_map_without_depth_and_a_negative_depth_are_refused():
    ones = np.ones((2, 3, 3))
    with pytest.raises(InputError, match="image 1"):
        depth_errors(ones, ones * np.array([1, 0])[:, None, None])
    with pytest.raises(InputError, match="negative"):
        depth_errors(-ones, ones)


def test_cd_is_hellingers_distance_of_numpys_histograms(rng):
    a, b = rng.integers(0, 256, (2, 3, 11, 13, 3), np.uint8)
    found = colour_errors(a, b)["colour_cd"]
    edges = [np.linspace(0, 256, 9)] * 3
    for i in range(3):
        p, q = (np.histogramdd(x[i].reshape(-1, 3), edges)[0].ravel() / (11 * 13) for x in (a, b))
        hellinger = np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / np.sqrt(2)
        assert found[i] == pytest.approx(hellinger)


def test_stress_is_the_sine_of_the_angle_between_palettes(rng):
    a, b = rng.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
    found = colour_errors(a, b)["colour_stress"]
    for i in range(3):
        pair = (colour_palette(x[i : i + 1]).ravel().astype(float) for x in (a, b))
        assert found[i] == pytest.approx(np.sqrt(1 - (1 - cosine(*pair)) ** 2))


def test_the_same_image_has_no_distance_and_a_darker_one_has_no_stress():
    image = np.full((1, 16, 16, 3), (40, 80, 120), np.uint8)
    same, darker = colour_errors(image, image), colour_errors(image, image // 2)
    assert same["colour_cd"][0] == same["colour_stress"][0] == 0.0
    assert darker["colour_cd"][0] == 1.0 and darker["colour_stress"][0] < 1e-7


def test_black_has_full_stress_against_anything_but_black():
    black, white = np.zeros((2, 1, 16, 16, 3), np.uint8)
    white[:] = 255
    assert colour_errors(black, white)["colour_stress"][0] == 1.0
    assert colour_errors(white, black)["colour_stress"][0] == 1.0
    assert colour_errors(black, black)["colour_stress"][0] == 0.0
