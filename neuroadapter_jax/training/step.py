"""One pure training step of NeuroAdapter on a frozen Stable Diffusion."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from neuroadapter_jax.adapter.token_dropout import keep_mask
from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.ranges import NonNegative, Positive, Share, check_fields
from neuroadapter_jax.sharding import constrained, gathered
from neuroadapter_jax.training.loss import (
    denoising_losses,
    min_snr_weights,
    pixel_losses,
    sample_noise,
)
from neuroadapter_jax.training.optimizers import ema_update


class Frozen(NamedTuple):
    """What the step reads and never changes.

    Attributes:
        unet: the U-Net's parameters.
        text: the empty prompt's stream, batch 1.
        packing: where each region's vertices lie; of each subject where they have a projection
            bank each.
        scaling_factor: of the autoencoder's latents.
        vae: the autoencoder, graph and parameters, which a loss over pixels reads; None without.
    """

    unet: Any
    text: Stream
    packing: Packing
    scaling_factor: float | Array
    vae: AutoencoderKL | None = None


@dataclass(frozen=True)
class Objective:
    """What a step minimises: the denoising loss, and how many tokens it does without.

    Attributes:
        gamma: cap of the Min-SNR weights, 5 in the paper; None for none.
        drop_rate: share of tokens that a sample loses, 0 to 1, or "uniform" for a share drawn
            for each sample; see `keep_mask`.
        drop_all: share of samples that lose every token, 0 to 1; see `keep_mask`.
        pixel_weight: of a loss over pixels that is added, see `pixel_losses`; 0, as in the paper,
            for none.

    Examples:
        >>> from neuroadapter_jax.training.step import Objective
        >>> Objective(gamma=5.0, drop_rate="uniform", drop_all=0.1).drop_rate
        'uniform'
    """

    gamma: Positive | None = 5.0
    drop_rate: Share | Literal["uniform"] = "uniform"
    drop_all: Share = 0.0
    pixel_weight: NonNegative = 0.0

    def __post_init__(self):
        check_fields(self)


def latents_from_moments(
    key: Array, batch: dict[str, Array], scaling_factor: float | Float[Array, ""]
) -> Array:
    """Scaled latents from the prepared moments: s (mean + std z), z ~ N(0, 1).

    Args:
        key: random key of z.
        batch: with latent_mean and latent_std, [b, y, x, c].
        scaling_factor: s, of the autoencoder.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.training.step import latents_from_moments
        >>> batch = {"latent_mean": jnp.ones((1, 2, 2, 1)), "latent_std": jnp.zeros((1, 2, 2, 1))}
        >>> latents_from_moments(jax.random.key(0), batch, 0.5).reshape(-1).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    mean = batch["latent_mean"].astype(jnp.float32)
    std = batch["latent_std"].astype(jnp.float32)
    return scaling_factor * (mean + std * jax.random.normal(key, mean.shape))


def bank_indices(batch: dict[str, Any], packing: Packing) -> Int[Array | np.ndarray, " b"] | None:
    """Whose regions and projection bank each sample takes; None where there is but one."""
    return batch["subject_index"] if packing.index.ndim == 3 else None


