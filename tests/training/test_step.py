import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_backbone import random_network
from tiny_step import SEED, UNET, TinyStep
from torch_adapter import TorchNeuroAdapter
from torch_reference import carried, randomise

from neuroadapter_jax.adapter.token_dropout import keep_mask
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.diffusion.weights import tensor_name
from neuroadapter_jax.sharding import ShardedBatches, make_mesh, replicate
from neuroadapter_jax.training.loss import min_snr_weights, sample_noise
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.step import Objective, latents_from_moments

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import DDPMScheduler
from diffusers import UNet2DConditionModel as TorchUNet

TRAINED = {
    "region_projection.weights",
    "region_projection.bias",
    "token_norm.proj.weight",
    "token_norm.proj.bias",
    "token_norm.norm.weight",
    "token_norm.norm.bias",
    *(f"attention.to_{kv}_ip.{layer}.weight" for kv in "kv" for layer in range(4)),
}


def make_unet(rngs):
    return UNet2DConditionModel(UNetConfig(**UNET), rngs=rngs)


@pytest.fixture(scope="module")
def unet():
    return random_network(make_unet, 0)


def leaves(tree):
    """Copies, by name: the step donates its state."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat]
    return dict(zip(names, (np.array(leaf) for _, leaf in flat), strict=True))


def trained(params):
    """Arrays by PyTorch's name."""
    return {tensor_name(path): np.array(leaf[...]) for path, leaf in nnx.to_flat_state(params)}


class Batches:
    k = 0
    get_state = set_state = None

    def __next__(self):
        self.k += 1
        return TinyStep.batch(self.k)


@pytest.fixture(scope="module")
def run(unet):
    """As a run has them: a step, its state and frozen part on the mesh, and cut batches."""
    tiny, mesh = (
        TinyStep(unet, make_optimizer(make_schedule(1e-2, 100), weight_decay=1e-3), ema_decay=0.9),
        make_mesh(),
    )
    return tiny, lambda: (
        replicate(tiny.state(), mesh),
        replicate(tiny.frozen, mesh),
        ShardedBatches(Batches(), mesh),
    )


def test_what_a_step_changes(run):
    tiny, start = run
    state, held, batches = start()
    frozen, before = leaves(held), trained(tiny.params)
    old = jax.tree.leaves(state)
    state, metrics = tiny.step(state, held, next(batches))

    # Donated: the old state's memory is the new one's.
    assert all(leaf.is_deleted() for leaf in old)
    # Frozen means frozen: U-Net, text and packing are the same to the bit.
    after = leaves(held)
    assert frozen.keys() == after.keys() and len(frozen) > 60
    for name in frozen:
        assert frozen[name].tobytes() == after[name].tobytes(), name
    # What trains, by name; every bit of it moves.
    params = trained(state["params"])
    assert params.keys() == before.keys() == TRAINED
    for name in TRAINED:
        assert np.any(params[name] != before[name]), name
    # The young average follows with decay (1 + 0) / (10 + 0).
    for name, average in trained(state["ema"]).items():
        truth = 0.1 * before[name] + 0.9 * params[name]
        np.testing.assert_allclose(average, truth, atol=1e-6)
    assert int(state["step"]) == 1
    norm = np.sqrt(sum(np.sum(x**2, dtype=np.float64) for x in params.values()))
    np.testing.assert_allclose(metrics["parameter_norm"], norm, rtol=1e-5)
    assert 0 < float(metrics["kept_tokens"]) < 1


def test_with_every_token_dropped_the_projections_do_not_learn(unet):
    tiny = TinyStep(unet, optax.sgd(1.0), objective=Objective(drop_rate=1.0))
    before = trained(tiny.params)
    state, metrics = tiny.step(tiny.state(), tiny.frozen, tiny.batch(0))
    after = trained(state["params"])
    assert float(metrics["kept_tokens"]) == 0
    for name in ("region_projection.weights", "region_projection.bias", "token_norm.proj.weight"):
        assert after[name].tobytes() == before[name].tobytes()
    for name in ("token_norm.norm.bias", "attention.to_v_ip.0.weight"):
        assert np.any(after[name] != before[name])


def test_the_step_is_compiled_once(run):
    tiny, start = run
    state, frozen, batches = start()
    for _ in range(5):
        state, _ = tiny.step(state, frozen, next(batches))
    assert int(state["step"]) == 5
    assert tiny.step._cache_size() == 1


class Identity(AutoencoderKL):
    """An autoencoder whose images are its latents."""

    def __init__(self):
        pass

    def decode(self, latents):
        return latents


