"""Adapter and U-Net together against diffusers' U-Net with its IP-Adapter attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_backbone import random_network
from torch_adapter import TorchNeuroAdapter
from torch_reference import assert_close, carried, randomise

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.weights import parameter_shapes

pytest.importorskip("torch")
pytest.importorskip("diffusers")
from diffusers import UNet2DConditionModel as TorchUNet

B, P, V, K = 3, 5, 7, 11
UNET = {
    "block_out_channels": (6, 15),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 3,
    "cross_attention_dim": 13,
    "norm_num_groups": 3,
    "in_channels": 4,
    "out_channels": 4,
    "sample_size": 6,
}


@pytest.fixture(scope="module")
def networks():
    reference = randomise(TorchUNet(**UNET), seed=3)
    unet = carried(lambda rngs: UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs), reference)
    widths, heads = map(tuple, cross_attention_shapes(unet))
    config = NeuroAdapterConfig(P, V, 13, widths, heads)
    adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 2)
    order = [name for name, _ in unet.cross_attentions()]
    return unet, adapter, TorchNeuroAdapter(adapter, reference, order)


@pytest.fixture
def inputs(rng):
    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    size = UNET["sample_size"]
    return {
        "latents": normal(B, size, size, 4),
        "timesteps": np.array([3, 571, 999], np.int32),
        "text": normal(1, K, 13),
        "packed": normal(B, P, V),
        "keep": rng.random((B, P)) < 0.5,
    }


@pytest.mark.parametrize("dropped", [False, True])
def test_prediction(networks, inputs, dropped):
    unet, adapter, truth = networks
    keep = inputs.pop("keep") if dropped else None
    inputs.pop("keep", None)
    expected = truth(**inputs, keep=keep).detach().numpy()

    @nnx.jit
    def predict(unet, adapter, latents, timesteps, text, packed):
        brain = adapter(packed, None if keep is None else jnp.asarray(keep))
        return unet(latents, timesteps, [unet.text_context(text), brain])

    ours = predict(unet, adapter, **{name: jnp.asarray(x) for name, x in inputs.items()})
    assert_close(ours, expected)


def test_tokens(networks, inputs):
    _, adapter, truth = networks
    packed, keep = inputs["packed"], inputs["keep"]
    ours = np.asarray(adapter.tokens(jnp.asarray(packed), jnp.asarray(keep)))
    assert_close(ours, truth.tokens(packed, keep).detach().numpy(), 1e-5)
    # A dropped token is the norm's image of zero, whatever its region saw.
    dropped = ours[~keep]
    assert len(dropped) > 3
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[0], dropped.shape))


def test_unconditional_is_every_token_dropped(networks, inputs):
    _, adapter, _ = networks
    nothing = adapter(jnp.asarray(inputs["packed"]), jnp.zeros((B, P), bool))
    for bank, truth in zip(adapter.unconditional()[:2], nothing[:2], strict=True):
        for one, many in zip(bank, truth, strict=True):
            assert one.shape == (1, *many.shape[1:])
            np.testing.assert_allclose(np.broadcast_to(one, many.shape), many, atol=1e-6)


def test_a_new_adapter_starts_from_the_text_matrices(networks):
    unet, _, _ = networks
    adapter = NeuroAdapter.for_unet(unet, P, V, rngs=nnx.Rngs(1))
    text = jax.random.normal(jax.random.key(0), (2, P, 13))
    for ours, theirs in zip(
        jax.tree.leaves(adapter.attention(text)[:2]),
        jax.tree.leaves(unet.text_context(text)[:2]),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    # A copy, not the same array: the U-Net must not move with the adapter.
    layer = next(iter(unet.cross_attentions()))[1]
    before = np.asarray(layer.to_k.kernel[...]).copy()
    adapter.attention.to_k_ip[0].kernel[...] += 1
    np.testing.assert_array_equal(layer.to_k.kernel[...], before)


def test_shapes_come_from_an_abstract_unet():
    config = UNetConfig(**UNET)
    unet = abstract_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs))
    assert cross_attention_shapes(unet) == ([6, 15, 15, 6, 6], [3] * 5)


def test_parameters_by_name(networks):
    shapes = parameter_shapes(networks[1])
    assert shapes == {
        "region_projection.weights": (P, V, 13),
        "region_projection.bias": (P, 13),
        "token_norm.proj.weight": (13, 13),
        "token_norm.proj.bias": (13,),
        "token_norm.norm.weight": (13,),
        "token_norm.norm.bias": (13,),
        **{
            f"attention.{bank}.{layer}.weight": (width, 13)
            for bank in ("to_k_ip", "to_v_ip")
            for layer, width in enumerate([6, 15, 15, 6, 6])
        },
    }
