"""Top-1 retrieval against a plain loop over SciPy's cosine distance."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.metrics.retrieval import retrieval_top1


@pytest.fixture
def embeddings(rng):
    true = rng.standard_normal((23, 5, 3))
    return true + 1.1 * rng.standard_normal(true.shape), true


def test_with_one_pool_it_is_the_share_of_nearest_neighbours_by_scipy(embeddings):
    predicted, true = embeddings
    distance = cdist(predicted.reshape(23, -1), true.reshape(23, -1), "cosine")
    forward = (distance.argmin(axis=1) == np.arange(23)).mean()
    backward = (distance.argmin(axis=0) == np.arange(23)).mean()
    result, per_image = retrieval_top1(predicted, true)
    assert 0 < forward < 1 and forward != backward  # so that neither stands for the other
    assert result["forward"]["value"] == pytest.approx(forward)
    assert result["backward"]["value"] == pytest.approx(backward)
    assert (result["pool"], result["repeats"], result["chance"]) == (23, 1, 1 / 23)
    assert np.array_equal(per_image["forward"], distance.argmin(axis=1) == np.arange(23))
    low, high = result["forward"]["interval"]
    assert low < forward < high


def test_smaller_pools_are_easier_and_chance_is_theirs(embeddings):
    predicted, true = embeddings
    small, _ = retrieval_top1(predicted, true, pool=3, repeats=101)
    large, _ = retrieval_top1(predicted, true, pool=23)
    assert (small["pool"], small["repeats"], small["chance"]) == (3, 101, 1 / 3)
    assert small["forward"]["value"] > large["forward"]["value"]
    assert small["forward"]["standard_deviation"] > 0


def test_unrelated_embeddings_are_at_chance(rng):
    predicted, true = rng.standard_normal((2, 997, 7))
    result, _ = retrieval_top1(predicted, true, pool=5, repeats=30)
    assert abs(result["forward"]["value"] - 0.2) < 0.05


def test_equal_embeddings_are_misses():
    result, _ = retrieval_top1(np.ones((7, 3)), np.ones((7, 3)))
    assert result["forward"]["value"] == result["backward"]["value"] == 0.0


def test_what_does_not_fit_is_refused(as_user, rng):
    with pytest.raises(InputError, match="one shape"):
        retrieval_top1(rng.standard_normal((3, 5)), rng.standard_normal((3, 7)))
    with pytest.raises(InputError, match="pool of 1"):
        retrieval_top1(np.eye(3), np.eye(3), pool=1)
    with pytest.raises(NotFiniteError):
        retrieval_top1(np.full((3, 3), np.nan), np.eye(3))
