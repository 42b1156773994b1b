"""Attention by the platform that is lowered for, and the kernels' mathematics by PyTorch."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from torch_reference import assert_close

from neuroadapter_jax.diffusion import attention, attention_fused
from neuroadapter_jax.diffusion.attention import Attention, HeadSum, LayerStream, Tap, attend
from neuroadapter_jax.diffusion.attention_fused import (
    NONE,
    Hardware,
    attend_by_flash,
    attend_with_lengths,
    fused_kernels,
    hardware,
)
from neuroadapter_jax.studies.benchmark import absent

torch = pytest.importorskip("torch")
HOPPER = Hardware(nvidia=(9, 0), cudnn=True)


@pytest.fixture
def having(monkeypatch):
    """Lets attention believe in accelerators."""

    def have(found):
        monkeypatch.setattr(attention_fused, "hardware", lambda: found)
        attention_fused._say_once.cache_clear()

    yield have
    attention_fused._say_once.cache_clear()


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def qkv(rng, queries, keys, width, dtype=jnp.bfloat16, batch=2):
    return tuple(
        jnp.asarray(normal(rng, b, 3, n, width), dtype)
        for b, n in ((2, queries), (batch, keys), (batch, keys))
    )


def in_pytorch(arrays, gradient):
    """Output and derivatives of PyTorch's attention in float32; batch 1 is repeated."""
    own = [torch.from_numpy(np.array(x, np.float32)).requires_grad_() for x in arrays]
    q, k, v = (x.expand(len(own[0]), *x.shape[1:]) for x in own)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    out.backward(torch.from_numpy(np.array(gradient, np.float32)))
    return out.detach(), [x.grad for x in own]


def test_a_machine_without_accelerators_has_none():
    assert hardware() == NONE


