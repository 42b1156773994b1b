"""Trajectories by scheduler_config.json files, against what diffusers makes of the same file."""

import dataclasses
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sd15_configs as sd15
from real_files import real_file

from neuroadapter_jax.diffusion import config_files, samplers
from neuroadapter_jax.diffusion.config_files import read_schedule
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.sampling import SAMPLERS, SPACINGS, Sampling
from neuroadapter_jax.diffusion.weights import ASSETS, save_schedule
from neuroadapter_jax.errors import InputError

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from diffusers.schedulers import scheduling_ddpm, scheduling_lcm

CLASSES = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
CLASSES["lcm"] = LCMScheduler
PUBLIC = ("sd15", "ddpm_013", "sdxl_base", "v_zero_snr_trailing")
STEPS = (1, 2, 19, 50, 999)
SHAPE = (2, 3, 2, 1)
# The start, and what is added in every step of DDPM.
NOISE = np.random.default_rng(5).standard_normal((1 + max(STEPS), *SHAPE)).astype(np.float32)


def model(x, t, sin):
    """A fixed, bent prediction from latents and timestep, for either library's sine."""
    return 0.8 * x + 0.3 * sin(2.0 * x + t / 211)


def file_of(name):
    if name == "tiny-sd":
        return ASSETS / name / "scheduler" / "scheduler_config.json"
    return real_file(f"schedulers/{name}.json")


def theirs(scheduler, num_steps):
    """Latents before every step and after the last; None where diffusers has no finite ones."""
    if isinstance(scheduler, LCMScheduler) and num_steps > 50:
        with pytest.raises(ValueError, match="original_steps"):
            scheduler.set_timesteps(num_steps)
        return None
    scheduler.set_timesteps(num_steps)
    x, trajectory = torch.from_numpy(NOISE[0]), [NOISE[0]]
    noise = iter(NOISE[1:])
    with pytest.MonkeyPatch.context() as patch:
        for module in (scheduling_ddpm, scheduling_lcm):
            patch.setattr(module, "randn_tensor", lambda *_, **__: torch.from_numpy(next(noise)))
        try:
            for t in scheduler.timesteps:
                x = scheduler.step(model(x, float(t), torch.sin), t, x).prev_sample
                trajectory.append(x.numpy())
        except IndexError:  # a timestep beyond the last
            return None
    return np.stack(trajectory) if torch.isfinite(x).all() else None


