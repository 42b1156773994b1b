import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from torch_reference import assert_close, carried, nchw, nhwc, randomise

from neuroadapter_jax.diffusion.attention import (
    Attention,
    HeadSum,
    LayerStream,
    attend,
    attend_by_head,
)
from neuroadapter_jax.diffusion.layers import Downsample2D, ResnetBlock2D, Upsample2D
from neuroadapter_jax.diffusion.unet import UNetConfig, _Transformer2D, timestep_embedding

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers.models import attention_processor, embeddings, resnet, upsampling
from diffusers.models.downsampling import Downsample2D as TorchDownsample2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def heads_of(x, heads):
    b, k, c = x.shape
    return x.reshape(b, k, heads, c // heads).transpose(0, 2, 1, 3)


def torch_attention(width, heads, context, bias, seed):
    return randomise(
        attention_processor.Attention(
            width, context, heads=heads, dim_head=width // heads, bias=bias
        ),
        seed,
    )


@pytest.mark.parametrize(
    ("width", "heads", "context", "bias"), [(35, 5, 11, False), (26, 2, None, True)]
)
def test_attention(rng, width, heads, context, bias):
    reference = torch_attention(width, heads, context, bias, seed=1)
    ours = carried(
        lambda rngs: Attention(width, heads, context, qkv_bias=bias, rngs=rngs), reference
    )
    x = normal(rng, 3, 13, width)
    if context is None:
        truth, streams = reference(torch.from_numpy(x)), None
    else:
        states = normal(rng, 3, 7, context)
        truth = reference(torch.from_numpy(x), torch.from_numpy(states))
        streams = [LayerStream(*ours.keys_values(jnp.asarray(states)))]
    assert_close(ours(jnp.asarray(x), streams)[0], truth)


@pytest.mark.parametrize(
    ("width", "heads", "context", "scale"), [(35, 5, 11, 0.7), (26, 2, 17, 1.0)]
)
def test_a_second_stream_is_decoupled_attention(rng, width, heads, context, scale):
    reference = torch_attention(width, heads, context, False, seed=2)
    processor = attention_processor.IPAdapterAttnProcessor2_0(
        width, context, num_tokens=(5,), scale=scale
    )
    reference.set_processor(randomise(processor, seed=3))
    text, tokens = normal(rng, 3, 7, context), normal(rng, 3, 5, context)
    x = normal(rng, 3, 13, width)
    truth = reference(
        torch.from_numpy(x),
        encoder_hidden_states=(torch.from_numpy(text), [torch.from_numpy(tokens)[:, None]]),
    )

    plain = torch_attention(width, heads, context, False, seed=2)
    ours = carried(lambda rngs: Attention(width, heads, context, rngs=rngs), plain)
    pair = [
        heads_of(tokens @ matrix[0].weight.numpy().T, heads)
        for matrix in (processor.to_k_ip, processor.to_v_ip)
    ]
    keys, values = (jnp.asarray(array) for array in pair)
    streams = [LayerStream(*ours.keys_values(jnp.asarray(text))), LayerStream(keys, values, scale)]
    out, probed = ours(jnp.asarray(x), streams, probe=lambda weights: weights)
    assert_close(out, truth)

    # The probe sees the last stream's weights: softmax(q k' / sqrt(d)), written out.
    q = heads_of(x @ plain.to_q.weight.numpy().T, heads)
    scores = np.einsum("bhqd,bhkd->bhqk", q, pair[0]) / np.sqrt(width // heads)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    assert_close(probed, weights / weights.sum(-1, keepdims=True))


@pytest.mark.parametrize(("queries", "keys"), [(13, 11), (257, 263)])
def test_attend_and_its_derivative(rng, queries, keys):
    # The larger size takes the path that computes head by head.
    q, k, v, out = (normal(rng, 3, 2, length, 5) for length in (queries, keys, keys, queries))
    in_torch = [torch.from_numpy(array).requires_grad_() for array in (q, k, v)]
    truth = torch.nn.functional.scaled_dot_product_attention(*in_torch)
    truth.backward(torch.from_numpy(out))
    ours, back = jax.vjp(lambda *qkv: attend(*qkv)[0], *map(jnp.asarray, (q, k, v)))
    assert_close(ours, truth.detach())
    for gradient, array in zip(back(jnp.asarray(out)), in_torch, strict=True):
        assert_close(gradient, array.grad)


def test_the_second_of_a_pair_attends_to_tokens_that_are_the_same(rng):
    ours = Attention(35, 5, 11, rngs=nnx.Rngs(0))
    x = normal(rng, 6, 13, 35)
    keys, values = normal(rng, 3, 5, 17, 7), normal(rng, 3, 5, 17, 7)
    key, value = normal(rng, 1, 5, 1, 7), normal(rng, 1, 5, 1, 7)
    stream = LayerStream(jnp.asarray(keys), jnp.asarray(values), 0.7, jnp.asarray(value))
    out, probed = ours(jnp.asarray(x), [stream], lambda weights: weights)
    # All 17 tokens of the second samples written out.
    both = [np.empty((6, 5, 17, 7), np.float32) for _ in range(2)]
    for array, first, second in zip(both, (keys, values), (key, value), strict=True):
        array[::2], array[1::2] = first, second
    q = torch.from_numpy(heads_of(np.array(ours.to_q(jnp.asarray(x))), 5))
    reconstructions = torch.nn.functional.scaled_dot_product_attention(
        q, *map(torch.from_numpy, both)
    )
    merged = reconstructions.swapaxes(1, 2).reshape(6, 13, 35).numpy()
    assert_close(out, np.asarray(ours.to_out[0](jnp.asarray(0.7 * merged))))
    assert probed.shape == (3, 5, 13, 17)


@pytest.mark.parametrize("batch", [3, 1])
def test_a_probe_that_sums_over_heads(rng, batch):
    q, shares = normal(rng, 3, 5, 13, 7), normal(rng, 1, 5, 11)
    k, v = normal(rng, batch, 5, 11, 7), normal(rng, batch, 5, 11, 7)
    in_torch = [torch.from_numpy(x) for x in (q, k, v)]
    weights = torch.softmax(in_torch[0] @ in_torch[1].mT / 7**0.5, dim=-1)
    probe = HeadSum(lambda a, s: s[:, None] * a**2, jnp.asarray(shares), lambda total: 2 * total)
    out, probed = attend(*map(jnp.asarray, (q, k, v)), probe)
    assert_close(out, weights @ in_torch[2])
    truth = torch.einsum("bhqk,hk->bqk", weights**2, torch.from_numpy(shares[0]))
    assert_close(probed, 2 * truth)


def test_attention_by_head_in_bfloat16(rng):
    arrays = [jnp.asarray(normal(rng, 3, 2, n, 5), jnp.bfloat16) for n in (257, 263, 263, 257)]
    in_torch = [torch.from_numpy(np.asarray(x, np.float32)).requires_grad_() for x in arrays]
    truth = torch.nn.functional.scaled_dot_product_attention(*in_torch[:3])
    truth.backward(in_torch[3].detach())
    ours, back = jax.vjp(attend_by_head, *arrays[:3])
    assert ours.dtype == jnp.bfloat16
    assert_close(ours.astype(jnp.float32), truth.detach(), 5e-2)
    for gradient, array in zip(back(arrays[3]), in_torch[:3], strict=True):
        assert gradient.dtype == jnp.bfloat16
        assert_close(gradient.astype(jnp.float32), array.grad, 5e-2)


def test_a_stream_of_one_sample_serves_the_batch(rng):
    ours = Attention(35, 5, 11, rngs=nnx.Rngs(0))
    x, states = jnp.asarray(normal(rng, 3, 13, 35)), jnp.asarray(normal(rng, 1, 7, 11))
    one, _ = ours(x, [LayerStream(*ours.keys_values(states))])
    repeated, _ = ours(x, [LayerStream(*ours.keys_values(jnp.repeat(states, 3, 0)))])
    assert_close(one, repeated, 1e-6)


@pytest.mark.parametrize(
    ("inputs", "outputs", "groups", "eps", "temb"), [(6, 15, 3, 1e-5, 13), (14, 14, 7, 1e-6, None)]
)
def test_resnet_block(rng, inputs, outputs, groups, eps, temb):
    reference = randomise(
        resnet.ResnetBlock2D(
            in_channels=inputs, out_channels=outputs, groups=groups, eps=eps, temb_channels=temb
        ),
        seed=4,
    )

    def make(rngs):
        return ResnetBlock2D(inputs, outputs, groups=groups, eps=eps, temb_channels=temb, rngs=rngs)

    ours = carried(make, reference)
    x = normal(rng, 3, 11, 7, inputs)
    shift = None if temb is None else normal(rng, 3, temb)
    truth = reference(nchw(x), None if temb is None else torch.from_numpy(shift))
    assert_close(ours(jnp.asarray(x), None if temb is None else jnp.asarray(shift)), nhwc(truth))


def test_group_norm_of_an_image_far_from_zero(rng):
    # E[x^2] - E[x]^2 in float32 loses digits of the variance as the mean grows.
    reference = randomise(
        resnet.ResnetBlock2D(in_channels=6, out_channels=6, groups=3, temb_channels=None), seed=5
    )
    ours = carried(
        lambda rngs: ResnetBlock2D(6, 6, groups=3, eps=1e-6, temb_channels=None, rngs=rngs),
        reference,
    )
    x = 7 + normal(rng, 2, 11, 7, 6)
    assert_close(ours(jnp.asarray(x)) - x, nhwc(reference(nchw(x), None)) - x)


@pytest.mark.parametrize(("channels", "y", "x"), [(5, 10, 14), (3, 22, 6)])
@pytest.mark.parametrize("around", [1, 0])
def test_downsample(rng, channels, y, x, around):
    reference = randomise(
        TorchDownsample2D(channels, use_conv=True, padding=around, name="op"), seed=6
    )
    padding = ((1, 1), (1, 1)) if around else ((0, 1), (0, 1))
    ours = carried(lambda rngs: Downsample2D(channels, padding, rngs=rngs), reference)
    images = normal(rng, 2, y, x, channels)
    assert_close(ours(jnp.asarray(images)), nhwc(reference(nchw(images))))


@pytest.mark.parametrize(("channels", "y", "x"), [(5, 11, 7), (3, 2, 13)])
def test_upsample(rng, channels, y, x):
    reference = randomise(upsampling.Upsample2D(channels, use_conv=True), seed=7)
    ours = carried(lambda rngs: Upsample2D(channels, rngs=rngs), reference)
    images = normal(rng, 2, y, x, channels)
    assert_close(ours(jnp.asarray(images)), nhwc(reference(nchw(images))))


@pytest.mark.parametrize("width", [6, 320])
def test_timestep_embedding(width):
    steps = np.array([0, 1, 17, 499, 999], np.int32)
    truth = embeddings.get_timestep_embedding(
        torch.from_numpy(steps), width, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    # Angles reach 999, where one float32 rounding of the frequency is 6e-5.
    np.testing.assert_allclose(timestep_embedding(jnp.asarray(steps), width), truth, atol=2e-4)


@pytest.mark.parametrize(("width", "heads", "context", "groups"), [(35, 5, 11, 7), (26, 2, 7, 13)])
def test_transformer(rng, width, heads, context, groups):
    reference = randomise(
        Transformer2DModel(
            heads,
            width // heads,
            in_channels=width,
            cross_attention_dim=context,
            norm_num_groups=groups,
        ),
        seed=8,
    )
    config = UNetConfig(
        block_out_channels=(width,) * 4,
        attention_head_dim=heads,
        cross_attention_dim=context,
        norm_num_groups=groups,
    )
    ours = carried(lambda rngs: _Transformer2D(width, heads, config, rngs=rngs), reference)
    x, states = normal(rng, 3, 5, 7, width), normal(rng, 3, 13, context)
    truth = reference(nchw(x), torch.from_numpy(states)).sample
    attn2 = ours.transformer_blocks[0].attn2
    out, _ = ours(jnp.asarray(x), [LayerStream(*attn2.keys_values(jnp.asarray(states)))], None)
    assert_close(out, nhwc(truth))


def test_the_weights_of_attention_sum_to_one_over_keys(rng):
    ours = Attention(35, 5, 11, rngs=nnx.Rngs(0))
    keys, values = (jnp.asarray(normal(rng, 2, 5, 11, 7)) for _ in range(2))
    x = jnp.asarray(normal(rng, 2, 13, 35))
    _, probed = jax.jit(lambda: ours(x, [LayerStream(keys, values)], lambda a: a.sum(-1)))()
    np.testing.assert_allclose(probed, 1, atol=1e-6)