@pytest.mark.parametrize(("keys", "batch"), [(8, 2), (7, 2), (7, 1)])
def test_the_mathematics_of_cudnn_kernel(rng, keys, batch):
    # An odd number of keys is filled up by one that is masked.
    arrays = qkv(rng, 13, keys, 8, jnp.float32, batch)
    gradient = normal(rng, 2, 3, 13, 8)
    truth, derivatives = in_pytorch(arrays, gradient)
    out, back = jax.vjp(lambda *x: attend_with_lengths(*x, "xla"), *arrays)
    assert_close(out, truth)
    for ours, theirs in zip(back(jnp.asarray(gradient)), derivatives, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("keys", [11, 7])
def test_whole_weights_in_bfloat16_with_a_derivative_of_bfloat16_products(rng, keys):
    arrays = qkv(rng, 5, keys, 8)
    gradient = jnp.asarray(normal(rng, 2, 3, 5, 8), jnp.bfloat16)
    truth, derivatives = in_pytorch(arrays, gradient)

    def whole(q, k, v):
        return attention._attend_whole(
            q, k, v, weights_of=attention._accelerated_weights, probe=None
        )[0]

    out, back = jax.vjp(whole, *arrays)
    assert_close(out.astype(jnp.float32), truth, 3e-2)
    for ours, theirs in zip(back(gradient), derivatives, strict=True):
        assert_close(ours.astype(jnp.float32), theirs, 5e-2)
    program = lowered(lambda *x: jax.vjp(whole, *x)[1](gradient), arrays, "cuda")
    products = re.findall(r"stablehlo.dot_general .* : \((.*)\) ->", program)
    assert len(products) == 5
    assert not any("f32" in operands.replace("bf16", "") for operands in products)


def lowered(function, arrays, platform):
    jitted = jax.jit(function).trace(*arrays)
    return jitted.lower(lowering_platforms=(platform,)).as_text()


def value_and_derivative(probe=None):
    # A function of its own at every call, which no cache knows.
    def function(q, k, v):
        out, back = jax.vjp(lambda *x: attend(*x, probe)[0], q, k, v)
        return out, back(jnp.ones_like(out))

    return function


def test_the_platform_that_is_lowered_for_decides(rng, having):
    arrays = qkv(rng, 258, 263, 8)
    having(HOPPER)
    with absent._cudnn((9, 0), (9, 10, 0)):
        on_nvidia = lowered(value_and_derivative(), arrays, "cuda")
        on_cpu = lowered(value_and_derivative(), arrays, "cpu")
    assert on_nvidia.count("__cudnn$fmhaSoftmax") == 2  # forward and derivative
    assert "stablehlo.while" not in on_nvidia
    assert "cudnn" not in on_cpu
    assert "stablehlo.while" in on_cpu  # head by head


def test_a_cpu_beside_a_gpu_computes_what_it_computes_alone(rng, having):
    probe = HeadSum(lambda a, s: s[:, None] * a, jnp.ones((1, 3, 7)), lambda total: total)
    cases = [(258, 263, None), (5, 7, None), (5, 7, probe)]
    for queries, keys, probe in cases:
        arrays = qkv(rng, queries, keys, 8)

        def found(probe=probe, arrays=arrays):
            function = jax.jit(lambda *x: attend(*x, probe))
            return jax.tree.map(np.asarray, function(*arrays))

        alone = found()
        having(HOPPER)
        with absent._cudnn((9, 0), (9, 10, 0)):
            beside = found()
        having(NONE)
        assert jax.tree.all(jax.tree.map(np.array_equal, alone, beside))


def test_what_a_probe_sees_is_not_fused(rng, having):
    arrays = qkv(rng, 128, 256, 8)
    having(HOPPER)
    with absent._cudnn((9, 0), (9, 10, 0)):
        for probe in (lambda weights: weights, Tap(lambda weights: (weights, None))):
            assert "cudnn" not in lowered(lambda *x, p=probe: attend(*x, p), arrays, "cuda")


@pytest.mark.parametrize(
    ("found", "width", "dtype", "words"),
    [
        (HOPPER, 160, jnp.bfloat16, "not of 160"),
        (HOPPER, 12, jnp.bfloat16, "not of 12"),
        (HOPPER, 8, jnp.float32, "these are float32"),
        (Hardware(nvidia=(7, 5), cudnn=True), 8, jnp.bfloat16, "this GPU has 7.5"),
        (Hardware(nvidia=(8, 0), cudnn=True), 136, jnp.bfloat16, "not of 136"),
        (Hardware(num_tpus=1), 160, jnp.bfloat16, "not of 160"),
        (Hardware(num_tpus=8), 8, jnp.bfloat16, "several devices"),
    ],
)
def test_what_a_kernel_refuses_is_said_once(rng, having, found, width, dtype, words):
    having(found)
    q, k, _ = qkv(rng, 128, 128, width, dtype)
    with pytest.warns(UserWarning, match=words) as said:
        assert fused_kernels(q, k) == {}
        assert fused_kernels(q, k) == {}
    assert len(said) == 1


def test_small_attention_needs_no_kernel_and_no_word(rng, having):
    having(HOPPER)
    q, k, _ = qkv(rng, 64, 7, 160)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused_kernels(q, k) == {}


@pytest.mark.parametrize(("keys", "batch"), [(128, 2), (77, 1)])
def test_the_mathematics_of_the_flash_kernel(rng, keys, batch):
    from jax.experimental.pallas import tpu

    arrays = qkv(rng, 128, keys, 8, jnp.float32, batch)
    gradient = normal(rng, 2, 3, 128, 8)
    truth, derivatives = in_pytorch(arrays, gradient)
    with tpu.force_tpu_interpret_mode():
        out, back = jax.vjp(attend_by_flash, *arrays)
        found = back(jnp.asarray(gradient))
    assert_close(out, truth, 1e-5)
    for ours, theirs in zip(found, derivatives, strict=True):
        assert_close(ours, theirs, 1e-4)


@pytest.mark.parametrize(
    ("dtype", "fused", "tolerance"), [(jnp.float32, 0, 1e-5), (jnp.bfloat16, 1, 3e-2)]
)
def test_a_layer_forced_onto_a_gpus_path_computes_what_the_cpus_does(
    rng, having, monkeypatch, dtype, fused, tolerance
):
    """The text of every sample in the kernel, the brain stream by pairs under a probe."""
    layer = jax.tree.map(lambda x: x.astype(dtype), Attention(24, 3, rngs=nnx.Rngs(0)))
    x, text, brain, alike, away = (
        jnp.asarray(normal(rng, *shape), dtype)
        for shape in ((4, 136, 24), (1, 3, 131, 8), (2, 3, 129, 8), (1, 3, 1, 8), (4, 136, 24))
    )
    shares = jnp.asarray(normal(rng, 1, 3, 129))
    probe = HeadSum(lambda a, s: s[:, None] * a, shares, lambda total: total.mean(axis=1))

    def loss(x, text, brain):
        streams = [LayerStream(text, 2 * text), LayerStream(brain, brain - 1, 0.5, alike)]
        out, probed = layer(x, streams, probe)
        total = (out * away).astype(jnp.float32).sum() + probed.astype(jnp.float32).sum()
        return total, (out, probed)

    def found():
        (_, made), gradients = jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(x, text, brain)
        return *made, *gradients

    calls = []

    def kernel(q, k, v):
        calls.append(k.shape)
        return attend_with_lengths(q, k, v, "xla")

    truth = found()
    having(HOPPER)
    monkeypatch.setattr(attention_fused, "attend_by_cudnn", kernel)
    monkeypatch.setattr(
        jax.lax, "platform_dependent",
        lambda *arrays, default, **platforms: platforms.get("cuda", default)(*arrays),
    )  # fmt: skip
    # What is not fused is said; JAX's own attention leaves casts to promotion.
    with warnings.catch_warnings(), jax.numpy_dtype_promotion("standard"):
        warnings.simplefilter("ignore")
        forced = found()
    assert calls == [(1, 3, 131, 8)] * fused
    for ours, theirs in zip(forced, truth, strict=True):
        largest = np.abs(np.asarray(theirs, np.float32)).max()
        error = np.abs(np.asarray(ours - theirs, np.float32)).max()
        assert error <= tolerance * largest
