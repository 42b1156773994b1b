import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import DDIMScheduler, DDPMScheduler

SCHEDULES = [
    NoiseSchedule(),
    NoiseSchedule(
        num_train_timesteps=997,
        beta_start=0.0003,
        beta_end=0.017,
        beta_schedule="linear",
        prediction_type="v_prediction",
    ),
]


def reference(schedule, scheduler=DDPMScheduler, **settings):
    return scheduler(
        num_train_timesteps=schedule.num_train_timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=schedule.beta_schedule,
        prediction_type=schedule.prediction_type,
        steps_offset=schedule.steps_offset,
        clip_sample=False,
        **settings,
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_and_target(rng, schedule):
    truth = reference(schedule)
    np.testing.assert_allclose(schedule.alphas_cumprod, truth.alphas_cumprod, rtol=2e-5)
    assert schedule.alphas_cumprod.dtype == np.float32
    clean, noise = (rng.standard_normal((5, 3, 2, 7)).astype(np.float32) for _ in range(2))
    steps = np.array([0, 1, 333, 700, schedule.num_train_timesteps - 1])
    in_torch = [torch.from_numpy(array) for array in (clean, noise, steps)]
    in_jax = jnp.asarray(clean), jnp.asarray(noise), jnp.asarray(steps, jnp.int32)
    np.testing.assert_allclose(
        schedule.add_noise(*in_jax), truth.add_noise(*in_torch), rtol=0, atol=1e-5
    )
    velocity = truth.get_velocity(*in_torch)
    target = velocity if schedule.prediction_type == "v_prediction" else noise
    np.testing.assert_allclose(schedule.target(*in_jax), target, rtol=0, atol=1e-5)


def test_snr_falls_from_clean_to_noise():
    schedule = NoiseSchedule()
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    abar = np.cumprod(1 - betas)
    steps = np.array([0, 17, 499, 999], np.int32)
    np.testing.assert_allclose(
        schedule.snr(jnp.asarray(steps)), (abar / (1 - abar))[steps], rtol=1e-3
    )
    assert np.all(np.diff(schedule.snr(jnp.arange(1000))) < 0)


@pytest.mark.parametrize("scheduler", [DDPMScheduler, DDIMScheduler])
@pytest.mark.parametrize("num_steps", [1, 7, 50, 333])
def test_inference_timesteps(scheduler, num_steps):
    truth = reference(NoiseSchedule(), scheduler)
    truth.set_timesteps(num_steps)
    np.testing.assert_array_equal(
        NoiseSchedule().inference_timesteps(num_steps), truth.timesteps.numpy()
    )


@pytest.mark.parametrize(
    ("field", "value"), [("beta_schedule", "cosine"), ("prediction_type", "flow_prediction")]
)
def test_unknown_kinds_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        NoiseSchedule(**{field: value})


@pytest.mark.parametrize("num_steps", [0, 1001])
def test_impossible_numbers_of_steps_are_refused(num_steps):
    with pytest.raises(ValueError, match="num_steps"):
        NoiseSchedule().inference_timesteps(num_steps)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"beta_start": -1.0}, "beta_start is -1.0; expected betas above 0 and below 1"),
        ({"beta_end": 1.0}, "beta_end is 1.0"),
        ({"trained_betas": (0.1, 2.0), "num_train_timesteps": 2}, "trained_betas holds 2.0"),
        ({"trained_betas": (float("nan"),) * 1000}, "trained_betas holds nan"),
    ],
)
def test_a_beta_out_of_range_is_named(values, words):
    with pytest.raises(ValueError, match=words):
        NoiseSchedule(**values)