def ours(schedule, steps):
    def predict(x, t):
        return model(x, t.astype(jnp.float32), jnp.sin), x

    noise, keys = jnp.asarray(NOISE), jax.random.split(jax.random.key(0), SHAPE[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "unit_noise", lambda _, index, __: noise[index])
        last, before = jax.jit(
            lambda x: samplers.sample(predict, x, keys, steps, schedule.prediction_type)
        )(noise[0])
    return np.concatenate([before, last[None]])


def assert_same_trajectory(path, sampler, num_steps):
    """At every step the latents are diffusers', within 1e-4 of their scale; or both have none."""
    scheduler = CLASSES[sampler].from_config(json.loads(path.read_text()))
    truth, schedule = theirs(scheduler, num_steps), read_schedule(path)
    if truth is None:
        said = r"take fewer steps or another spacing|lcm has 50 timesteps"
        with pytest.raises(InputError, match=said):
            samplers.plan(schedule, Sampling(sampler, num_steps))
        return
    steps = samplers.plan(schedule, Sampling(sampler, num_steps))
    np.testing.assert_array_equal(steps.timesteps, scheduler.timesteps.numpy())
    for found, expected in zip(ours(schedule, steps), truth, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", ("tiny-sd", *PUBLIC))
def test_every_sampler_takes_the_steps_that_diffusers_takes_by_the_same_file(name, sampler):
    path = file_of(name)
    for num_steps in STEPS:
        assert_same_trajectory(path, sampler, num_steps)


def write(folder, **values):
    path = folder / "scheduler_config.json"
    path.write_text(json.dumps(sd15.SCHEDULER | values))
    return path


@pytest.mark.parametrize(
    ("values", "acting"),
    [
        ({"prediction_type": "sample"}, SAMPLERS),
        ({"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}, SAMPLERS),
        ({"beta_schedule": "linear", "beta_start": 0.0003, "num_train_timesteps": 997}, ["ddim"]),
        ({"trained_betas": np.linspace(0.001, 0.02, 1000).tolist()}, ["ddim"]),
        ({"clip_sample": True, "clip_sample_range": 0.7}, SAMPLERS),
        ({"rescale_betas_zero_snr": True, "set_alpha_to_one": True}, ["ddim", "dpmsolver++"]),
        ({"final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"}, ["dpmsolver++"]),
        ({"final_sigmas_type": "sigma_min", "lower_order_final": False}, ["dpmsolver++"]),
        ({"final_sigmas_type": "sigma_min", "euler_at_final": True}, ["dpmsolver++"]),
        ({"solver_type": "bh2", "variance_type": "fixed_small_log"}, ["ddpm", "dpmsolver++"]),
    ],
    ids=lambda each: "-".join(each),
)
def test_what_a_file_says_is_computed_as_diffusers_computes_it(tmp_path, values, acting):
    path = write(tmp_path, **values)
    for sampler in acting:
        for num_steps in (3, 19) if "final_sigmas_type" in values else (19,):
            assert_same_trajectory(path, sampler, num_steps)


def test_keys_that_a_file_lacks_take_the_defaults_of_diffusers(tmp_path):
    path = tmp_path / "scheduler_config.json"
    path.write_text("{}")
    for sampler in ("ddpm", "ddim", "dpmsolver++"):  # LCMScheduler's defaults are other ones
        assert_same_trajectory(path, sampler, 7)


@pytest.mark.parametrize("total", [997, 1000])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++"])
def test_every_number_of_steps_falls_on_the_timesteps_of_diffusers_or_is_refused(
    sampler, spacing, offset, total
):
    schedule = NoiseSchedule(num_train_timesteps=total, steps_offset=offset)
    values = {"num_train_timesteps": total, "steps_offset": offset, "timestep_spacing": spacing}
    scheduler, refused = CLASSES[sampler](**values), []
    for num_steps in range(1, total + 1):
        scheduler.set_timesteps(num_steps)
        truth = scheduler.timesteps.numpy()
        if truth[-1] == -1:  # one step too many, where T / (T / n) is above n by rounding
            truth = truth[:-1]
            assert spacing == "trailing" and len(truth) == num_steps
        if np.any(np.diff(truth) >= 0) or truth[0] >= total:
            refused.append(num_steps)
            with pytest.raises(InputError, match=f"num_steps is {num_steps}, at which {spacing}"):
                schedule.inference_timesteps(num_steps, spacing, beyond=sampler == "dpmsolver++")
        else:
            found = schedule.inference_timesteps(num_steps, spacing, beyond=sampler != "ddim")
            np.testing.assert_array_equal(found, truth)
    assert len(refused) <= 2 and all(num_steps >= total - 1 for num_steps in refused)


def test_zero_terminal_snr_leaves_no_signal():
    schedule = read_schedule(real_file("schedulers/v_zero_snr_trailing.json"))
    assert schedule.alphas_cumprod[-1] == 0.0
    for sampler in ("ddpm", "ddim", "dpmsolver++"):
        steps = samplers.plan(schedule, Sampling(sampler, 4))
        np.testing.assert_array_equal(steps.timesteps, [999, 749, 499, 249])


def test_noise_that_is_predicted_from_noise_alone_is_refused(tmp_path):
    path = write(tmp_path, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for sampler in ("ddim", "ddpm", "lcm"):
        with pytest.raises(InputError, match="Timestep 999 has no signal left"):
            samplers.plan(read_schedule(path), Sampling(sampler, 4))


@pytest.mark.parametrize(
    ("key", "value", "refusing"),
    [
        ("thresholding", True, SAMPLERS),
        ("variance_type", "fixed_large", ["ddpm"]),
        ("variance_type", "learned_range", ["ddpm", "dpmsolver++"]),
        ("use_karras_sigmas", True, ["dpmsolver++"]),
        ("use_exponential_sigmas", True, ["dpmsolver++"]),
        ("use_beta_sigmas", True, ["dpmsolver++"]),
        ("use_lu_lambdas", True, ["dpmsolver++"]),
        ("use_flow_sigmas", True, ["dpmsolver++"]),
        ("solver_order", 3, ["dpmsolver++"]),
        ("solver_type", "heun", ["dpmsolver++"]),
        ("algorithm_type", "sde-dpmsolver++", ["dpmsolver++"]),
        ("lambda_min_clipped", -5.1, ["dpmsolver++"]),
        ("original_inference_steps", 100, ["lcm"]),
        ("timestep_scaling", 1.0, ["lcm"]),
    ],
)
def test_what_is_not_computed_is_refused_by_name_with_the_samplers_it_means(
    tmp_path, key, value, refusing
):
    path = write(tmp_path, **{key: value})
    schedule = read_schedule(path)
    for sampler in SAMPLERS:
        if sampler in refusing:
            with pytest.raises(InputError, match=re.escape(f"{key} is {value!r}")) as caught:
                samplers.plan(schedule, Sampling(sampler, 3))
            assert str(path) in str(caught.value) and sampler in str(caught.value)
        else:
            # diffusers' scheduler does not read the key, or this value changes nothing for it.
            read = CLASSES[sampler]._get_init_keys(CLASSES[sampler])
            assert key not in read or (key, sampler) == ("variance_type", "dpmsolver++")
            samplers.plan(schedule, Sampling(sampler, 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("beta_schedule", "sigmoid"),
        ("prediction_type", "flow_prediction"),
        ("timestep_spacing", "log"),
        ("final_sigmas_type", "one"),
        ("_class_name", "FlowMatchEulerDiscreteScheduler"),
        ("num_train_timesteps", 1),
        ("num_train_timesteps", "1000"),
        ("beta_start", 0.0),
        ("beta_end", math.nan),
        ("clip_sample", "no"),
        ("clip_sample_range", -1.0),
        ("steps_offset", -3),
        ("trained_betas", [0.1, 0.2]),
        ("trained_betas", [0.1] * 999 + [1.5]),
    ],
)
def test_a_file_that_no_scheduler_could_use_is_refused_when_read(tmp_path, key, value):
    path = write(tmp_path, **{key: value})
    with pytest.raises(InputError, match=r"scheduler_config\.json: .*expected|beta") as caught:
        read_schedule(path)
    assert str(path) in str(caught.value)


def test_the_keys_that_are_known_are_those_of_diffusers():
    # A key that a coming version adds shall be looked at here before it is passed over.
    fields = {f.name for f in dataclasses.fields(NoiseSchedule)}
    for sampler, cls in CLASSES.items():
        read = cls._get_init_keys(cls) - {"self"}
        acting = config_files._PER_SAMPLER[sampler].keys()
        beside = {  # act only beside keys that are refused
            *("dynamic_thresholding_ratio", "sample_max_value", "flow_shift"),
            *("use_dynamic_shifting", "time_shift_type"),
        }
        assert read - fields - acting <= beside
        assert acting <= read


def test_a_written_schedule_is_read_again(tmp_path):
    schedule = NoiseSchedule(prediction_type="v_prediction", timestep_spacing="trailing")
    save_schedule(tmp_path, schedule)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    assert read_schedule(path) == schedule
    assert_same_trajectory(path, "ddim", 3)


def test_a_spacing_that_is_asked_for_goes_before_the_files(tmp_path):
    schedule = read_schedule(write(tmp_path, timestep_spacing="trailing"))
    asked = Sampling("dpmsolver++", 19, spacing="leading")
    assert samplers.plan(schedule, asked).timesteps[0] == 951
    assert samplers.plan(schedule, asked.replace(num_steps=4)).timesteps[0] == 801
    named = samplers.with_spacing(Sampling("ddim"), schedule)
    assert named == Sampling("ddim", spacing="trailing")
    own = samplers.with_spacing(Sampling("dpmsolver++"), NoiseSchedule())
    assert own.spacing == "linspace"
