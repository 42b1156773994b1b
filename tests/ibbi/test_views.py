"""The views against their definitions, computed in loops from the full matrices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import random_network

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.guidance import Guidance
from neuroadapter_jax.diffusion.attention import Stream, Tap
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
def roi_weights(rng):
    members = rng.random((R, P)) < 0.4
    members[0], members[1] = False, True
    return (members / np.maximum(members.sum(1, keepdims=True), 1)).astype(np.float32)


def test_a_layer_is_the_mean_over_heads_and_queries(layers, roi_weights):
    found = views.layer_views(jnp.asarray(layers[0]), jnp.asarray(roi_weights))
    for b in range(B):
        for p in range(P):
            values = [layers[0][b, h, q, p] for h in range(H) for q in range(9)]
            np.testing.assert_allclose(found.brain[b, p], np.mean(values), rtol=1e-5)
        for r in range(R):
            for q in range(9):
                value = sum(roi_weights[r, p] * layers[0][b, :, q, p].mean() for p in range(P))
                np.testing.assert_allclose(found.image[b, r, q], value, rtol=1e-5, atol=1e-7)


def test_value_norms_weigh_each_head_and_region(layers, roi_weights, rng):
    norms = rng.random((B, H, P)).astype(np.float32)
    found = views.layer_views(*(jnp.asarray(x) for x in (layers[0], roi_weights, norms)))
    for b in range(B):
        shares = np.zeros((9, P))
        for q in range(9):
            for p in range(P):
                shares[q, p] = sum(layers[0][b, h, q, p] * norms[b, h, p] for h in range(H))
            shares[q] /= shares[q].sum()
        np.testing.assert_allclose(found.brain[b], shares.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.image[b], roi_weights @ shares.T, rtol=1e-5, atol=1e-7)


def test_difference_is_what_exceeds_the_uniform_share(layers, roi_weights):
    found = views.difference_views(jnp.asarray(layers[0]), jnp.asarray(roi_weights))
    for b in range(B):
        above = np.zeros((9, P))
        for q in range(9):
            for p in range(P):
                beyond = [max(float(layers[0][b, h, q, p]) - 1 / P, 0.0) for h in range(H)]
                above[q, p] = np.mean(beyond)
        np.testing.assert_allclose(found.brain[b], above.sum(0) / above.sum(), rtol=1e-5)
        np.testing.assert_allclose(found.image[b], roi_weights @ above.T, rtol=1e-5, atol=1e-7)
    even = views.difference_views(jnp.full((1, 2, 3, 7), 1 / 7), jnp.asarray(roi_weights))
    np.testing.assert_allclose(even.brain, 1 / 7, rtol=1e-6)


@pytest.fixture(scope="module")
def unet():
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
    return random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 1)


def stream_of(unet, rng, size):
    shapes = [
        (size, layer.num_heads, P, layer.to_k.kernel.shape[1] // layer.num_heads)
        for _, layer in unet.cross_attentions()
    ]
    return Stream(
        *(tuple(jnp.asarray(rng.standard_normal(s), jnp.float32) for s in shapes) for _ in "kv")
    )


def test_the_unconditional_half_attends_to_all_regions_equally(unet, rng):
    brain = stream_of(unet, rng, 1)
    one = Stream(*(tuple(jnp.repeat(x[:, :, :1], P, axis=2) for x in xs) for xs in brain[:2]))
    latents = jnp.asarray(rng.standard_normal((1, 4, 4, 4)), jnp.float32)
    watched = jax.jit(lambda x, one: unet(x, jnp.array([571]), [one], lambda weights: weights)[1])
    probed = watched(latents, one)
    for weights in probed:
        np.testing.assert_allclose(weights, 1 / P, rtol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_the_guidance_difference(unet, rng):
    """Against central differences of S as single weights change."""
    brain, without = stream_of(unet, rng, B), stream_of(unet, rng, 1)
    x = jnp.asarray(rng.standard_normal((B, 4, 4, 4)), jnp.float32)
    roi_weights = np.eye(P, dtype=np.float32)[:2]
    predict = views.gradient_prediction(
        unet, Guidance(None, brain, without, 2.5), jnp.asarray(roi_weights)
    )
    out, found = jax.jit(predict)(x, 571)

    timesteps = jnp.full(B, 571)
    base = jax.jit(lambda x: unet(x, timesteps, [without]))(x)
    plain, weights = jax.jit(lambda x: unet(x, timesteps, [brain], lambda w: w))(x)
    np.testing.assert_allclose(out, base + 2.5 * (plain - base), atol=1e-4)

    @jax.jit
    def scalars(layer, change):
        """S of every sample, with the change added to a layer's weights."""
        taps = [
            Tap(lambda w, i=i: (w + jnp.where(i == layer, change[:, :, : w.shape[2]], 0), None))
            for i in range(len(weights))
        ]
        changed, _ = unet(x, timesteps, [brain], taps)
        return jnp.square(changed - base).sum((1, 2, 3))

    # Layers have 16 or 4 queries.
    layer = next(i for i, w in enumerate(weights) if w.shape[2] == 16)
    amounts, step = np.zeros((B, 3, 16, P)), 1e-2
    for h, q, p in np.ndindex(3, 16, P):
        change = np.zeros((B, 3, 16, P), np.float32)
        change[:, h, q, p] = step
        both = [np.asarray(scalars(layer, sign * change), np.float64) for sign in (1, -1)]
        slope = (both[0] - both[1]) / (2 * step)
        amounts[:, h, q, p] = np.maximum(slope * np.asarray(weights[layer])[:, h, q, p], 0)
    mean = amounts.mean(1)
    brain_view = mean.sum(1) / mean.sum((1, 2))[:, None]
    np.testing.assert_allclose(found[layer].brain, brain_view, atol=2e-3)
    np.testing.assert_allclose(
        found[layer].image, np.moveaxis(mean[..., :2], -1, 1), atol=3e-3 * mean.max()
    )
    assert brain_view.max() > 1.5 / P  # something is there to agree on


