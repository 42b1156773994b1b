"""Samplers of the reverse process: DDPM, DDIM, DPM-Solver++(2M) and LCM, each one `lax.scan`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError


class SamplingPlan(NamedTuple):
    """One sampler's steps as a linear rule, since all of them are linear in what they mix.

    ::

        x' = x_weight x + clean x0 + noise_weight eps + earlier x0_before + sigma z,  z ~ N(0, 1)

    where x0 and eps are what the U-Net's prediction implies at x, and x0_before the previous
    step's x0. `timesteps` and every weight are [t]; signal and noise_level are sqrt(abar) and
    sqrt(1 - abar) at each timestep. x0, but not the eps beside it, is clipped to +- `clip`, which
    is infinite where nothing is.

    Attributes:
        timesteps: of the schedule, from most to least noise.
        signal: sqrt(abar), 0 to 1.
        noise_level: sqrt(1 - abar), 0 to 1.
        x_weight: weight of x.
        clean: weight of x0.
        noise_weight: weight of eps.
        earlier: weight of x0_before.
        sigma: standard deviation of the noise that the step adds.
        clip: bound of x0; infinite where nothing is clipped.
        guided: whether the step's noise level is in the interval where guidance is computed.
    """

    timesteps: Int[np.ndarray, " t"]
    signal: Float[np.ndarray, " t"]
    noise_level: Float[np.ndarray, " t"]
    x_weight: Float[np.ndarray, " t"]
    clean: Float[np.ndarray, " t"]
    noise_weight: Float[np.ndarray, " t"]
    earlier: Float[np.ndarray, " t"]
    sigma: Float[np.ndarray, " t"]
    clip: Float[np.ndarray, " t"]
    guided: Bool[np.ndarray, " t"]


# LCM's: steps of the grid it was distilled on, and the data's deviation and the timesteps' factor
# in the boundary condition (Luo et al. 2023, arXiv 2310.04378; the numbers are diffusers').
LCM_GRID = 50
_LCM_SIGMA, _LCM_TIME = 0.5, 10.0


def lcm_boundary(timesteps: Int[np.ndarray, " t"]) -> tuple[np.ndarray, np.ndarray]:
    """(c_skip, c_out) of LCM's f(x, t) = c_skip x + c_out x0(x, t), which is x at t = 0.

    c_skip = s^2 / ((10 t)^2 + s^2) and c_out = 10 t / sqrt((10 t)^2 + s^2) with s = 0.5 (Luo et al.
    2023, arXiv 2310.04378, section 3), as in diffusers' LCMScheduler.

    Args:
        timesteps: t, 0 to T - 1.
    """
    scaled = _LCM_TIME * np.asarray(timesteps, np.float64)
    skip = _LCM_SIGMA**2 / (scaled**2 + _LCM_SIGMA**2)
    return skip, scaled / np.sqrt(scaled**2 + _LCM_SIGMA**2)


def lcm_grid(num_train_timesteps: int, num_grid: int = LCM_GRID) -> Int[np.ndarray, " t"]:
    """The ascending timesteps k i - 1 with k = T // n, i = 1 ... n, that LCM is distilled on.

    Args:
        num_train_timesteps: T of the noise schedule.
        num_grid: n, 1 to T.

    Raises:
        InputError: more points than timesteps.
    """
    if not 1 <= num_grid <= num_train_timesteps:
        raise InputError(f"The grid has {num_grid} points; expected 1 to {num_train_timesteps}.")
    return np.arange(1, num_grid + 1) * (num_train_timesteps // num_grid) - 1


def with_spacing(sampling: Sampling, schedule: NoiseSchedule) -> Sampling:
    """The same settings with the spacing named: their own, the schedule's or the sampler's.

    Args:
        sampling: whose spacing may be None.
        schedule: which may name one.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.diffusion.samplers import with_spacing
        >>> with_spacing(Sampling("dpmsolver++"), NoiseSchedule()).spacing
        'linspace'
        >>> with_spacing(Sampling("ddim", spacing="trailing"), NoiseSchedule()).spacing
        'trailing'
    """
    if sampling.sampler == "lcm":
        return sampling.replace(spacing="trailing")
    own = "linspace" if sampling.sampler == "dpmsolver++" else "leading"
    return sampling.replace(spacing=sampling.spacing or schedule.timestep_spacing or own)


def plan(schedule: NoiseSchedule, sampling: Sampling) -> SamplingPlan:
    """The steps of a sampler, as diffusers' scheduler of the same name takes them.

    The scheduler is the one that its `from_config` makes of the backbone's scheduler_config.json:
    DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler or LCMScheduler.

    Args:
        schedule: the noise schedule.
        sampling: of which sampler, num_steps, eta and spacing are read. "ddpm" is ancestral with
            variance "fixed_small" (Ho et al. 2020, arXiv 2006.11239, eq. 7), "ddim" is Song et al.
            2021 (arXiv 2010.02502, eq. 12), "dpmsolver++" of second order, multistep, midpoint (Lu
            et al. 2022, arXiv 2211.01095, algorithm 2), "lcm" noises each predicted clean image to
            the next of its own timesteps (Luo et al. 2023, arXiv 2310.04378, algorithm 2). The
            interval of guidance is read as well.

    Raises:
        InputError: more steps than the spacing has timesteps for, or a schedule whose steps of this
            sampler are not computed here or not finite.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.diffusion.samplers import plan
        >>> steps = plan(NoiseSchedule(), Sampling("ddim", num_steps=4))
        >>> steps.timesteps.tolist()
        [751, 501, 251, 1]
        >>> steps.sigma.tolist()  # DDIM with eta 0 adds no noise
        [0.0, 0.0, 0.0, 0.0]
    """
    sampling = with_spacing(sampling, schedule)
    sampler, num_steps, spacing = sampling.sampler, sampling.num_steps, str(sampling.spacing)
    for name, why in schedule.refused:
        if name == sampler:
            raise InputError(why)
    if sampler == "dpmsolver++":
        return _in_interval(_dpmsolver_plan(schedule, num_steps, spacing), sampling)
    if sampler == "lcm":
        return _in_interval(_lcm_plan(schedule, num_steps), sampling)
    timesteps = schedule.inference_timesteps(num_steps, spacing)
    # As in diffusers: DDPM goes to the next timestep of the list, DDIM always down by T / n.
    before = timesteps - schedule.num_train_timesteps // num_steps
    if sampler == "ddpm":
        before = np.append(timesteps[1:], -1)
    abar = schedule.alphas_cumprod.astype(np.float64)
    now, zeros = abar[timesteps], np.zeros(num_steps)
    if not now.all() and schedule.prediction_type == "epsilon":
        raise InputError(
            f"Timestep {timesteps[0]} has no signal left (rescale_betas_zero_snr), so a prediction "
            "of the noise (prediction_type 'epsilon') says nothing about the image there; take the "
            "spacing leading, the sampler dpmsolver++ or a backbone of prediction_type "
            "'v_prediction'."
        )
    one_at_end = sampler == "ddpm" or schedule.set_alpha_to_one
    end = 1.0 if one_at_end else abar[0]
    then = np.where(before >= 0, abar[np.maximum(before, 0)], end)
    alpha = now / then
    variance = (1.0 - then) / (1.0 - now) * (1.0 - alpha)
    if sampler == "ddpm":
        x_weight = np.sqrt(alpha) * (1.0 - then) / (1.0 - now)
        clean = np.sqrt(then) * (1.0 - alpha) / (1.0 - now)
        noise_weight, sigma = zeros, np.sqrt(variance)
    else:
        sigma = sampling.eta * np.sqrt(variance)
        x_weight, clean = zeros, np.sqrt(then)
        noise_weight = np.sqrt(1.0 - then - sigma**2)
    clip = np.full(num_steps, schedule.clip_sample_range if schedule.clip_sample else np.inf)
    steps = _plan(timesteps, now, x_weight, clean, noise_weight, zeros, sigma, clip)
    return _in_interval(steps, sampling)


def _in_interval(steps: SamplingPlan, sampling: Sampling) -> SamplingPlan:
    """The plan with guidance in the settings' interval of noise levels alone."""
    with np.errstate(divide="ignore"):
        sigma = steps.noise_level / steps.signal
    high = np.inf if sampling.guidance_high is None else sampling.guidance_high
    return steps._replace(guided=(sigma > sampling.guidance_low) & (sigma <= high))


