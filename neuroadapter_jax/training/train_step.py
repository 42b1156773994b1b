"""One pure training step of NeuroAdapter on a frozen Stable Diffusion."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.adapter.token_dropout import keep_mask
from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise
from neuroadapter_jax.training.optimizers import ema_update


class Frozen(NamedTuple):
    """What the step reads and never changes.

    Attributes:
        unet: the U-Net's parameters.
        text: the empty prompt's stream, batch 1.
        packing: where each region's vertices lie.
        scaling_factor: of the autoencoder's latents.
    """

    unet: Any
    text: Stream
    packing: Packing
    scaling_factor: float | Array


def sample_latents(
    key: Array, batch: dict[str, Array], scaling_factor: float | Float[Array, ""]
) -> Array:
    """Scaled latents from the prepared moments: s (mean + std z)."""
    mean = batch["latent_mean"].astype(jnp.float32)
    std = batch["latent_std"].astype(jnp.float32)
    return scaling_factor * (mean + std * jax.random.normal(key, mean.shape))


def make_train_step(
    adapter_graph: Any,
    unet_graph: Any,
    schedule: NoiseSchedule,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    gamma: float | None = 5.0,
    drop_rate: float | Literal["uniform"] = "uniform",
    ema_decay: float | None = None,
) -> Callable:
    """The jitted step (state, frozen, batch) -> (state, metrics); the state is donated.

    loss = mean_b w_b |eps_b - unet(x_t, t, text, brain)|^2, with Min-SNR weights w and random
    token dropout. The state has params, opt_state, step and, with ema_decay, ema. Every random
    number comes from fold_in(key(seed), step).

    Args:
        adapter_graph: NNX graph of the `NeuroAdapter` that trains.
        unet_graph: NNX graph of the frozen U-Net.
        schedule: noise schedule and prediction type.
        optimizer: of the adapter's parameters.
        seed: of noise, timesteps, latents and dropout.
        gamma: cap of the Min-SNR weights, 5 in the paper; None for none.
        drop_rate: see `keep_mask`.
        ema_decay: of a moving average of the parameters; None for none.
    """

    def loss_fn(params, frozen: Frozen, batch, key):
        latent_key, noise_key, drop_key = jax.random.split(key, 3)
        latents = sample_latents(latent_key, batch, frozen.scaling_factor)
        noise, timesteps = sample_noise(noise_key, latents, schedule)
        packed = pack(batch["betas"].astype(jnp.float32), frozen.packing)
        adapter = nnx.merge(adapter_graph, params)
        keep = keep_mask(drop_key, (len(packed), adapter.config.num_tokens), drop_rate)
        brain = adapter(packed, keep)
        unet = nnx.merge(unet_graph, frozen.unet)
        prediction = unet(
            schedule.add_noise(latents, noise, timesteps), timesteps, [frozen.text, brain]
        )
        target = schedule.target(latents, noise, timesteps)
        losses = denoising_losses(prediction, target, min_snr_weights(schedule, timesteps, gamma))
        unweighted = denoising_losses(prediction, target, jnp.ones(len(latents)))
        return losses.mean(), {"unweighted_loss": unweighted.mean(), "kept_tokens": keep.mean()}

    def step(state: dict[str, Any], frozen: Frozen, batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        (loss, parts), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state["params"], frozen, batch, key
        )
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = {"params": params, "opt_state": opt_state, "step": state["step"] + 1}
        if ema_decay is not None:
            # A young average follows closely, so that it never shows the random start.
            decay = jnp.minimum(ema_decay, (1.0 + state["step"]) / (10.0 + state["step"]))
            new["ema"] = ema_update(state["ema"], params, decay)
        metrics = {
            "loss": loss,
            **parts,
            "gradient_norm": optax.global_norm(grads),
            "update_norm": optax.global_norm(updates),
            "parameter_norm": optax.global_norm(params),
        }
        return new, metrics

    return jax.jit(step, donate_argnums=0)
