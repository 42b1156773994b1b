import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.diffusion import samplers
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.sampling import SAMPLERS, SPACINGS, Sampling

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
)
from diffusers.schedulers import scheduling_ddpm, scheduling_lcm

SHAPE = (3, 5, 7, 2)
KINDS = ["epsilon", "v_prediction"]


def toy(sin):
    """A fixed, bent prediction from latents and timestep, for either library's sine."""
    return lambda x, t: 0.8 * x + 0.3 * sin(2.0 * x + t / 211)


def trajectory(schedule, sampler, num_steps, latents, keys, eta=0.0, spacing=None):
    """Latents before every step and after the last, [t + 1, b, ...]."""

    def predict(x, t):
        return toy(jnp.sin)(x, t.astype(jnp.float32)), x

    steps = samplers.plan(schedule, Sampling(sampler, num_steps, eta=eta, spacing=spacing))
    last, before = jax.jit(
        lambda x: samplers.sample(predict, x, keys, steps, schedule.prediction_type)
    )(jnp.asarray(latents))
    return np.concatenate([before, last[None]])


def reference(schedule, scheduler, num_steps, latents, step):
    scheduler.set_timesteps(num_steps)
    x = torch.from_numpy(latents)
    probed = [x]
    for i, t in enumerate(scheduler.timesteps):
        x = step(scheduler, i, toy(torch.sin)(x, float(t)), t, x).prev_sample
        probed.append(x)
    return torch.stack(probed).numpy()


def settings(schedule):
    return {
        "num_train_timesteps": schedule.num_train_timesteps,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
        "beta_schedule": schedule.beta_schedule,
        "prediction_type": schedule.prediction_type,
        "steps_offset": schedule.steps_offset,
    }


def assert_same_trajectory(ours, truth):
    assert ours.shape == truth.shape
    for a, b in zip(ours, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())


@pytest.fixture
def start(rng):
    keys = jax.random.split(jax.random.key(5), SHAPE[0])
    return rng.standard_normal(SHAPE).astype(np.float32), keys


def noise(keys, i):
    return torch.from_numpy(np.array(samplers.unit_noise(keys, i + 1, SHAPE[1:])))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [11, 50])
def test_ddpm(start, monkeypatch, kind, num_steps):
    schedule = NoiseSchedule(prediction_type=kind)
    latents, keys = start

    def step(scheduler, i, output, t, x):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: noise(keys, i))
        return scheduler.step(output, t, x)

    scheduler = DDPMScheduler(**settings(schedule), variance_type="fixed_small", clip_sample=False)
    truth = reference(schedule, scheduler, num_steps, latents, step)
    ours = trajectory(schedule, "ddpm", num_steps, latents, keys)
    assert_same_trajectory(ours, truth)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("eta", "one"), [(0.0, False), (0.7, False), (0.7, True), (1.0, False)])
def test_ddim(start, kind, eta, one):
    schedule = NoiseSchedule(prediction_type=kind, set_alpha_to_one=one)
    latents, keys = start
    scheduler = DDIMScheduler(**settings(schedule), clip_sample=False, set_alpha_to_one=one)

    def step(scheduler, i, output, t, x):
        variance_noise = noise(keys, i) if eta else None
        return scheduler.step(output, t, x, eta=eta, variance_noise=variance_noise)

    truth = reference(schedule, scheduler, 17, latents, step)
    assert_same_trajectory(trajectory(schedule, "ddim", 17, latents, keys, eta), truth)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 13, 29])
def test_dpm_solver(start, kind, num_steps):
    schedule = NoiseSchedule(prediction_type=kind)
    latents, keys = start
    scheduler = DPMSolverMultistepScheduler(
        **settings(schedule),
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
    )

    def step(scheduler, i, output, t, x):
        return scheduler.step(output, t, x)

    truth = reference(schedule, scheduler, num_steps, latents, step)
    assert_same_trajectory(trajectory(schedule, "dpmsolver++", num_steps, latents, keys), truth)


@pytest.mark.parametrize("num_steps", [2, 7, 19])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "lcm"])
def test_steps_are_spaced_as_diffusers_spaces_them(start, monkeypatch, sampler, spacing, num_steps):
    schedule = NoiseSchedule()
    latents, keys = start
    kind = {
        "ddpm": functools.partial(DDPMScheduler, variance_type="fixed_small", clip_sample=False),
        "ddim": functools.partial(DDIMScheduler, set_alpha_to_one=False, clip_sample=False),
        "dpmsolver++": DPMSolverMultistepScheduler,
    }[sampler]

    def step(scheduler, i, output, t, x):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: noise(keys, i))
        return scheduler.step(output, t, x)

    scheduler = kind(**settings(schedule), timestep_spacing=spacing)
    truth = reference(schedule, scheduler, num_steps, latents, step)
    ours = samplers.plan(schedule, Sampling(sampler, num_steps, spacing=spacing)).timesteps
    np.testing.assert_array_equal(ours, scheduler.timesteps.numpy())
    found = trajectory(schedule, sampler, num_steps, latents, keys, spacing=spacing)
    assert_same_trajectory(found, truth)


