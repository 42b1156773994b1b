"""The views against their definitions, computed in loops from the full matrices."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from tiny_backbone import random_network

from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.ibbi import views

B, H, P, R = 2, 3, 7, 5
SIDES = (3, 1, 5)


@pytest.fixture
def layers(rng):
    """Attention of three layers; sums to 1 over regions."""
    raw = [rng.random((B, H, side**2, P)) ** 3 for side in SIDES]
    return [(x / x.sum(-1, keepdims=True)).astype(np.float32) for x in raw]


@pytest.fixture
def interest(rng):
    members = rng.random((R, P)) < 0.4
    members[0], members[1] = False, True
    return (members / np.maximum(members.sum(1, keepdims=True), 1)).astype(np.float32)


def test_a_layer_is_the_mean_over_heads_and_queries(layers, interest):
    found = views.layer_views(jnp.asarray(layers[0]), jnp.asarray(interest))
    for b in range(B):
        for p in range(P):
            values = [layers[0][b, h, q, p] for h in range(H) for q in range(9)]
            np.testing.assert_allclose(found.brain[b, p], np.mean(values), rtol=1e-5)
        for r in range(R):
            for q in range(9):
                value = sum(interest[r, p] * layers[0][b, :, q, p].mean() for p in range(P))
                np.testing.assert_allclose(found.image[b, r, q], value, rtol=1e-5, atol=1e-7)


def test_value_norms_weigh_each_head_and_region(layers, interest, rng):
    norms = rng.random((B, H, P)).astype(np.float32)
    found = views.layer_views(*(jnp.asarray(x) for x in (layers[0], interest, norms)))
    for b in range(B):
        shares = np.zeros((9, P))
        for q in range(9):
            for p in range(P):
                shares[q, p] = sum(layers[0][b, h, q, p] * norms[b, h, p] for h in range(H))
            shares[q] /= shares[q].sum()
        np.testing.assert_allclose(found.brain[b], shares.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.image[b], interest @ shares.T, rtol=1e-5, atol=1e-7)


def test_value_norms_are_those_of_the_projected_values(rng):
    config = UNetConfig(
        sample_size=4,
        block_out_channels=(6, 12),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=5,
        attention_head_dim=3,
        norm_num_groups=3,
    )
    unet = random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 1)
    cross = [layer for _, layer in unet.cross_attentions()]
    widths = [layer.to_out[0].kernel.shape[0] // 3 for layer in cross]
    values = [rng.standard_normal((B, 3, P, d)).astype(np.float32) for d in widths]
    found = views.value_norms(unet, Stream((), tuple(map(jnp.asarray, values))))
    assert len(found) == len(cross) > 2
    for layer, value, norms in zip(cross, values, found, strict=True):
        kernel = np.asarray(layer.to_out[0].kernel[...])
        for h in range(3):
            rows = kernel[h * value.shape[3] : (h + 1) * value.shape[3]]
            expected = np.linalg.norm(value[:, h] @ rows, axis=-1)
            np.testing.assert_allclose(norms[:, h], expected, rtol=1e-4)


@pytest.mark.parametrize("weighting", ["queries", "equal"])
def test_layers_together(layers, interest, weighting):
    found = views.combine_layers(
        [views.layer_views(jnp.asarray(x), jnp.asarray(interest)) for x in layers], 11, weighting
    )
    queries = np.array([side**2 for side in SIDES])
    shares = queries / queries.sum() if weighting == "queries" else np.full(3, 1 / 3)
    brain = sum(w * x.mean((1, 2)) for w, x in zip(shares, layers, strict=True))
    np.testing.assert_allclose(found.brain, brain, rtol=1e-5)
    np.testing.assert_allclose(found.brain.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.brain_by_layer[:, 2], layers[2].mean((1, 2)), rtol=1e-5)

    maps = np.zeros((B, R, 11, 11))
    for x, side in zip(layers, SIDES, strict=True):
        seen = np.einsum("bqp,rp->brq", x.mean(1), interest).reshape(B, R, side, side)
        large = torch.nn.functional.interpolate(torch.from_numpy(seen), (11, 11), mode="bilinear")
        maps += (large / large.sum((2, 3), keepdim=True)).numpy()
    expected = maps / maps.sum((2, 3), keepdims=True)
    np.testing.assert_allclose(found.image[:, 1:], expected[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(found.image[:, 1:].sum((2, 3)), 1, atol=1e-5)
    assert np.isnan(found.image[:, 0]).all()  # an area without regions


def test_entropy_and_concentration():
    even = np.full((1, 13), 1 / 13, np.float32)
    np.testing.assert_allclose(views.relative_entropy(even), 1, atol=1e-6)
    np.testing.assert_allclose(views.concentration(even), 2 / 13, atol=1e-6)
    shares = np.array([0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0, 0, 0, 0], np.float32)
    entropy = 1.75 * math.log(2) / math.log(11)
    np.testing.assert_allclose(views.relative_entropy(shares), entropy, atol=1e-6)
    np.testing.assert_allclose(views.concentration(shares), 0.75, atol=1e-6)


def test_contrast_is_relative_to_the_mean_over_samples():
    maps = np.array([[[1.0, 3.0]], [[3.0, 3.0]]])
    found = views.contrast(maps)
    np.testing.assert_allclose(found[0, 0], np.array([0.5, 1.0]) / 1.5)
    np.testing.assert_allclose(found[1, 0], np.array([1.5, 1.0]) / 2.5)


def test_memory_of_the_matrices_at_full_size():
    unet = nnx.eval_shape(lambda: UNet2DConditionModel(UNetConfig(), rngs=nnx.Rngs(0)))
    # Heads 8; 5 layers each of 64 x 64, 32 x 32 and 16 x 16 queries, one of 8 x 8.
    queries = 5 * (64**2 + 32**2 + 16**2) + 8**2
    assert views.attention_bytes(unet, 200, 3, 50) == 4 * 3 * 50 * 8 * queries * 200


def test_unknown_choices_are_refused(as_user):
    with pytest.raises(ValueError, match="reduction is 'raw'; expected one of"):
        views.make_probes(None, None, None, "raw")
    with pytest.raises(ValueError, match="layer weighting is 'heads'"):
        views.combine_layers([], 11, "heads")
