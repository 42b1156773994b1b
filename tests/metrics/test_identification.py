import numpy as np
import pytest

from neuroadapter_jax.errors import NotFiniteError
from neuroadapter_jax.metrics.identification import set_two_way, two_way, two_way_pixels
from neuroadapter_jax.metrics.pixels import correlation_distance


def looped(true, reconstructions, orientation):
    """The definition, one pair at a time."""
    n = len(true)
    r = [[np.corrcoef(true[i], reconstructions[j])[0, 1] for j in range(n)] for i in range(n)]
    scores = []
    for k in range(n):
        others = [m for m in range(n) if m != k]
        lost = [r[m][k] if orientation == "columns" else r[k][m] for m in others]
        scores.append(np.mean([value < r[k][k] for value in lost]))
    return np.array(scores)


def features(seed, b=11, f=13):
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(b, f))
    return true, 0.4 * true + rng.normal(size=(b, f))


@pytest.mark.parametrize("orientation", ["columns", "rows"])
def test_two_way_is_its_definition(orientation):
    true, reconstructions = features(0)
    expected = looped(true, reconstructions, orientation)
    assert 0.5 < expected.mean() < 1
    np.testing.assert_array_equal(two_way(true, reconstructions, orientation), expected)


def test_the_orientations_differ_and_swap_with_the_arguments():
    true, reconstructions = features(1)
    columns, rows = (
        two_way(true, reconstructions, "columns"),
        two_way(true, reconstructions, "rows"),
    )
    assert (columns != rows).any()
    np.testing.assert_array_equal(two_way(reconstructions, true, "rows"), columns)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_features_that_are_not_finite_are_refused(bad, side):
    """A NaN row would lose every comparison, and by that win for the others."""
    pair = features(2)
    pair[side][5, 3] = bad
    words = "1 of 11 rows hold NaN or infinite numbers, first row 5; expected finite numbers"
    for score in (two_way, correlation_distance):
        with pytest.raises(NotFiniteError, match=words):
            score(*pair)
    with pytest.raises(NotFiniteError, match=words):
        set_two_way(pair[0], pair[1][:, None])


def test_ties_are_misses():
    """Constant reconstructions correlate with nothing, so none may be identified."""
    true, _ = features(2)
    np.testing.assert_array_equal(two_way(true, np.ones_like(true)), 0)


@pytest.mark.parametrize("orientation", ["columns", "rows"])
def test_the_same_stimulus_twice_is_a_tie(orientation):
    """Equal rows of a matrix product differ by rounding; that must not decide."""
    true, reconstructions = features(6, b=23, f=1009)
    true[17], reconstructions[17] = true[4], reconstructions[4]
    found = two_way(true.astype(np.float32), reconstructions.astype(np.float32), orientation)
    pairs = looped(true, reconstructions, orientation)
    sure = np.delete(np.arange(23), [4, 17])
    np.testing.assert_array_equal(found[sure], pairs[sure])
    matrix = np.corrcoef(true, reconstructions)[:23, 23:]
    for one, other in ((4, 17), (17, 4)):
        rivals = matrix[:, one] if orientation == "columns" else matrix[one]
        hits = sum(rivals[m] < matrix[one, one] for m in range(23) if m not in (one, other))
        assert found[one] == hits / 22


@pytest.mark.parametrize("orientation", ["columns", "rows"])
def test_sets_are_identified_by_their_mean_correlation(orientation):
    rng = np.random.default_rng(7)
    true = rng.normal(size=(13, 31))
    reconstructions = 0.08 * true[:, None] + rng.normal(size=(13, 5, 31))
    scores = []
    for k in range(13):
        row = []
        for m in range(13):
            i, j = (m, k) if orientation == "columns" else (k, m)
            row.append(
                np.mean([np.corrcoef(true[i], reconstructions[j, s])[0, 1] for s in range(5)])
            )
        scores.append(np.mean([row[m] < row[k] for m in range(13) if m != k]))
    found = set_two_way(true, reconstructions, orientation)
    np.testing.assert_array_equal(found, scores)
    assert 0.5 < np.mean(scores) < 1
    single = set_two_way(true, reconstructions[:, :1], orientation)
    np.testing.assert_array_equal(single, looped(true, reconstructions[:, 0], orientation))


def test_perfect_and_chance():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (199, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(two_way_pixels(images, images), 1)
    assert two_way_pixels(images, np.roll(images, 1, axis=0)).mean() == pytest.approx(0.5, abs=0.03)


def test_pixels_are_features():
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 256, (2, 7, 5, 3, 3)).astype(np.uint8)
    flat = [stack.reshape(7, -1).astype(float) for stack in (a, b)]
    np.testing.assert_array_equal(two_way_pixels(a, b), looped(*flat, "columns"))


def test_wrong_input_is_answered(as_user):
    true, reconstructions = features(5)
    with pytest.raises(ValueError, match=r"one shape \[b, f\], found \(11, 13\) and \(11, 12\)"):
        two_way(true, reconstructions[:, 1:])
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        two_way(true[:1], reconstructions[:1])
    with pytest.raises(ValueError, match="'columns' or 'rows', found 'both'"):
        two_way(true, reconstructions, "both")
    with pytest.raises(
        ValueError, match=r"candidates \[b, s, f\], found \(11, 13\) and \(11, 13\)"
    ):
        set_two_way(true, reconstructions)
    with pytest.raises(ValueError, match="at least 2 images, found 1"):
        set_two_way(true[:1], reconstructions[:1, None])