@pytest.mark.parametrize(
    ("sampler", "num_steps", "eta"),
    [("ddpm", 250, 0.0), ("ddim", 250, 0.0), ("ddim", 250, 0.7), ("dpmsolver++", 199, 0.0)],
)
def test_samples_of_a_gaussian_have_its_moments(sampler, num_steps, eta):
    # For data N(m, s^2) the best prediction is known: E[eps | x] = sigma (x - a m) / var(x).
    mean, std = 0.8, 0.3
    schedule = NoiseSchedule()
    abar = jnp.asarray(schedule.alphas_cumprod)

    def predict(x, t):
        a, var = jnp.sqrt(abar[t]), 1.0 - abar[t]
        return jnp.sqrt(var) * (x - a * mean) / (abar[t] * std**2 + var), ()

    keys = jax.random.split(jax.random.key(3), 20_011)
    latents = samplers.unit_noise(keys, 0, (1,))
    steps = samplers.plan(schedule, Sampling(sampler, num_steps, eta=eta))
    reconstructions, _ = jax.jit(lambda x: samplers.sample(predict, x, keys, steps))(latents)
    assert abs(float(reconstructions.mean()) - mean) < 0.02
    assert abs(float(reconstructions.std()) - std) < 0.02


def test_a_sample_does_not_depend_on_its_batch(start):
    latents, keys = start
    schedule = NoiseSchedule()
    whole = trajectory(schedule, "ddpm", 11, latents, keys)
    part = trajectory(schedule, "ddpm", 11, latents[1:], keys[1:])
    np.testing.assert_allclose(part, whole[:, 1:], rtol=0, atol=1e-5)
    assert not np.allclose(whole[-1, 0], whole[-1, 1])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampling_may_be_cut_into_calls(start, sampler):
    latents, keys = start
    schedule = NoiseSchedule()
    steps = samplers.plan(schedule, Sampling(sampler, 11))
    whole = trajectory(schedule, sampler, 11, latents, keys)

    def predict(x, t):
        return toy(jnp.sin)(x, t.astype(jnp.float32)), x

    state = samplers.start_state(jnp.asarray(latents))
    for span in ((0, 3), (3, 4), (4, 11)):
        state, before = samplers.advance(predict, state, keys, steps, span=span)
        np.testing.assert_allclose(before, whole[slice(*span)], rtol=0, atol=1e-4)
        x = torch.from_numpy(np.array(before[-1]))
        t = int(steps.timesteps[span[1] - 1])
        abar = schedule.alphas_cumprod[t]
        clean = (x - np.sqrt(1 - abar) * toy(torch.sin)(x, float(t))) / np.sqrt(abar)
        np.testing.assert_allclose(state.clean, clean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(state.latents, whole[-1], rtol=0, atol=1e-4)


def scheduler_of(schedule, sampler):
    if sampler == "ddpm":
        return DDPMScheduler(**settings(schedule), variance_type="fixed_small", clip_sample=False)
    if sampler == "ddim":
        return DDIMScheduler(**settings(schedule), clip_sample=False, set_alpha_to_one=False)
    if sampler == "lcm":
        return LCMScheduler(**settings(schedule), clip_sample=False)
    return DPMSolverMultistepScheduler(**settings(schedule))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("strength", [0.11, 0.3, 0.75, 0.8, 1.0])
def test_image_to_image_takes_diffusers_steps(start, monkeypatch, sampler, strength):
    latents, keys = start
    schedule, num_steps = NoiseSchedule(), 19
    # What its image-to-image pipelines do, on a stand-in that only holds the scheduler.
    scheduler = scheduler_of(schedule, sampler)
    scheduler.set_timesteps(num_steps)
    stand_in = types.SimpleNamespace(scheduler=scheduler)
    timesteps, taken = StableDiffusionImg2ImgPipeline.get_timesteps(
        stand_in, num_steps, strength, "cpu"
    )
    skipped = samplers.skipped_steps(num_steps, strength)
    assert num_steps - skipped == taken == len(timesteps)
    steps = samplers.without_first(samplers.plan(schedule, Sampling(sampler, num_steps)), skipped)
    np.testing.assert_array_equal(steps.timesteps, timesteps.numpy())

    clean = np.random.default_rng(6).standard_normal(SHAPE).astype(np.float32)
    noised = scheduler.add_noise(
        torch.from_numpy(clean), torch.from_numpy(latents), timesteps[:1]
    ).numpy()
    ours = steps.signal[0] * clean + steps.noise_level[0] * latents
    np.testing.assert_allclose(ours, noised, rtol=0, atol=1e-5)
    x = torch.from_numpy(noised)
    for i, t in enumerate(timesteps):
        for module in (scheduling_ddpm, scheduling_lcm):
            monkeypatch.setattr(module, "randn_tensor", lambda *_, i=i, **__: noise(keys, i))
        x = scheduler.step(toy(torch.sin)(x, float(t)), t, x).prev_sample
    found, _ = samplers.sample(
        lambda x, t: (toy(jnp.sin)(x, t.astype(jnp.float32)), ()), jnp.asarray(noised), keys, steps
    )
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-4 * np.abs(x.numpy()).max())


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.1, 0.05])
def test_impossible_strengths_are_refused(strength):
    with pytest.raises(ValueError, match=f"strength is {strength}"):
        samplers.skipped_steps(19, strength)


