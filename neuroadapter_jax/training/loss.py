"""The denoising loss with Min-SNR weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule


def min_snr_weights(
    schedule: NoiseSchedule, timesteps: Int[Array, " b"], gamma: float | None
) -> Float[Array, " b"]:
    """Weights that keep easy timesteps from ruling the loss.

    With snr = abar_t / (1 - abar_t)::

        w = min(snr, gamma) / snr          the U-Net predicts the noise
        w = min(snr, gamma) / (snr + 1)    it predicts v
        w = min(snr, gamma)                it predicts the clean sample

    Hang et al. 2023 (arXiv 2303.09556), section 3.4. Where no signal is left (snr 0, with
    rescale_betas_zero_snr) the first is 1, its limit.

    Args:
        schedule: the noise schedule; its prediction type picks the formula.
        timesteps: [b], 0 to T - 1.
        gamma: the cap, above 0 (5 in the paper), or None for weights of one.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.training.loss import min_snr_weights
        >>> weights = min_snr_weights(NoiseSchedule(), jnp.array([0, 100, 999]), gamma=5.0)
        >>> [round(float(w), 3) for w in weights]  # little noise counts little
        [0.004, 0.591, 1.0]
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
    """Unit noise of the latents' shape and uniform timesteps [b].

    Args:
        key: random key.
        latents: whose shape and dtype the noise has.
        schedule: whose timesteps, 0 to T - 1, are drawn.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.training.loss import sample_noise
        >>> latents = jnp.zeros((3, 16, 16, 4))
        >>> noise, timesteps = sample_noise(jax.random.key(0), latents, NoiseSchedule())
        >>> noise.shape, timesteps.shape
        ((3, 16, 16, 4), (3,))
    """
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, latents.shape, latents.dtype)
    timesteps = jax.random.randint(time_key, (latents.shape[0],), 0, schedule.num_train_timesteps)
    return noise, timesteps


def denoising_losses(
    prediction: Float[Array, "b *s"],
    target: Float[Array, "b *s"],
    weights: Float[Array, " b"],
) -> Float[Array, " b"]:
    """Per-sample weighted mean squared error; the caller takes the mean over samples.

    loss_b = w_b mean (prediction_b - target_b)^2, in float32.

    Args:
        prediction: of the U-Net.
        target: what it should be, from `NoiseSchedule.target`.
        weights: one per sample, such as `min_snr_weights`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.training.loss import denoising_losses
        >>> prediction, target = jnp.zeros((2, 2)), jnp.array([[1.0, 1.0], [2.0, 0.0]])
        >>> denoising_losses(prediction, target, weights=jnp.array([1.0, 0.5])).tolist()
        [1.0, 1.0]
    """
    error = (prediction.astype(jnp.float32) - target.astype(jnp.float32)) ** 2
    return weights * error.reshape(error.shape[0], -1).mean(axis=1)


def pixel_losses(
    schedule: NoiseSchedule,
    timesteps: Int[Array, " b"],
    predicted: Float[Array, "b *s"],
    wanted: Float[Array, "b *s"],
) -> Float[Array, " b"]:
    """How far the image that a prediction implies is from the true one, per sample.

    loss_b = abar_t mean (predicted_b - wanted_b)^2

    abar_t, the share of signal in x_t, keeps timesteps of much noise from ruling the loss: the
    clean latents that a prediction implies there are off by the noise over the signal. Neither the
    paper nor the released code has this loss.

    Args:
        schedule: the noise schedule.
        timesteps: [b], 0 to T - 1.
        predicted: decoded from the clean latents that the U-Net's output implies.
        wanted: decoded from the true latents.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> from neuroadapter_jax.training.loss import pixel_losses
        >>> images = jnp.ones((2, 4, 4, 3))
        >>> losses = pixel_losses(NoiseSchedule(), jnp.array([0, 999]), images, 0 * images)
        >>> [round(float(x), 3) for x in losses]  # much noise counts little
        [0.999, 0.005]
    """
    snr = schedule.snr(timesteps)
    return denoising_losses(predicted, wanted, snr / (1.0 + snr))