def make_train_step(
    adapter_graph: Any,
    unet_graph: Any,
    schedule: NoiseSchedule,
    optimizer: optax.GradientTransformation,
    objective: Objective = Objective(),
    *,
    seed: int,
    ema_decay: float | None = None,
    accumulate: int = 1,
    remat: bool = False,
    mesh: Mesh | None = None,
) -> jax.stages.Wrapped:
    """The jitted step (state, frozen, batch) -> (state, metrics); the state is donated.

    ::

        loss = mean_b w_b (mean over pixels of (eps_b - unet(x_t, t, text, brain))^2)

    with Min-SNR weights w and random token dropout (NeuroAdapter, arXiv 2509.23566), and with
    `objective.pixel_weight` times the mean of `pixel_losses`, which the paper does not have. The
    state has params, opt_state, step and, with ema_decay, ema. Every random number comes from
    fold_in(key(seed), step), drawn for the whole batch, so accumulate, remat and the mesh change
    the result by rounding alone. With a packing per subject the batch names each sample's as
    subject_index, and a bank whose subject the batch lacks gets no gradient.

    Args:
        adapter_graph: NNX graph of the `NeuroAdapter` that trains.
        unet_graph: NNX graph of the frozen U-Net.
        schedule: noise schedule and prediction type.
        optimizer: of the adapter's parameters.
        objective: the loss's weights and the token dropout.
        seed: of noise, timesteps, latents and dropout.
        ema_decay: of a moving average of the parameters; None for none.
        accumulate: parts of the batch that are computed one after the other, to save memory;
            divides the batch.
        remat: keep only what enters each U-Net block and compute the rest again for the
            derivative, to save memory.
        mesh: on which state and frozen part lie by `sharding.shard`, and the batch is cut; each
            cut parameter is gathered once. None: wherever the arguments are.
    """
    dropout = objective.drop_rate, objective.drop_all

    def whole(tree: Any) -> Any:
        return tree if mesh is None else gathered(tree, mesh)

    def cut(tree: Any) -> Any:
        return tree if mesh is None else constrained(tree, mesh)

    def prepare(params, frozen: Frozen, batch: dict[str, Array], key: Array) -> dict[str, Any]:
        latent_key, noise_key, drop_key = jax.random.split(key, 3)
        latents = latents_from_moments(latent_key, batch, frozen.scaling_factor)
        noise, timesteps = sample_noise(noise_key, latents, schedule)
        subject = bank_indices(batch, frozen.packing)
        packed = pack(batch["betas"].astype(jnp.float32), frozen.packing, subject)
        num_tokens = nnx.merge(adapter_graph, params).config.num_tokens
        return {
            "latents": latents,
            "noisy": schedule.add_noise(latents, noise, timesteps),
            "timesteps": timesteps,
            "target": schedule.target(latents, noise, timesteps),
            "packed": packed,
            "keep": keep_mask(drop_key, (len(packed), num_tokens), *dropout),
            "subject": subject,
        }

    def of_pixels(prediction: Array, inputs: dict[str, Any], frozen: Frozen) -> Array:
        """The added loss, or 0 where there is none."""
        if frozen.vae is None or not objective.pixel_weight:
            return jnp.zeros(())
        timesteps, scale = inputs["timesteps"], frozen.scaling_factor
        clean = schedule.predicted_clean(inputs["noisy"], prediction, timesteps)
        shown, wanted = (frozen.vae.decode(x / scale) for x in (clean, inputs["latents"]))
        return objective.pixel_weight * pixel_losses(schedule, timesteps, shown, wanted).mean()

    def loss_fn(params, frozen: Frozen, inputs: dict[str, Any]):
        brain = nnx.merge(adapter_graph, params)(
            inputs["packed"], inputs["keep"], inputs["subject"]
        )
        unet = nnx.merge(unet_graph, frozen.unet)
        prediction = unet(inputs["noisy"], inputs["timesteps"], [frozen.text, brain], remat=remat)
        weights = min_snr_weights(schedule, inputs["timesteps"], objective.gamma)
        losses = denoising_losses(prediction, inputs["target"], weights)
        unweighted = denoising_losses(prediction, inputs["target"], jnp.ones(len(weights)))
        return losses.mean() + of_pixels(prediction, inputs, frozen), {
            "unweighted_loss": unweighted.mean(),
            "kept_tokens": inputs["keep"].mean(),
        }

    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def in_parts(params, frozen, inputs):
        # Row r goes to part r mod accumulate, so that every device works on each part.
        parts = jax.tree.map(
            lambda x: x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1), inputs
        )

        def add(total, part):
            return jax.tree.map(jnp.add, total, value_and_grad(params, frozen, part)), ()

        shapes = jax.eval_shape(value_and_grad, params, frozen, jax.tree.map(lambda x: x[0], parts))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, parts)
        return jax.tree.map(lambda x: x / accumulate, total)

    def step(state: dict[str, Any], frozen: Frozen, batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        inputs = prepare(state["params"], frozen, batch, key)
        gradient = value_and_grad if accumulate == 1 else in_parts
        gathered_unet = frozen._replace(unet=whole(frozen.unet))
        (loss, parts), grads = gradient(whole(state["params"]), gathered_unet, inputs)
        grads = cut(grads)
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
            "gradient_norm": optax.tree.norm(grads),
            "update_norm": optax.tree.norm(updates),
            "parameter_norm": optax.tree.norm(params),
        }
        return cut(new), metrics

    return jax.jit(step, donate_argnums=0)
