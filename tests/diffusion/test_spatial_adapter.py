"""The spatial adapter and its place in the U-Net against diffusers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_backbone
from flax import nnx

from neuroadapter_jax.diffusion.spatial_adapter import (
    SpatialAdapter,
    SpatialAdapterConfig,
    add_maps,
)
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.errors import InputError

pytest.importorskip("diffusers")
import torch
from diffusers import T2IAdapter
from diffusers import UNet2DConditionModel as TorchUNet
from torch_reference import assert_close, carried, nchw, nhwc, randomise

WIDTHS = (8, 12, 12)


def reference(kind, seed=0, downscale=2):
    # diffusers' light adapter repeats its last width for one more map.
    channels = WIDTHS if kind == "full" else WIDTHS[:-1]
    return randomise(T2IAdapter(3, list(channels), 2, downscale, f"{kind}_adapter"), seed)


@pytest.mark.parametrize("kind", ["full", "light"])
@pytest.mark.parametrize("side", [24, 20])  # of 20, the last map's average pool meets an odd row
def test_the_maps_are_diffusers(kind, side, rng):
    truth = reference(kind)
    config = SpatialAdapterConfig(kind, 3, WIDTHS, 2, 2)
    ours = carried(lambda rngs: SpatialAdapter(config, rngs=rngs), truth)
    condition = rng.random((2, side, 16, 3), np.float32)
    maps = ours(jnp.asarray(condition))
    expected = truth(nchw(condition))
    assert len(maps) == len(expected) == 3
    for mine, its in zip(maps, expected, strict=True):
        assert_close(mine, nhwc(its))


UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    # The last level has no attention, as in Stable Diffusion.
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 12),
    "layers_per_block": 1,
    "cross_attention_dim": 5,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


def test_the_unet_adds_them_where_diffusers_does(rng):
    truth = randomise(TorchUNet(**UNET), 3)
    ours = carried(lambda rngs: UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs), truth)
    x, states = (rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 8, 4), (2, 3, 5)))
    maps = [rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 8, 8), (2, 4, 4, 12))]
    steps = np.array([7, 801], np.int32)
    expected = truth(
        nchw(x),
        torch.from_numpy(steps),
        encoder_hidden_states=torch.from_numpy(states),
        down_intrablock_additional_residuals=[nchw(m) for m in maps],
    ).sample

    @jax.jit
    def run(x, steps, states, maps):
        return ours(x, steps, [ours.text_context(states)], residuals=maps)

    found = run(x, steps, states, maps)
    assert_close(found, nhwc(expected))
    without = run(x, steps, states, None)
    assert not np.allclose(found, without)
    zeros = run(x, steps, states, [np.zeros_like(m) for m in maps])
    np.testing.assert_allclose(zeros, without, rtol=0, atol=1e-6)


def test_recomputing_for_the_derivative_takes_the_residuals_along(rng):
    config = UNetConfig(**UNET)
    unet = tiny_backbone.random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 0)
    x = jnp.asarray(rng.standard_normal((1, 8, 8, 4)), jnp.float32)
    maps = [jnp.ones((1, 8, 8, 8)), jnp.ones((1, 4, 4, 12))]
    streams = [unet.text_context(jnp.ones((1, 3, 5)))]

    def gradient(remat):
        def loss(maps):
            return jnp.sum(unet(x, jnp.array([3]), streams, remat=remat, residuals=maps) ** 2)

        return jax.jit(jax.grad(loss))(maps)

    for kept, again in zip(gradient(False), gradient(True), strict=True):
        assert kept.any()
        np.testing.assert_allclose(kept, again, rtol=1e-4, atol=1e-5)


def test_another_number_of_maps_than_levels_is_refused(as_user):
    config = UNetConfig(**UNET)
    unet = tiny_backbone.random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 0)
    with pytest.raises(InputError, match="3 residuals; expected one for each of its 2 levels"):
        unet(jnp.zeros((1, 8, 8, 4)), jnp.array([3]), [], residuals=[jnp.zeros((1, 8, 8, 8))] * 3)


def test_several_adapters_are_summed_by_their_weights_as_diffusers_multi_adapter(rng):
    from diffusers import MultiAdapter

    truths = [reference("full", seed) for seed in (1, 2)]
    config = SpatialAdapterConfig("full", 3, WIDTHS, 2, 2)
    ours = [carried(lambda rngs: SpatialAdapter(config, rngs=rngs), t) for t in truths]
    conditions = rng.random((2, 1, 8, 8, 3), np.float32)
    maps = [adapter(jnp.asarray(c)) for adapter, c in zip(ours, conditions, strict=True)]
    expected = MultiAdapter(truths)([nchw(c) for c in conditions], [0.5, 1.25])
    for mine, its in zip(add_maps(maps, [0.5, 1.25]), expected, strict=True):
        assert_close(mine, nhwc(its))


def test_adapters_that_do_not_fit_one_another_or_the_picture_are_refused(as_user):
    ones = [jnp.ones((1, 2, 2, 3))]
    with pytest.raises(InputError, match="2 spatial adapters"):
        add_maps([ones, ones * 2])
    adapter = SpatialAdapter(SpatialAdapterConfig("light", 3, (4,), 1, 4), rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="18 x 16 pixels of 3"):
        adapter(jnp.zeros((1, 18, 16, 3)))
    with pytest.raises(InputError, match="multiples of 4"):
        SpatialAdapterConfig("light", channels=(6,))
