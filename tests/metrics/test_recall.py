import itertools

import numpy as np
import pytest

from neuroadapter_jax.metrics.recall import (
    chance_recall,
    derangement,
    permuted_recall,
    semantic_counts,
    semantic_precision,
    semantic_recall,
)

#                 hit, another category, missed, false alarm
TRUTH = np.array([[3, 0, 5, -1], [-1, 2, -1, -1], [1, -1, -1, 4]], np.int8)
READ = np.array([[3, 1, -1, 2], [-1, 2, -1, -1], [0, -1, 1, 4]], np.int8)


def test_counts_of_a_case_worked_by_hand():
    hits, shown, claimed = semantic_counts(READ, TRUTH)
    assert (hits.tolist(), shown.tolist(), claimed.tolist()) == ([1, 1, 1], [3, 1, 2], [3, 1, 3])
    assert semantic_recall(READ, TRUTH) == 3 / 6
    assert semantic_precision(READ, TRUTH) == 3 / 7


def test_nothing_shown_or_read_has_no_score():
    nothing = np.full((2, 3), -1, np.int8)
    assert np.isnan(semantic_recall(TRUTH[:2, :3], nothing))
    assert np.isnan(chance_recall(TRUTH[:2, :3], nothing))
    assert np.isnan(semantic_precision(nothing, TRUTH[:2, :3]))


def test_chance_is_the_mean_over_all_permutations():
    rng = np.random.default_rng(0)
    truth, read = rng.integers(-1, 2, (2, 5, 3))
    every = [
        semantic_recall(read[list(order)], truth) for order in itertools.permutations(range(5))
    ]
    assert chance_recall(read, truth) == pytest.approx(np.mean(every), abs=1e-12)


def test_the_null_distribution_is_of_permuted_readings():
    rng = np.random.default_rng(1)
    truth, read = rng.integers(-1, 3, (2, 4, 5))
    every = [
        semantic_recall(read[list(order)], truth) for order in itertools.permutations(range(4))
    ]
    null = permuted_recall(read, truth, seed=2, num_permutations=4000)
    assert set(np.round(null, 9)) == set(np.round(every, 9))
    assert null.mean() == pytest.approx(np.mean(every), abs=0.01)
    assert null.std() == pytest.approx(np.std(every), rel=0.05)


@pytest.mark.parametrize("num_images", [2, 3, 101])
def test_a_derangement_moves_every_image(num_images):
    order = derangement(num_images, seed=3)
    assert sorted(order) == list(range(num_images))
    assert (order != np.arange(num_images)).all()
    if num_images > 3:
        assert (order != derangement(num_images, seed=4)).any()


def test_wrong_shapes_are_answered(as_user):
    with pytest.raises(ValueError, match=r"one shape \[b, slot\], found \(3, 4\) and \(2, 4\)"):
        semantic_recall(READ, TRUTH[:2])
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        derangement(1)