def test_a_loss_over_pixels_is_added_by_its_weight(unet):
    """With images that are latents it is (1 - abar_t) times the plain loss over the squared scale.

    Clean latents are off by the noise's error times sigma_t over the signal, and abar_t takes the
    signal out again.
    """
    objective = Objective(gamma=None, drop_rate=0.4, pixel_weight=0.7)
    tiny = TinyStep(unet, optax.sgd(1.0), objective=objective)
    frozen = tiny.frozen._replace(vae=Identity())
    _, metrics = tiny.step(tiny.state(), frozen, tiny.batch(0, size=1))
    noise_key = jax.random.split(jax.random.fold_in(jax.random.key(SEED), 0), 3)[1]
    _, timesteps = sample_noise(noise_key, jnp.zeros((1, 6, 6, 4)), tiny.schedule)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    sigma2 = 1 - np.cumprod(1 - betas)[int(timesteps[0])]
    plain = float(metrics["unweighted_loss"])
    expected = plain * (1 + 0.7 * sigma2 / 0.37**2)
    assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction_type", "options"),
    [("epsilon", {}), ("v_prediction", {"accumulate": 3}), ("epsilon", {"remat": True})],
)
def test_loss_and_gradient_are_pytorchs(prediction_type, options):
    reference = randomise(TorchUNet(**UNET), seed=5)
    unet = carried(make_unet, reference)
    # Plain descent: what a step takes away is the gradient, many times over against rounding.
    rate = 1e3
    tiny = TinyStep(unet, optax.sgd(rate), prediction_type, **options)
    batch = {name: jnp.asarray(array) for name, array in tiny.batch(3).items()}
    before = trained(tiny.params)
    state, metrics = tiny.step(tiny.state(), tiny.frozen, batch)
    after = trained(state["params"])

    keys = jax.random.split(jax.random.fold_in(jax.random.key(SEED), 0), 3)
    latents = latents_from_moments(keys[0], batch, 0.37)
    noise, steps = (np.array(x) for x in sample_noise(keys[1], latents, tiny.schedule))
    packed = np.array(pack(batch["betas"].astype(jnp.float32), tiny.frozen.packing))
    keep = np.array(keep_mask(keys[2], packed.shape[:2], "uniform"))
    assert 0 < keep.mean() < 1
    weights = np.array(min_snr_weights(tiny.schedule, jnp.asarray(steps), 5.0))  # has its own test

    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    x, eps, t = torch.from_numpy(np.array(latents)), torch.from_numpy(noise), torch.tensor(steps)
    noisy = scheduler.add_noise(x, eps, t.long())
    target = eps if prediction_type == "epsilon" else scheduler.get_velocity(x, eps, t.long())
    order = [name for name, _ in unet.cross_attentions()]
    truth = TorchNeuroAdapter(tiny.adapter, reference, order)
    predicted = truth(noisy.numpy(), steps, tiny.states, packed, keep)
    errors = ((predicted - target) ** 2).mean(dim=(1, 2, 3))
    loss = (torch.from_numpy(weights) * errors).mean()
    loss.backward()

    np.testing.assert_allclose(metrics["loss"], loss.item(), rtol=1e-4)
    np.testing.assert_allclose(metrics["unweighted_loss"], errors.mean().item(), rtol=1e-4)
    np.testing.assert_allclose(metrics["kept_tokens"], keep.mean(), rtol=1e-6)
    gradients = {name: weight.grad.numpy() for name, weight in truth.weights.items()}
    norm = np.sqrt(sum(np.sum(g**2) for g in gradients.values()))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    for name in TRAINED:
        ours, theirs = (before[name] - after[name]) / rate, to_our_axes(name, gradients[name])
        scale = np.abs(theirs).max()
        assert scale > 1e-5, name
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * scale, err_msg=name)


def to_our_axes(name, value):
    linear = name.endswith(".weight") and value.ndim == 2
    return value.T if linear else value


def test_latents_are_sampled_from_the_prepared_moments():
    mean = jnp.full((1, 100, 100, 4), 3.0, jnp.float16)
    std = jnp.full((1, 100, 100, 4), 0.5, jnp.float16)
    batch = {"latent_mean": mean, "latent_std": std}
    latents = np.asarray(latents_from_moments(jax.random.key(1), batch, 0.2))
    assert latents.dtype == np.float32
    assert latents.mean() == pytest.approx(0.6, abs=5 * 0.1 / 200)
    assert latents.std() == pytest.approx(0.1, rel=0.02)
