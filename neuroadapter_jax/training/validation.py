"""Validation of a training run: a loss that differs by the parameters alone, and a few images."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from neuroadapter_jax.adapter.guidance import Guidance, clean_start, sample_latents
from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.sharding import gather_to_host
from neuroadapter_jax.training.agreement import end_if_asked
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise
from neuroadapter_jax.training.setup import TrainingSetup
from neuroadapter_jax.training.step import Frozen, bank_indices, latents_from_moments

SaveGrid = Callable[[int, UInt8[np.ndarray, "b y x c"], UInt8[np.ndarray, "b y x c"]], None]


def make_evaluation(
    setup: TrainingSetup, save_grid: SaveGrid | None, num_reconstructed: int = 10
) -> Callable[[dict[str, Any], int], dict[str, float]]:
    """Validation: the Min-SNR loss with all tokens kept, at fixed noise, and a few reconstructions.

    The same latents, noises and timesteps serve every evaluation, four timesteps per image, so
    that losses of different steps differ by the parameters alone. With several subjects each one's
    loss is given as well. Each evaluation reads the split batch by batch, whatever its length.

    Args:
        setup: of the run.
        save_grid: called with (step, validation images, reconstructions); None samples nothing.
        num_reconstructed: validation images that are reconstructed, at most.

    Returns:
        (state, step) -> numbers by name, the first of them "validation/loss"; it ends early where
        a signal asks for it.
    """
    settings, schedule = setup.settings, setup.backbone.schedule
    records = setup.needed(setup.validation)
    batch_size = min(settings.batch_size, len(records))
    sampling = settings.validation_sampling
    steps = plan(schedule, sampling)
    vae_graph, vae_params = nnx.split(setup.backbone.vae)
    visits = 4
    read = ("betas", "latent_mean", "latent_std", "subject_index")

    @jax.jit
    def losses(params, frozen: Frozen, batch, key) -> Float[Array, " b"]:
        latent_key, noise_key = jax.random.split(key)
        latents = latents_from_moments(latent_key, batch, frozen.scaling_factor)
        noise, timesteps = sample_noise(noise_key, latents, schedule)
        subject = bank_indices(batch, frozen.packing)
        brain = nnx.merge(setup.adapter_graph, params)(
            pack(batch["betas"].astype(jnp.float32), frozen.packing, subject), subject=subject
        )
        prediction: Any = nnx.merge(setup.unet_graph, frozen.unet)(
            schedule.add_noise(latents, noise, timesteps), timesteps, [frozen.text, brain]
        )
        return denoising_losses(
            prediction,
            schedule.target(latents, noise, timesteps),
            min_snr_weights(schedule, timesteps, settings.gamma),
        )

    @jax.jit
    def reconstructions(params, frozen: Frozen, vae_params, batch, keys) -> UInt8[Array, "b y x c"]:
        subject = bank_indices(batch, frozen.packing)
        adapter = nnx.merge(setup.adapter_graph, params)
        unet, vae = nnx.merge(setup.unet_graph, frozen.unet), nnx.merge(vae_graph, vae_params)
        packed = pack(batch["betas"].astype(jnp.float32), frozen.packing, subject)
        brain = adapter(packed, subject=subject)
        latents, _ = sample_latents(
            unet,
            Guidance(frozen.text, brain, adapter.unconditional(), sampling.guidance_scale),
            keys,
            steps,
            schedule.prediction_type,
            clean=clean_start(vae, sampling.start, unet.config.sample_size),
        )
        return to_uint8(vae.decode(latents / frozen.scaling_factor))

    def evaluate(state: dict[str, Any], step: int) -> dict[str, float]:
        # Every process evaluates on its first device, so that all agree on what is best.
        params = gather_to_host(state.get("ema", state["params"]))
        key = jax.random.key(settings.seed)
        values: list[np.ndarray] = []
        place: list[np.ndarray] = []  # whose image it is
        for i, batch in enumerate(eval_batches(records, batch_size)):
            arrays = {name: batch[name] for name in read if name in batch}
            for visit in range(visits):
                end_if_asked(step)
                each = losses(
                    params, setup.frozen, arrays, jax.random.fold_in(key, i * visits + visit)
                )
                values.append(np.asarray(each)[: batch["num_valid"]])
                place.append(batch.get("subject_index", each)[: batch["num_valid"]])
            if i == 0 and save_grid is not None and jax.process_index() == 0:
                count = min(num_reconstructed, batch["num_valid"])
                keys = jax.random.split(key, count)
                some = {name: array[:count] for name, array in arrays.items()}
                images = reconstructions(params, setup.frozen, vae_params, some, keys)
                stimuli = [setup.validation.read(i, ("image",))["image"] for i in range(count)]
                save_grid(step, np.stack(stimuli), np.asarray(images))
        found = np.concatenate(values)
        result = {"validation/loss": float(found.mean())}
        if len(setup.subjects) > 1:
            for index, subject in enumerate(setup.subjects):
                own = found[np.concatenate(place) == index]
                result[f"validation/loss_subj{subject:0>2}"] = float(own.mean())
        return result

    return evaluate