def _lcm_plan(schedule: NoiseSchedule, num_steps: int) -> SamplingPlan:
    total = schedule.num_train_timesteps
    grid = lcm_grid(total, min(LCM_GRID, total))[::-1]
    if num_steps > len(grid):
        raise InputError(
            f"num_steps is {num_steps}, but the sampler lcm has {len(grid)} timesteps; expected "
            f"1 to {len(grid)}, and 1 to 8 is what models are distilled for."
        )
    timesteps = grid[np.floor(np.linspace(0, len(grid), num_steps, endpoint=False)).astype(int)]
    abar = schedule.alphas_cumprod.astype(np.float64)
    now = abar[timesteps]
    if not now.all() and schedule.prediction_type == "epsilon":
        raise InputError(
            f"Timestep {timesteps[0]} has no signal left (rescale_betas_zero_snr), so a prediction "
            "of the noise (prediction_type 'epsilon') says nothing about the image there; take "
            "another sampler than lcm or a backbone of prediction_type 'v_prediction'."
        )
    then = np.append(now[1:], 1.0)  # the last step ends at the clean image
    skip, out = lcm_boundary(timesteps)
    zeros = np.zeros(num_steps)
    clip = np.full(num_steps, schedule.clip_sample_range if schedule.clip_sample else np.inf)
    return _plan(
        timesteps.astype(np.int32),
        now,
        np.sqrt(then) * skip,
        np.sqrt(then) * out,
        zeros,
        zeros,
        np.sqrt(1.0 - then),
        clip,
    )


