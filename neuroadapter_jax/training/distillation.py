"""Latent consistency distillation: a LoRA with which a guided model samples in 1 to 8 steps."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from neuroadapter_jax.adapter.guidance import Guidance, guided_prediction
from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.lora import ALL_PRODUCTS, ATTENTION, Lora, add_lora
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.samplers import lcm_boundary, lcm_grid
from neuroadapter_jax.ranges import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    Seed,
    ShareBelowOne,
    check_fields,
)
from neuroadapter_jax.training.loop import Intervals
from neuroadapter_jax.training.optimizers import ema_update
from neuroadapter_jax.training.step import latents_from_moments

Targets = Literal["attention", "all"]
TARGETS: dict[str, tuple[str, ...]] = {"attention": ATTENTION, "all": ALL_PRODUCTS}


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """Settings of a latent consistency distillation (Luo et al. 2023, arXiv 2311.05556).

    Attributes:
        seed: of the LoRA's start, the batches and every step's noise.
        rank: r of every layer's LoRA.
        targets: "attention", the four projections of every attention; "all", convolutions and
            feed-forward layers as well, as the published LCM-LoRA files have them.
        guidance_scale: g of the teacher, which the student has folded in; None for the model's own.
        num_grid: points of the grid of timesteps; the teacher takes one DDIM step between two.
        batch_size: images per step.
        num_steps: steps of the whole run.
        learning_rate: the highest rate.
        warmup_steps: updates before it is reached; then it falls as a cosine.
        b2: decay of Adam's second moment.
        clip_norm: largest norm of a gradient; None for no clipping.
        ema_decay: of the moving average that gives the targets, and is exported.
        huber: c of the pseudo-Huber loss, in latents.
        sample_steps: steps of the validation images, and of the exported model.
        num_validation: validation images that are sampled at an evaluation.
        log_every: steps between lines of metrics.jsonl.
        evaluate_every: steps between evaluations.
        checkpoint_every: steps between checkpoints.

    Raises:
        SettingError: a value out of its range.
    """

    seed: Seed = 0
    rank: Count = 8
    targets: Targets = "attention"
    guidance_scale: NonNegative | None = None
    num_grid: Count = 50
    batch_size: Count = 16
    num_steps: Count = 1000
    learning_rate: Positive = 1e-3
    warmup_steps: CountFromZero = 20
    b2: ShareBelowOne = 0.99
    clip_norm: Positive | None = 1.0
    ema_decay: ShareBelowOne = 0.95
    huber: Positive = 0.001
    sample_steps: Count = 4
    num_validation: Count = 48
    log_every: Count = 20
    evaluate_every: Count = 250
    checkpoint_every: Count = 100

    def __post_init__(self):
        check_fields(self)

    @property
    def intervals(self) -> Intervals:
        """When the run logs, evaluates and saves."""
        return Intervals(self.log_every, self.checkpoint_every, self.evaluate_every)


class Teacher(NamedTuple):
    """What a distillation step reads and never changes.

    Attributes:
        adapter: the adapter's parameters.
        unet: the U-Net's parameters, without the LoRA.
        text: the empty prompt's stream of that U-Net, batch 1.
        states: the text encoder's states of the empty prompt, batch 1, of which the student makes
            its own stream.
        packing: where each region's vertices lie.
        scaling_factor: of the autoencoder's latents.
        guidance_scale: g; None for a teacher without guidance.
    """

    adapter: Any
    unet: Any
    text: Stream
    states: Float[Array, "1 k c"]
    packing: Packing
    scaling_factor: float | Array
    guidance_scale: float | Array | None


def consistency(
    x: Float[Array, "b y x c"],
    output: Float[Array, "b y x c"],
    timesteps: Int[Array, " b"],
    schedule: NoiseSchedule,
) -> Float[Array, "b y x c"]:
    """f(x_t, t) = c_skip x_t + c_out x0(x_t, t), the clean latents that a consistency model names.

    Args:
        x: noisy latents x_t.
        output: what the U-Net predicts there.
        timesteps: t, one per sample.
        schedule: noise schedule and prediction type.

    See `samplers.lcm_boundary` for c_skip and c_out (Luo et al. 2023, arXiv 2310.04378, eq. 9).
    """
    skip, out = lcm_boundary(np.arange(schedule.num_train_timesteps))
    each = (len(x), *(1,) * (x.ndim - 1))
    c_skip = jnp.asarray(skip, jnp.float32)[timesteps].reshape(each)
    c_out = jnp.asarray(out, jnp.float32)[timesteps].reshape(each)
    return c_skip * x + c_out * schedule.predicted_clean(x, output, timesteps)


def make_distillation_step(
    adapter_graph: Any,
    unet_graph: Any,
    schedule: NoiseSchedule,
    optimizer: optax.GradientTransformation,
    lora: Lora,
    settings: DistillationSettings,
) -> jax.stages.Wrapped:
    """The jitted step (state, teacher, batch) -> (state, metrics); the state is donated.

    With u and t two neighbours on the grid, u < t, x_t a noised training image, and x_u what one
    DDIM step of the guided teacher makes of it::

        loss = mean sqrt((f_theta(x_t, t) - f_ema(x_u, u))^2 + c^2) - c

    Guidance is the teacher's alone, so the student samples without (Luo et al. 2023, arXiv
    2310.04378, algorithm 1, with a fixed g; the trained part is a LoRA as in arXiv 2311.05556). The
    state has params and ema, {"down": ..., "up": ...} each, opt_state and step; every random number
    comes from fold_in(key(seed), step).

    Args:
        adapter_graph: NNX graph of the frozen adapter.
        unet_graph: NNX graph of the U-Net.
        schedule: noise schedule and prediction type.
        optimizer: of the LoRA's arrays.
        lora: whose layers and scales the trained one has.
        settings: grid, loss and moving average.
    """
    upper = jnp.asarray(lcm_grid(schedule.num_train_timesteps, settings.num_grid), jnp.int32)
    lower = jnp.maximum(upper - schedule.num_train_timesteps // settings.num_grid, 0)

    def teacher_step(teacher: Teacher, brain: Stream, x: Array, t: Array, u: Array) -> Array:
        adapter = nnx.merge(adapter_graph, teacher.adapter)
        guidance = Guidance(teacher.text, brain, adapter.unconditional(), teacher.guidance_scale)
        output, _ = guided_prediction(nnx.merge(unet_graph, teacher.unet), guidance)(x, t)
        clean = schedule.predicted_clean(x, output, t)
        ones = jnp.ones_like(x)
        signal, level = (schedule.add_noise(a, b, t) for a, b in ((ones, 0 * x), (0 * x, ones)))
        return schedule.add_noise(clean, (x - signal * clean) / level, u)

    def student(arrays: Any, teacher: Teacher, brain: Stream, x: Array, t: Array) -> Array:
        params = add_lora(teacher.unet, lora.replace_arrays(arrays))
        unet = nnx.merge(unet_graph, params)
        output = unet(x, t, [unet.text_context(teacher.states), brain])
        return consistency(x, output, t, schedule)

    def loss_fn(params, ema, teacher: Teacher, batch: dict[str, Array], key: Array):
        latent_key, noise_key, time_key = jax.random.split(key, 3)
        latents = latents_from_moments(latent_key, batch, teacher.scaling_factor)
        place = jax.random.randint(time_key, (len(latents),), 0, len(upper))
        t, u = upper[place], lower[place]
        noisy = schedule.add_noise(latents, jax.random.normal(noise_key, latents.shape), t)
        packed = pack(batch["betas"].astype(jnp.float32), teacher.packing)
        brain = nnx.merge(adapter_graph, teacher.adapter)(packed)
        earlier = teacher_step(teacher, brain, noisy, t, u)
        target = jax.lax.stop_gradient(student(ema, teacher, brain, earlier, u))
        difference = student(params, teacher, brain, noisy, t) - target
        loss = jnp.mean(jnp.sqrt(difference**2 + settings.huber**2) - settings.huber)
        return loss, {"squared_difference": jnp.mean(difference**2)}

    def step(state: dict[str, Any], teacher: Teacher, batch: dict[str, Array]):
        key = jax.random.fold_in(jax.random.key(settings.seed), state["step"])
        (loss, parts), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            state["params"], state["ema"], teacher, batch, key
        )
        updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        new = {
            "params": params,
            "ema": ema_update(state["ema"], params, settings.ema_decay),
            "opt_state": opt_state,
            "step": state["step"] + 1,
        }
        return new, {"loss": loss, **parts, "gradient_norm": optax.tree.norm(grads)}

    return jax.jit(step, donate_argnums=0)
