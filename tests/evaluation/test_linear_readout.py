import numpy as np
import pytest
from sklearn.linear_model import Ridge

from neuroadapter_jax.evaluation.linear_readout import ALPHAS, fit_linear_readout
from neuroadapter_jax.metrics.recall import semantic_recall


def responses_to(categories, seed, p=5, v=11, noise=0.3, num_categories=3):
    """Responses linear in what stands where, the last vertex slot of each region padded."""
    b, slots = categories.shape
    rng = np.random.default_rng(seed)
    one_hot = np.eye(num_categories + 1)[categories + 1].reshape(b, -1)
    mixing = np.random.default_rng(99).normal(size=(slots * (num_categories + 1), p, v))
    packed = np.einsum("bk,kpv->bpv", one_hot, mixing) + noise * rng.normal(size=(b, p, v))
    packed[..., -1] = 0
    return packed.astype(np.float32)


@pytest.fixture(scope="module")
def train():
    categories = np.random.default_rng(0).integers(-1, 3, (157, 2)).astype(np.int8)
    return responses_to(categories, 1), categories


def test_it_reads_linear_responses(train):
    held_out = np.random.default_rng(2).integers(-1, 3, (101, 2)).astype(np.int8)
    readout = fit_linear_readout(*train, num_categories=3)
    read = readout.read(responses_to(held_out, 3))
    assert read.dtype == np.int8
    assert semantic_recall(read, held_out) > 0.95
    shuffled = readout.read(responses_to(held_out[::-1], 3))
    assert semantic_recall(shuffled, held_out) < 0.5


def test_a_forced_choice_leaves_empty_out(train):
    held_out = np.random.default_rng(5).integers(-1, 3, (101, 2)).astype(np.int8)
    readout = fit_linear_readout(*train, num_categories=3)
    responses = responses_to(held_out, 6, noise=2.0)
    free, forced = readout.read(responses), readout.read(responses, may_be_empty=False)
    assert (free == -1).any() and (forced >= 0).all()
    np.testing.assert_array_equal(forced[free >= 0], free[free >= 0])


@pytest.mark.slow
def test_each_target_is_a_ridge_with_the_best_left_out_error(train):
    """Leave-one-out by its definition, refitting for a choice of images and one target."""
    responses, categories = train
    readout = fit_linear_readout(responses, categories, num_categories=3)
    flat = responses.reshape(157, -1)
    target = (categories[:, 1] == 2).astype(np.float32)
    ridge = Ridge(alpha=readout.alphas[1, 3]).fit(flat, target)
    np.testing.assert_allclose(readout.weights[:, 1, 3], ridge.coef_, atol=1e-4)
    np.testing.assert_allclose(readout.bias[1, 3], ridge.intercept_, atol=1e-4)
    assert set(readout.alphas.ravel()) <= set(ALPHAS)

    def left_out_error(alpha):
        errors = []
        for i in range(157):
            keep = np.arange(157) != i
            fitted = Ridge(alpha=alpha).fit(flat[keep], target[keep])
            errors.append((fitted.predict(flat[[i]])[0] - target[i]) ** 2)
        return np.mean(errors)

    assert readout.alphas[1, 3] == min(ALPHAS[:4], key=left_out_error)


def test_wrong_counts_are_answered(train, as_user):
    responses, categories = train
    with pytest.raises(ValueError, match="found 156 responses and 157 images"):
        fit_linear_readout(responses[1:], categories, 3)
    readout = fit_linear_readout(responses, categories, 3)
    with pytest.raises(ValueError, match="fitted on 55 values per image, found 44"):
        readout.read(responses[:, :4])