@pytest.mark.parametrize(
    ("sampler", "num_steps", "eta", "word"),
    [
        ("euler", 5, 0.0, "sampler"),
        ("ddim", 5, 1.1, "eta"),
        ("ddpm", 5, 0.5, "eta"),
        ("dpmsolver++", 0, 0.0, "num_steps"),
        ("ddim", 1001, 0.0, "num_steps"),
    ],
)
def test_impossible_plans_are_refused(sampler, num_steps, eta, word):
    with pytest.raises(ValueError, match=word):
        samplers.plan(NoiseSchedule(), Sampling(sampler, num_steps, eta=eta))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 7, 50])
def test_lcm(start, monkeypatch, kind, num_steps):
    schedule = NoiseSchedule(prediction_type=kind)
    latents, keys = start

    def step(scheduler, i, output, t, x):
        monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: noise(keys, i))
        return scheduler.step(output, t, x)

    scheduler = LCMScheduler(**settings(schedule), clip_sample=False)
    truth = reference(schedule, scheduler, num_steps, latents, step)
    assert_same_trajectory(trajectory(schedule, "lcm", num_steps, latents, keys), truth)


def test_lcm_has_timesteps_of_its_own():
    with pytest.raises(ValueError, match="spacing is 'leading'"):
        Sampling("lcm", 4, spacing="leading")
    with pytest.raises(ValueError, match=r"num_steps is 51.* 1 to 50"):
        samplers.plan(NoiseSchedule(), Sampling("lcm", 51))
    named = samplers.with_spacing(Sampling("lcm"), NoiseSchedule(timestep_spacing="linspace"))
    assert named.spacing == "trailing"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_is_computed_between_two_noise_levels(sampler):
    schedule = NoiseSchedule()
    low, high = 0.4, 3.0
    interval = Sampling(sampler, 13, guidance_low=low, guidance_high=high)
    steps = samplers.plan(schedule, interval)
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0).numpy()
    sigma = np.sqrt((1 - abar) / abar)[steps.timesteps]
    np.testing.assert_array_equal(steps.guided, (sigma > low) & (sigma <= high))
    assert 0 < steps.guided.sum() < 13
    assert samplers.plan(schedule, Sampling(sampler, 13)).guided.all()
    spans = samplers.guided_spans(steps, (1, 12))
    assert [g for (a, b), g in spans for _ in range(a, b)] == steps.guided[1:12].tolist()
    assert [spans[0][0][0], spans[-1][0][1]] == [1, 12]
    assert all(b == c for ((_, b), _), ((c, _), _) in zip(spans[:-1], spans[1:], strict=True))


def test_an_interval_without_noise_levels_is_refused():
    with pytest.raises(ValueError, match=r"guidance_high is 1\.0; expected above guidance_low"):
        Sampling(guidance_low=1.0, guidance_high=1.0)
    with pytest.raises(ValueError, match="guidance_low"):
        Sampling(guidance_low=-0.1)


def test_settings_without_an_interval_are_stored_as_before_there_were_any():
    assert "guidance_low" not in Sampling().to_dict()
    stored = Sampling(guidance_high=3.0).to_dict()
    assert Sampling(**stored) == Sampling(guidance_high=3.0)
