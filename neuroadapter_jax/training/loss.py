"""The denoising loss with Min-SNR weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule


def min_snr_weights(
    schedule: NoiseSchedule, timesteps: Int[Array, " b"], gamma: float | None
) -> Float[Array, " b"]:
    """Weights that keep easy timesteps from ruling the loss.

    w = min(snr, gamma) / snr for noise prediction, min(snr, gamma) / (snr + 1) for v prediction,
    min(snr, gamma) for prediction of the clean sample.

    Args:
        schedule: the noise schedule; its prediction type picks the formula.
        timesteps: [b], 0 to T - 1.
        gamma: the cap (5 in the paper), or None for weights of one.

    Hang et al. 2023 (arXiv 2303.09556), section 3.4.
    """
    if gamma is None:
        return jnp.ones(timesteps.shape, jnp.float32)
    snr = schedule.snr(timesteps)
    capped = jnp.minimum(snr, gamma)
    if schedule.prediction_type == "sample":
        return capped
    if schedule.prediction_type == "v_prediction":
        return capped / (snr + 1.0)
    if schedule.rescale_betas_zero_snr:  # the limit where no signal is left
        return jnp.where(snr > 0.0, capped / snr, 1.0)
    return capped / snr


def sample_noise(
    key: Array, latents: Float[Array, "b *s"], schedule: NoiseSchedule
) -> tuple[Float[Array, "b *s"], Int[Array, " b"]]:
    """Unit noise of the latents' shape and uniform timesteps [b]."""
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, latents.shape, latents.dtype)
    timesteps = jax.random.randint(time_key, (latents.shape[0],), 0, schedule.num_train_timesteps)
    return noise, timesteps


def denoising_losses(
    prediction: Float[Array, "b *s"],
    target: Float[Array, "b *s"],
    weights: Float[Array, " b"],
) -> Float[Array, " b"]:
    """Per-sample weighted mean squared error; the caller takes the mean over samples."""
    error = (prediction.astype(jnp.float32) - target.astype(jnp.float32)) ** 2
    return weights * error.reshape(error.shape[0], -1).mean(axis=1)
