"""MindEye's contrastive losses against PyTorch's cross-entropies, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from neuroadapter_jax.decoders.contrastive import (
    Mixed,
    bimixco_loss,
    mix_responses,
    soft_clip_loss,
    soft_clip_temperature,
    unit_rows,
    uses_mixing,
)

pytest.importorskip("torch")
import torch
import torch.nn.functional as F

TAU = 0.06


@pytest.fixture
def rows(rng):
    """Predictions as they come from the network, and targets at unit length."""
    p, q = rng.standard_normal((2, 7, 5)).astype(np.float32)
    return p, q / np.linalg.norm(q, axis=1, keepdims=True)


def agree(ours, torchs, p, q):
    value, gradient = jax.value_and_grad(lambda p: ours(unit_rows(p), jnp.asarray(q)))(
        jnp.asarray(p)
    )
    leaf = torch.tensor(p, requires_grad=True)
    truth = torchs(F.normalize(leaf, dim=-1), torch.tensor(q))
    truth.backward()
    assert float(value) == pytest.approx(truth.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=0, atol=1e-5)


def test_bimixco_is_the_cross_entropy_with_shared_targets(rows):
    p, q = rows
    permutation = np.array([3, 0, 5, 1, 4, 2, 6])  # two stay where they are
    share = np.array([0.2, 1.0, 0.7, 0.5, 0.9, 1.0, 0.1], np.float32)
    mixed = Mixed(jnp.zeros((7, 1)), jnp.asarray(permutation), jnp.asarray(share))

    def reference(p, q):
        targets = torch.diag(torch.tensor(share))
        for i, (j, s) in enumerate(zip(permutation, share, strict=True)):
            targets[i, j] += 1 - s
        scores = p @ q.T / TAU
        return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets.T)) / 2

    agree(lambda p, q: bimixco_loss(p, q, TAU, mixed), reference, p, q)


def test_without_mixing_it_is_clips_loss(rows):
    def reference(p, q):
        scores, labels = p @ q.T / TAU, torch.arange(len(p))
        return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2

    agree(lambda p, q: bimixco_loss(p, q, TAU), reference, *rows)


def test_soft_clip_has_the_likeness_of_the_images_as_targets(rows):
    def reference(p, q):
        targets = (q @ q.T / TAU).softmax(-1)
        scores = p @ q.T / TAU
        return (F.cross_entropy(scores, targets) + F.cross_entropy(scores.T, targets)) / 2

    agree(lambda p, q: soft_clip_loss(p, q, TAU), reference, *rows)


def test_half_of_the_responses_are_mixed_by_shares_of_the_beta_distribution():
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2003, 3)), jnp.float32)
    mixed = mix_responses(jax.random.key(3), x)
    share = np.asarray(mixed.share)
    assert sorted(mixed.permutation.tolist()) == list(range(2003))
    assert abs((share < 1).mean() - 0.5) < 0.05
    assert stats.kstest(share[share < 1], "beta", args=(0.15, 0.15)).pvalue > 1e-3
    other = np.asarray(x)[mixed.permutation]
    expected = np.asarray(x) * share[:, None] + other * (1 - share[:, None])
    np.testing.assert_allclose(mixed.fmri, expected, rtol=0, atol=1e-6)


def test_the_temperature_follows_half_a_cosine_after_the_mixing_epochs():
    # MindEye: the cosine over the 161 epochs that are left of 240.
    steps = np.arange(161)
    truth = 0.0075 + (0.004 - 0.0075) * (1 + np.cos(np.pi * steps / 160)) / 2
    found = [soft_clip_temperature(79 + int(e), 240) for e in steps]
    np.testing.assert_allclose(found, truth, rtol=1e-12)
    assert uses_mixing(78, 240) and not uses_mixing(79, 240)
