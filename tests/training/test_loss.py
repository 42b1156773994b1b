import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

GAMMA = 5.0
STEPS = np.array([0, 1, 7, 101, 373, 500, 997, 999], np.int32)


def torch_weights(prediction_type):
    """As diffusers' training scripts weight their loss."""
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    snr = compute_snr(scheduler, torch.from_numpy(STEPS).long())
    capped = torch.stack([snr, GAMMA * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    return (capped / snr if prediction_type == "epsilon" else capped / (snr + 1)).numpy()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_min_snr_weights(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    weights = np.asarray(min_snr_weights(schedule, jnp.asarray(STEPS), GAMMA))
    np.testing.assert_allclose(weights, torch_weights(prediction_type), rtol=2e-4)

    # The paper's formula at both ends: gamma / snr where little noise was added, 1 or snr at the
    # other, where snr < gamma.
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[STEPS[[0, -1]]]
    first, last = abar / (1 - abar)
    assert first > 1000 and last < 0.01
    if prediction_type == "epsilon":
        expected = [GAMMA / first, 1.0]
    else:
        expected = [GAMMA / (first + 1), last / (last + 1)]
    np.testing.assert_allclose(weights[[0, -1]], expected, rtol=2e-4)


def test_min_snr_weights_of_a_schedule_without_signal_at_its_end():
    steps = jnp.asarray([998, 999])
    for prediction_type, expected in (
        ("epsilon", [1.0, 1.0]),
        ("v_prediction", [0.0, 0.0]),
        ("sample", [0.0, 0.0]),
    ):
        schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=True)
        found = min_snr_weights(schedule, steps, GAMMA)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_min_snr_weights_of_predicted_images_are_the_capped_snr():
    schedule = NoiseSchedule(prediction_type="sample")
    found = min_snr_weights(schedule, jnp.asarray(STEPS), GAMMA)
    abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)[STEPS]
    np.testing.assert_allclose(found, np.minimum(abar / (1 - abar), GAMMA), rtol=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_no_gamma_weighs_all_equally(prediction_type):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    weights = min_snr_weights(schedule, jnp.asarray(STEPS), None)
    np.testing.assert_array_equal(weights, np.ones(len(STEPS), np.float32))


def test_losses_are_pytorchs(rng):
    prediction, target = rng.standard_normal((2, 5, 7, 3, 4)).astype(np.float32)
    weights = rng.random(5).astype(np.float32)
    ours = denoising_losses(*map(jnp.asarray, (prediction, target, weights)))
    error = torch.nn.functional.mse_loss(
        torch.from_numpy(prediction), torch.from_numpy(target), reduction="none"
    )
    truth = error.mean(dim=(1, 2, 3)) * torch.from_numpy(weights)
    np.testing.assert_allclose(ours, truth.numpy(), rtol=1e-5)


def test_noise_is_normal_and_timesteps_are_uniform():
    schedule = NoiseSchedule(num_train_timesteps=13)
    latents = jnp.zeros((13_000, 2, 1, 3))
    noise, timesteps = sample_noise(jax.random.key(3), latents, schedule)
    counts = np.bincount(timesteps, minlength=13)
    assert len(counts) == 13 and np.all(np.abs(counts - 1000) < 5 * 1000**0.5)
    assert noise.shape == latents.shape and noise.dtype == latents.dtype
    values = np.asarray(noise).ravel()
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
    assert abs(np.corrcoef(noise[:-1, 0, 0, 0], noise[1:, 0, 0, 0])[0, 1]) < 0.05
