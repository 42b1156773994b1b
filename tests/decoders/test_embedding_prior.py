"""MindEye's prior against dalle2-pytorch 1.15.6 (stored numbers) and diffusers' DDPM.

golden/dalle2_prior.npz holds what that package's own Attention, FeedForward, RelPosBias, MLP,
LayerNorm and NoiseScheduler, put together as MindEye does, gave for the weights and inputs that
`drawn` makes again from NumPy's generator. The package asks for twenty others, so it is not here.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.decoders.embedding_prior import (
    EmbeddingPrior,
    PriorConfig,
    PriorSchedule,
    noised,
    posterior_step,
    prior_loss,
    sample_embedding,
    tensor_names,
)
from neuroadapter_jax.diffusion.weights import (
    from_tensors,
    num_parameters,
    parameter_shapes,
    to_tensors,
)

CONFIG = PriorConfig(num_tokens=11, width=8, depth=2, num_heads=2, head_width=40)
GOLDEN = np.load(Path(__file__).parent / "golden" / "dalle2_prior.npz")
KEEP = (jnp.array([True, False, True]), jnp.array([True, True, False]))
TIMESTEPS = jnp.array([0, 41, 99])


@pytest.fixture(scope="module")
def drawn():
    """The network with the stored weights, and z, B and the target."""
    abstract = abstract_network(lambda rngs: EmbeddingPrior(CONFIG, rngs=rngs))
    shapes = {tensor_names(n): (n, s) for n, s in parameter_shapes(abstract).items()}
    rng = np.random.default_rng(23)
    tensors = {}
    for name in sorted(shapes):
        own, shape = shapes[name]
        scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
        value = scale * rng.standard_normal(shape) + (1.0 if name.endswith(".g") else 0.0)
        tensors[own] = value.astype(np.float32)
    inputs = [jnp.asarray(rng.standard_normal((3, 11, 8)), jnp.float32) for _ in range(3)]
    return from_tensors(abstract, tensors, "golden", np.float32), *inputs


@pytest.fixture(scope="module")
def apply(drawn):
    graph, params = nnx.split(drawn[0])
    run = jax.jit(lambda params, *inputs: nnx.merge(graph, params)(*inputs))
    return lambda *inputs: run(params, *inputs)


def test_the_names_are_those_of_mindeyes_checkpoints(drawn):
    assert sorted(map(tensor_names, parameter_shapes(drawn[0]))) == GOLDEN["names"].tolist()


def test_output_loss_and_gradient_are_dalle2s(drawn):
    prior, z, brain, target = drawn
    graph, params = nnx.split(prior)

    def loss(params):
        own = nnx.merge(graph, params)
        out = own(z, TIMESTEPS, brain, keep_brain=KEEP[0], keep_noisy=KEEP[1])
        return jnp.mean((out - target) ** 2), out

    (value, out), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(out, GOLDEN["output"], rtol=0, atol=1e-5)
    assert float(value) == pytest.approx(float(GOLDEN["loss"]), rel=1e-5)
    gradient = {tensor_names(n): g for n, g in to_tensors(nnx.merge(graph, grads)).items()}
    # Each parameter's gradient by its product with a random tensor.
    rng = np.random.default_rng(29)
    found = [(g * rng.standard_normal(g.shape)).sum() for _, g in sorted(gradient.items())]
    np.testing.assert_allclose(found, GOLDEN["gradients"], rtol=2e-4, atol=1e-5)


def test_without_dropped_conditions_it_is_dalle2s_as_well(drawn, apply):
    _, z, brain, _ = drawn
    np.testing.assert_allclose(apply(z, TIMESTEPS, brain), GOLDEN["kept"], rtol=0, atol=1e-5)


def test_the_schedule_is_dalle2s():
    schedule = PriorSchedule(100)
    for ours, theirs in {
        "betas": "betas",
        "signal": "sqrt_alphas_cumprod",
        "noise": "sqrt_one_minus_alphas_cumprod",
        "of_clean": "posterior_mean_coef1",
        "of_noisy": "posterior_mean_coef2",
        "variance": "posterior_variance",
    }.items():
        np.testing.assert_allclose(getattr(schedule, ours), GOLDEN[theirs], rtol=1e-5, atol=1e-7)


def test_a_step_and_the_noising_are_diffusers_ddpm(drawn, apply, monkeypatch):
    pytest.importorskip("diffusers")
    import torch
    from diffusers import DDPMScheduler

    prior, z, brain, eps = drawn
    theirs = DDPMScheduler(
        100, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False
    )
    as_torch = [torch.from_numpy(np.array(x)) for x in (z, eps)]
    times = torch.tensor(TIMESTEPS.tolist())
    truth = theirs.add_noise(*as_torch, times).numpy()
    np.testing.assert_allclose(noised(z, TIMESTEPS, eps, CONFIG), truth, rtol=0, atol=1e-5)
    graph, params = nnx.split(prior)
    step_of = jax.jit(lambda params, *given: posterior_step(nnx.merge(graph, params), *given))
    for t in (0, 1, 57, 99):
        clean = apply(z, jnp.full((3,), t), brain)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **k: as_torch[1]
        )
        step = theirs.step(torch.from_numpy(np.array(clean)), t, as_torch[0]).prev_sample.numpy()
        ours = step_of(params, z, jnp.asarray(t), brain, eps)
        np.testing.assert_allclose(ours, step, rtol=0, atol=2e-5)


def test_a_sample_depends_on_its_own_key_alone_and_takes_all_steps(drawn):
    _, _, brain, _ = drawn
    short = EmbeddingPrior(
        PriorConfig(num_tokens=2, width=4, depth=1, num_heads=1, head_width=4, num_timesteps=5),
        rngs=nnx.Rngs(0),
    )
    keys = jax.random.split(jax.random.key(1), 3)
    tokens = brain[:, :2, :4]
    sample = jax.jit(lambda keys, tokens: sample_embedding(short, keys, tokens))
    whole = sample(keys, tokens)
    np.testing.assert_allclose(sample(keys[::-1], tokens[::-1])[::-1], whole, rtol=0, atol=1e-5)

    def unit(step):
        return jnp.stack([jax.random.normal(jax.random.fold_in(k, step), (2, 4)) for k in keys])

    z = unit(5)
    step = jax.jit(lambda *given: posterior_step(short, *given))
    for t in (4, 3, 2, 1, 0):
        z = step(z, jnp.asarray(t), tokens, unit(t))
    np.testing.assert_allclose(whole, z / 2.0, rtol=0, atol=1e-5)  # sqrt of the width 4


def test_the_loss_is_at_the_scale_of_the_root_of_the_width():
    config = PriorConfig(num_tokens=2, width=4, depth=1, num_heads=1, head_width=4)
    prior = EmbeddingPrior(config, rngs=nnx.Rngs(0))
    prior.project_out.kernel[...] = jnp.zeros(
        (4, 4)
    )  # predicts nothing, so the loss is the target's
    embedding = jnp.full((5, 2, 4), 0.5)
    loss, predicted = jax.jit(lambda key, brain: prior_loss(prior, key, brain, embedding))(
        jax.random.key(0), jnp.zeros((5, 2, 4))
    )
    assert float(loss) == pytest.approx(4 * 0.25) and not predicted.any()


def test_the_tiny_prior_has_the_parameters_that_its_layers_add_up_to():
    c, k, d, heads = 192, 17, 48, 4
    tiny = PriorConfig(k, c, depth=2, num_heads=heads, head_width=d)
    count = num_parameters(abstract_network(lambda rngs: EmbeddingPrior(tiny, rngs=rngs)))
    attention = 2 * c * heads * d + c * 2 * d + 2 * d + 2 * c
    feed_forward = c * 8 * c + 4 * c * c + c
    time = (c * 2 * c + 2 * c) + (4 * c * c + 2 * c) + (2 * c * c + c)
    rest = 3 * k * c + 32 * heads + c + c * c
    assert count == 2 * (attention + feed_forward) + time + rest
