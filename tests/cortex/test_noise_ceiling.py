import numpy as np
import pytest

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling, explainable_variance


def test_equals_the_published_formula_in_plain_loops():
    rng = np.random.default_rng(3)
    # 13 images three times, 2 images once; 41 trials in sessions of 17, 11 and 13.
    images = rng.permutation(np.concatenate([np.repeat(np.arange(13), 3), [50, 51]]))
    betas = rng.normal(size=(41, 7)) + 2 * rng.normal(size=(60, 7))[images] * np.arange(7) / 3
    sessions = np.split(betas * 3 + 1, [17, 28])

    expected = []
    for vertex in range(7):
        z = []
        for session in sessions:
            column = session[:, vertex]
            mean = sum(column) / len(column)
            sd = (sum((x - mean) ** 2 for x in column) / (len(column) - 1)) ** 0.5
            z += [(x - mean) / sd for x in column]
        variances = []
        for image in range(13):
            repeats = [z[t] for t in range(41) if images[t] == image]
            mean = sum(repeats) / 3
            variances.append(sum((x - mean) ** 2 for x in repeats) / 2)
        noise = (sum(variances) / 13) ** 0.5
        expected.append(max(0, 1 - noise**2) ** 0.5 / noise)

    ceiling = NoiseCeiling(images, num_vertices=7)
    for session in sessions:
        ceiling.add(session.astype(np.float32))
    np.testing.assert_allclose(ceiling.ncsnr(), expected, rtol=2e-5, atol=1e-6)
    assert min(expected) == 0 and max(expected) > 2


def test_constant_vertices_are_nan_and_misuse_is_refused():
    ceiling = NoiseCeiling(np.array([0, 1, 0, 1]), num_vertices=2, num_repeats=2)
    with pytest.raises(ValueError, match="Only 0 of 4 trials"):
        ceiling.ncsnr()
    ceiling.add(np.array([[0, 1], [0, 2], [0, 1.1], [0, 2.2]]))
    with np.errstate(invalid="ignore"):
        assert np.isnan(ceiling.ncsnr()).tolist() == [True, False]
    with pytest.raises(ValueError, match="only 0 are left of the 4"):
        ceiling.add(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="shown 3 times"):
        NoiseCeiling(np.array([0, 1, 0, 1]), num_vertices=2)


def test_ceilings_of_one_two_three_and_mixed_repeats():
    ncsnr = np.array([0, 0.49, 1.7, np.nan])
    for k in (1, 2, 3):  # signal of variance ncsnr^2, noise of variance 1, averaged over k trials
        expected = ncsnr**2 / (ncsnr**2 + 1 / k)
        np.testing.assert_allclose(explainable_variance(ncsnr, np.full(5, k)), expected)
    mixed = np.array([3] * 7 + [2] * 5 + [1] * 2)
    expected = ncsnr**2 / (ncsnr**2 + (7 / 3 + 5 / 2 + 2 / 1) / 14)
    np.testing.assert_allclose(explainable_variance(ncsnr, mixed), expected)
    # As published for subject 1: a median ncsnr of 0.490 is a ceiling of 41.9 %.
    assert round(100 * explainable_variance(ncsnr, np.array([3]))[1], 1) == 41.9
    with pytest.raises(ValueError, match="at least one trial each"):
        explainable_variance(ncsnr, np.array([3, 0]))