def _dpmsolver_plan(schedule: NoiseSchedule, num_steps: int, spacing: str) -> SamplingPlan:
    timesteps = schedule.inference_timesteps(num_steps, spacing, beyond=True)
    abar = schedule.alphas_cumprod.astype(np.float64)
    if schedule.rescale_betas_zero_snr:
        abar[-1] = 2.0**-24  # as diffusers, so that its logarithm is finite
    now = abar[timesteps]
    to_zero = schedule.final_sigmas_type == "zero"
    path = np.append(now, 1.0 if to_zero else abar[0])
    alpha, sigma = np.sqrt(path), np.sqrt(1.0 - path)
    with np.errstate(divide="ignore"):
        half_log_snr = np.log(alpha) - np.log(sigma)
    step = np.diff(half_log_snr)
    # -expm1(-h) is 1 at the end without noise, where h is infinite: x' = x0.
    gain = -alpha[1:] * np.expm1(-step)
    correction = np.zeros(num_steps)  # the first step is of first order, and the last may be
    few = schedule.lower_order_final and num_steps < 15
    end = num_steps - 1 if to_zero or few or schedule.euler_at_final else num_steps
    with np.errstate(divide="ignore"):
        correction[1:end] = 0.5 * step[1:end] / step[: end - 1]
    zeros = np.zeros(num_steps)
    return _plan(
        timesteps,
        now,
        sigma[1:] / sigma[:-1],
        gain * (1.0 + correction),
        zeros,
        -gain * correction,
        zeros,
        np.full(num_steps, np.inf),
    )


def _plan(timesteps: np.ndarray, abar: np.ndarray, *weights: np.ndarray) -> SamplingPlan:
    levels = (np.sqrt(abar), np.sqrt(1.0 - abar), *weights)
    guided = np.ones(len(timesteps), bool)
    return SamplingPlan(*(timesteps, *(np.asarray(x, np.float32) for x in levels), guided))


def skipped_steps(num_steps: int, strength: float) -> int:
    """Steps left out when sampling begins from given latents instead of pure noise.

    num_steps - floor(num_steps strength): the count of diffusers' image-to-image pipelines.

    Args:
        num_steps: of the whole plan.
        strength: share of the steps that are taken, above 0, at most 1.

    Raises:
        InputError: strength out of range, or so low that no step is left.

    Examples:
        >>> from neuroadapter_jax.diffusion.samplers import skipped_steps
        >>> skipped_steps(50, strength=0.75)
        13
    """
    if not 0.0 < strength <= 1.0:
        raise InputError(f"strength is {strength}; expected above 0 and at most 1.")
    if not (taken := int(num_steps * strength)):
        raise InputError(
            f"strength is {strength}, which leaves none of {num_steps} steps; expected at least "
            f"{1 / num_steps:.3g}, or more steps."
        )
    return num_steps - taken


