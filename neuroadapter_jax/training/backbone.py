"""Training a small Stable Diffusion from scratch: the autoencoder, then text to image."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int

from neuroadapter_jax.diffusion.images import to_model_range
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise
from neuroadapter_jax.training.optimizers import ema_update


@dataclass
class ArrayBatches:
    """Endless random batches of arrays in memory; batch k is a function of (seed, k) alone.

    Args:
        arrays: name -> array [n, ...].
        batch_size: records per batch, at most n; none comes twice in a batch.
        seed: of the choice of records, at least 0.
        position: batches that were taken before, from 0.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.training.backbone import ArrayBatches
        >>> batches = ArrayBatches({"image": np.arange(10)}, batch_size=4, seed=0)
        >>> first = next(batches)["image"]
        >>> batches.set_state({"position": 0})  # go back to the first batch
        >>> bool((next(batches)["image"] == first).all()), batches.get_state()
        (True, {'position': 1})
    """

    arrays: dict[str, np.ndarray]
    batch_size: int
    seed: int
    position: int = field(default=0)

    def __next__(self) -> dict[str, np.ndarray]:
        size = len(next(iter(self.arrays.values())))
        rng = np.random.default_rng([self.seed, self.position])
        chosen = rng.choice(size, self.batch_size, replace=False)
        self.position += 1
        return {name: array[chosen] for name, array in self.arrays.items()}

    def get_state(self) -> dict[str, int]:
        """The data position."""
        return {"position": self.position}

    def set_state(self, state: dict[str, int]) -> None:
        """Go on from a data position."""
        self.position = state["position"]


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, ema: bool = True
) -> dict[str, Any]:
    """Step 0: parameters, their moving average (if there is one), and the optimizer's state."""
    state = {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    return state | ({"ema": jax.tree.map(jnp.copy, params)} if ema else {})


def make_step(
    loss_fn: Callable[[Any, dict[str, Array], Array], tuple[Array, dict[str, Array]]],
    optimizer: optax.GradientTransformation,
    seed: int,
    ema_decay: float | None,
) -> Callable:
    """A jitted step (state, batch) -> (state, metrics) for `fit`; the state is donated.

    Args:
        loss_fn: (params, batch, key) -> (loss, further metrics).
        optimizer: of all parameters.
        seed: the key of a step is fold_in(key(seed), step).
        ema_decay: of the moving average; None for none.
    """

    def step(state: dict[str, Any], batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        (loss, parts), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state["params"], batch, key
        )
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(grads), **parts}
        new = {"params": params, "opt_state": opt_state, "step": state["step"] + 1}
        if ema_decay is not None:
            # A young average follows closely, so that it never shows the random start.
            decay = jnp.minimum(ema_decay, (1.0 + state["step"]) / (10.0 + state["step"]))
            new["ema"] = ema_update(state["ema"], params, decay)
        return new, metrics

    return jax.jit(step, donate_argnums=0)


def make_autoencoder_step(
    vae: AutoencoderKL,
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    kl_weight: float = 1e-6,
    absolute_weight: float = 0.5,
    ema_decay: float = 0.999,
) -> Callable:
    """A jitted step on batches {"image": uint8 [b, y, x, 3]}.

    ::

        loss = mean (x - x')^2 + absolute_weight mean |x - x'| + kl_weight KL(q(z|x) || N(0, 1))

    The KL term is summed over the latent's entries and averaged over samples, as in Rombach et
    al. 2022 (arXiv 2112.10752, appendix G); the absolute error stands in place of their
    perceptual and adversarial terms.

    Args:
        vae: the autoencoder, of which the step takes the graph.
        optimizer: of its parameters.
        seed: of the latents' noise.
        kl_weight: of the KL term.
        absolute_weight: of the absolute error.
        ema_decay: of the moving average.
    """
    graph = nnx.graphdef(vae)

    def loss_fn(params, batch, key):
        model = nnx.merge(graph, params)
        images = to_model_range(batch["image"])
        mean, std = model.encode(images)
        reconstructed = model.decode(mean + std * jax.random.normal(key, mean.shape))
        squared = jnp.mean((reconstructed - images) ** 2)
        absolute = jnp.mean(jnp.abs(reconstructed - images))
        kl = 0.5 * jnp.sum(mean**2 + std**2 - 1.0 - 2.0 * jnp.log(std)) / len(images)
        loss = squared + absolute_weight * absolute + kl_weight * kl
        return loss, {"squared_error": squared, "absolute_error": absolute, "kl": kl}

    return make_step(loss_fn, optimizer, seed, ema_decay)


def make_text_to_image_step(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    schedule: NoiseSchedule,
    optimizer: optax.GradientTransformation,
    empty_ids: Int[np.ndarray, " k"],
    *,
    seed: int,
    gamma: float | None = 5.0,
    drop_rate: float = 0.1,
    ema_decay: float = 0.999,
) -> Callable:
    """A jitted step of U-Net and text encoder on cached latents.

    Batches are {"latent": scaled latents [b, y, x, c], "ids": caption ids [b, k]}; a caption is
    replaced by the empty one with probability drop_rate, so that the model also works without.

    Args:
        unet: of which the step takes the graph.
        text_encoder: of which the step takes the graph.
        schedule: noise schedule and prediction type.
        optimizer: of both networks' parameters.
        empty_ids: ids of the empty caption [k].
        seed: of noise, timesteps and dropped captions.
        gamma: cap of the Min-SNR weights; None for none.
        drop_rate: share of captions replaced by the empty one, 0 to 1.
        ema_decay: of the moving average.
    """
    graphs = {"unet": nnx.graphdef(unet), "text_encoder": nnx.graphdef(text_encoder)}

    def loss_fn(params, batch, key):
        noise_key, drop_key = jax.random.split(key)
        latents = batch["latent"].astype(jnp.float32)
        noise, timesteps = sample_noise(noise_key, latents, schedule)
        drop = jax.random.bernoulli(drop_key, drop_rate, (len(latents), 1))
        ids = jnp.where(drop, empty_ids, batch["ids"])
        model = nnx.merge(graphs["unet"], params["unet"])
        states = nnx.merge(graphs["text_encoder"], params["text_encoder"])(ids)
        prediction = model(
            schedule.add_noise(latents, noise, timesteps), timesteps, [model.text_context(states)]
        )
        target = schedule.target(latents, noise, timesteps)
        plain = jnp.mean((prediction - target) ** 2)
        weights = min_snr_weights(schedule, timesteps, gamma)
        return denoising_losses(prediction, target, weights).mean(), {"unweighted": plain}

    return make_step(loss_fn, optimizer, seed, ema_decay)
