"""The frozen U-Net in bfloat16: how far its prediction moves, and what stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_step import SIZE, UNET, B, K, TinyStep
from torch_reference import carried, nchw, nhwc, randomise

from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig, with_sample_size

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import UNet2DConditionModel as TorchUNet

# Root mean square of the error, as a share of the prediction's.
TOLERANCE = 0.03


def relative(error, truth):
    return float(np.sqrt(np.mean(np.square(error)) / np.mean(np.square(truth))))


@pytest.fixture(scope="module")
def networks():
    reference = randomise(TorchUNet(**UNET), seed=5)
    unet = carried(lambda rngs: UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs), reference)
    return reference, unet, with_sample_size(unet, SIZE, jnp.bfloat16)


@pytest.mark.slow
def test_the_prediction_moves_as_little_as_pytorchs(networks):
    reference, _, half = networks
    rng = np.random.default_rng(7)
    latents = rng.standard_normal((B, SIZE, SIZE, 4)).astype(np.float32)
    states = rng.standard_normal((1, K, 13)).astype(np.float32)
    steps = rng.integers(0, 1000, B)
    inputs = (nchw(latents), torch.from_numpy(steps), torch.from_numpy(states).expand(B, -1, -1))
    truth = nhwc(reference(*inputs).sample)
    theirs = randomise(TorchUNet(**UNET), seed=5).bfloat16()(
        inputs[0].bfloat16(), inputs[1], inputs[2].bfloat16()
    )
    theirs = nhwc(theirs.sample.float())

    text = half.text_context(jnp.asarray(states))
    ours = half(jnp.asarray(latents), jnp.asarray(steps, jnp.int32), [text])
    assert ours.dtype == jnp.float32
    error = relative(np.asarray(ours) - truth, truth)
    assert 1e-4 < error < TOLERANCE  # it is another precision, and close
    assert error < 1.5 * relative(theirs - truth, truth)


@pytest.mark.slow
def test_a_step_trains_the_adapter_in_float32_and_leaves_the_unet(networks):
    _, unet, half = networks
    steps = [TinyStep(network, optax.adam(1e-3)) for network in (unet, half)]
    after, metrics = [], []
    for tiny in steps:
        state, values = tiny.step(tiny.state(), tiny.frozen, tiny.batch(0))
        after.append(state["params"])
        metrics.append(values)
    frozen = steps[1].frozen.unet
    for leaf, before in zip(
        jax.tree.leaves(frozen), jax.tree.leaves(nnx.state(half, nnx.Param)), strict=True
    ):
        assert leaf.dtype == jnp.bfloat16
        assert np.asarray(leaf).tobytes() == np.asarray(before).tobytes()
    for leaf in jax.tree.leaves(after[1]):
        assert leaf.dtype == jnp.float32
    assert metrics[1]["loss"].dtype == jnp.float32
    np.testing.assert_allclose(metrics[1]["loss"], metrics[0]["loss"], rtol=TOLERANCE)
    np.testing.assert_allclose(
        metrics[1]["gradient_norm"], metrics[0]["gradient_norm"], rtol=2 * TOLERANCE
    )


def test_an_fp32_unet_is_the_same_to_the_bit(networks):
    _, unet, _ = networks
    same = with_sample_size(unet, 23, jnp.float32)
    assert same.config.sample_size == 23 and unet.config.sample_size == SIZE
    for ours, truth in zip(
        jax.tree.leaves(nnx.state(same)), jax.tree.leaves(nnx.state(unet)), strict=True
    ):
        assert np.asarray(ours).tobytes() == np.asarray(truth).tobytes()