def without_first(steps: SamplingPlan, count: int) -> SamplingPlan:
    """A plan without its first steps, to sample from latents noised to where it begins.

    Nothing comes before its first step, which is therefore of first order: the share of x0_before
    goes to x0.

    Args:
        steps: the whole plan.
        count: how many steps to leave out, less than it has.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.diffusion.samplers import plan, without_first
        >>> steps = plan(NoiseSchedule(), Sampling("dpmsolver++", num_steps=4))
        >>> without_first(steps, 2).timesteps.tolist() == steps.timesteps[2:].tolist()
        True
    """
    rest = SamplingPlan(*(np.copy(x[count:]) for x in steps))
    rest.clean[0] += rest.earlier[0]
    rest.earlier[0] = 0.0
    return rest


# (latents [b, ...], timestep scalar) -> (the U-Net's output, anything small).
Prediction = Callable[[Array, Array], tuple[Array, Any]]


class SamplerState(NamedTuple):
    """Where a sample stands between two steps.

    Attributes:
        latents: the scaled, noisy latents x, [b, ...].
        clean: the x0 that the last step predicted, [b, ...]; zeros before the first.
    """

    latents: Float[Array, "b *s"]
    clean: Float[Array, "b *s"]


def start_state(latents: Float[Array, "b *s"]) -> SamplerState:
    """The state before the first step, from latents [b, ...].

    Args:
        latents: scaled and noisy.
    """
    return SamplerState(latents, jnp.zeros_like(latents))


def sample(
    predict: Callable[[Array, Array], tuple[Array, Any]],
    latents: Float[Array, "b *s"],
    keys: Array,
    steps: SamplingPlan,
    prediction_type: str = "epsilon",
) -> tuple[Float[Array, "b *s"], Any]:
    """Sample from noise; one scan over the steps.

    Args:
        predict: (latents [b, ...], timestep scalar) -> (the U-Net's output, anything small).
        latents: starting latents, unit noise.
        keys: [b] random keys, one per sample, so that a sample does not depend on its batch.
        steps: from `plan`.
        prediction_type: what `predict` returns, see `NoiseSchedule`.

    Returns:
        The clean, scaled latents, and what `predict` returned beside its output, stacked [t, ...].

    Examples:
        A perfect prediction of the noise in x_t leads to the clean image, here 0.5 everywhere:

        >>> import jax
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.diffusion.samplers import plan, sample, unit_noise
        >>> schedule = NoiseSchedule()
        >>> abar = jnp.asarray(schedule.alphas_cumprod)
        >>> def predict(x, t):
        ...     return (x - jnp.sqrt(abar[t]) * 0.5) / jnp.sqrt(1 - abar[t]), t
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> steps = plan(schedule, Sampling("dpmsolver++", num_steps=3))
        >>> latents, timesteps = sample(predict, unit_noise(keys, 0, (2, 2, 1)), keys, steps)
        >>> bool(jnp.allclose(latents, 0.5, atol=1e-3)), timesteps.shape
        (True, (3,))
    """
    state, extras = advance(predict, start_state(latents), keys, steps, prediction_type)
    return state.latents, extras