def test_value_norms_are_those_of_the_projected_values(unet, rng):
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
def test_layers_together(layers, roi_weights, weighting):
    found = views.combine_layers(
        [views.layer_views(jnp.asarray(x), jnp.asarray(roi_weights)) for x in layers], 11, weighting
    )
    queries = np.array([side**2 for side in SIDES])
    shares = queries / queries.sum() if weighting == "queries" else np.full(3, 1 / 3)
    brain = sum(w * x.mean((1, 2)) for w, x in zip(shares, layers, strict=True))
    np.testing.assert_allclose(found.brain, brain, rtol=1e-5)
    np.testing.assert_allclose(found.brain.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.brain_by_layer[:, 2], layers[2].mean((1, 2)), rtol=1e-5)

    torch = pytest.importorskip("torch")
    maps = np.zeros((B, R, 11, 11))
    for x, side in zip(layers, SIDES, strict=True):
        probed = np.einsum("bqp,rp->brq", x.mean(1), roi_weights).reshape(B, R, side, side)
        large = torch.nn.functional.interpolate(torch.from_numpy(probed), (11, 11), mode="bilinear")
        maps += (large / large.sum((2, 3), keepdim=True)).numpy()
    expected = maps / maps.sum((2, 3), keepdims=True)
    np.testing.assert_allclose(found.image[:, 1:], expected[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(found.image[:, 1:].sum((2, 3)), 1, atol=1e-5)
    assert np.isnan(found.image[:, 0]).all()  # a ROI without regions


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
    unet = abstract_network(lambda rngs: UNet2DConditionModel(UNetConfig(), rngs=rngs))
    # Heads 8; 5 layers each of 64 x 64, 32 x 32 and 16 x 16 queries, one of 8 x 8.
    queries = 5 * (64**2 + 32**2 + 16**2) + 8**2
    assert views.attention_bytes(unet, 200, 3, 50) == 4 * 3 * 50 * 8 * queries * 200


def test_a_layer_that_a_roi_is_not_attended_in_has_no_part(layers, roi_weights):
    probed = [views.layer_views(jnp.asarray(x), jnp.asarray(roi_weights)) for x in layers]
    silent = probed[2]._replace(image=probed[2].image.at[:, 1].set(0.0))
    found = views.combine_layers([*probed[:2], silent], 11)
    without = views.combine_layers(probed[:2], 11)
    np.testing.assert_allclose(found.image[:, 1], without.image[:, 1], rtol=1e-5)


def test_names_of_reductions(as_user):
    assert views.validate_reduction("paper", "queries") == ("attention", "queries")
    assert views.validate_reduction("gradient", "equal") == ("gradient", "equal")
    assert set(views.DEFINITIONS) == set(views.REDUCTIONS)
    with pytest.raises(ValueError, match="reduction is 'raw'; expected one of"):
        views.validate_reduction("raw", "queries")
    with pytest.raises(ValueError, match="layer weighting is 'heads'"):
        views.validate_reduction("paper", "heads")
    with pytest.raises(ValueError, match="weights layers by queries, but layer weighting is 'equ"):
        views.validate_reduction("paper", "equal")