def advance(
    predict: Callable[[Array, Array], tuple[Array, Any]],
    state: SamplerState,
    keys: Array,
    steps: SamplingPlan,
    prediction_type: str = "epsilon",
    span: tuple[int, int] | None = None,
) -> tuple[SamplerState, Any]:
    """Some of the steps: calls that follow on one another equal one `sample`.

    Args:
        predict: (latents [b, ...], timestep scalar) -> (the U-Net's output, anything small).
        state: what the call before returned, or `start_state`.
        keys: [b] random keys, one per sample, the same in every call.
        steps: all steps, from `plan`.
        prediction_type: what `predict` returns: "epsilon", "v_prediction" or "sample".
        span: how many steps are taken before and after this call; None for all.

    Returns:
        The state after these steps, and what `predict` returned beside its output, stacked.
    """
    stochastic = bool(np.any(steps.sigma > 0.0))
    clipped = bool(np.any(np.isfinite(steps.clip)))

    def step(state, per_step):
        x, x0_before = state
        index, now = per_step
        output, extra = predict(x, now.timesteps)
        if prediction_type == "epsilon":
            eps, x0 = output, (x - now.noise_level * output) / now.signal
        elif prediction_type == "sample":
            eps, x0 = (x - now.signal * output) / now.noise_level, output
        else:
            eps = now.signal * output + now.noise_level * x
            x0 = now.signal * x - now.noise_level * output
        if clipped:
            x0 = jnp.clip(x0, -now.clip, now.clip)
        x = now.x_weight * x + now.clean * x0 + now.noise_weight * eps + now.earlier * x0_before
        if stochastic:
            x = x + now.sigma * unit_noise(keys, index + 1, x.shape[1:])
        return SamplerState(x, x0), extra

    part = slice(*span) if span else slice(None)
    per_step = (jnp.arange(len(steps.timesteps)), steps)
    return jax.lax.scan(step, state, jax.tree.map(lambda x: jnp.asarray(x[part]), per_step))


def guided_spans(
    steps: SamplingPlan, span: tuple[int, int] | None = None
) -> list[tuple[tuple[int, int], bool]]:
    """The steps cut where guidance begins or ends: (first step, step after the last), guided.

    Args:
        steps: the whole plan.
        span: which of its steps; None for all.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.diffusion.samplers import guided_spans, plan
        >>> sampling = Sampling("dpmsolver++", num_steps=10, guidance_low=0.5, guidance_high=5.0)
        >>> guided_spans(plan(NoiseSchedule(), sampling))
        [((0, 3), False), ((3, 9), True), ((9, 10), False)]
    """
    first, last = span or (0, len(steps.timesteps))
    inner = np.flatnonzero(np.diff(steps.guided[first:last])) + first + 1
    ends = [first, *inner.tolist(), last]
    pairs = zip(ends[:-1], ends[1:], strict=True)
    return [((a, b), bool(steps.guided[a])) for a, b in pairs if a < b]


def advance_guided(
    predictions: tuple[Prediction, Prediction],
    state: SamplerState,
    keys: Array,
    steps: SamplingPlan,
    prediction_type: str = "epsilon",
    span: tuple[int, int] | None = None,
) -> tuple[SamplerState, Any]:
    """`advance` with one prediction inside the interval of guidance and another outside of it.

    Args:
        predictions: the guided one, and the one without guidance.
        state: what the call before returned, or `start_state`.
        keys: [b] random keys, one per sample, the same in every call.
        steps: all steps, from `plan`.
        prediction_type: what the predictions return.
        span: how many steps are taken before and after this call; None for all.

    Returns:
        The state after these steps, and what the predictions returned beside their output, stacked.
    """
    found = []
    for part, guided in guided_spans(steps, span):
        predict = predictions[0] if guided else predictions[1]
        state, extra = advance(predict, state, keys, steps, prediction_type, part)
        found.append(extra)
    if len(found) == 1:
        return state, found[0]
    return state, jax.tree.map(lambda *x: jnp.concatenate(x), *found)


def unit_noise(keys: Array, index: int | Int[Array, ""], shape: tuple[int, ...]) -> Array:
    """Unit noise of each sample [b, ...] from fold_in(key, index); index 0 is the start.

    Args:
        keys: [b] random keys; key i alone decides the noise of sample i.
        index: 0 for the start, i + 1 for the noise that step i adds.
        shape: of one sample.

    Examples:
        >>> import jax
        >>> from neuroadapter_jax.diffusion.samplers import unit_noise
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> batch, alone = unit_noise(keys, 0, (16, 16, 4)), unit_noise(keys[1:2], 0, (16, 16, 4))
        >>> batch.shape, bool((batch[1] == alone[0]).all())
        ((3, 16, 16, 4), True)
    """
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), shape))(keys)
