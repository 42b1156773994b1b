"""Classifier-free guidance on brain streams: predictions and the latents sampled with them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Probe, Stream
from neuroadapter_jax.diffusion.samplers import (
    SamplerState,
    SamplingPlan,
    advance_guided,
    start_state,
    unit_noise,
)
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.errors import InputError


class Guidance(NamedTuple):
    """What a guided prediction is conditioned on.

    eps = eps_uncond + g (eps_cond - eps_uncond), where the unconditional half sees every brain
    token dropped and the same text (Ho and Salimans 2022, arXiv 2207.12598, eq. 6, with g = 1 + w).
    g = 1 is the conditional prediction; the paper's reconstructions have g = 4.

    Attributes:
        text: the empty prompt's stream, batch 1, attended to by both halves; None for no stream.
        brain: the samples' stream, batch b.
        unconditional: from `NeuroAdapter.unconditional`, batch 1: all its tokens are the same.
        scale: g; None means no guidance, and no second half is computed.

    Examples:
        The stream that drops every token comes from the adapter:

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax import NeuroAdapter
        >>> from neuroadapter_jax.adapter.guidance import Guidance
        >>> from neuroadapter_jax.adapter.neuroadapter import NeuroAdapterConfig
        >>> config = NeuroAdapterConfig(
        ...     num_regions=5, max_vertices=7, token_width=16, widths=(32,), heads=(2,)
        ... )
        >>> adapter = NeuroAdapter(config, rngs=nnx.Rngs(0))
        >>> brain = adapter(jnp.ones((3, 5, 7)))
        >>> guidance = Guidance(None, brain, adapter.unconditional(), scale=4.0)
        >>> guidance.unconditional.keys[0].shape
        (1, 2, 5, 16)
    """

    text: Stream | None
    brain: Stream
    unconditional: Stream
    scale: float | Float[Array, ""] | None


def expand(stream: Stream, size: int) -> Stream:
    """A stream whose batch of 1 is repeated to `size`, without copying.

    Args:
        stream: of batch 1.
        size: of the new batch.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.adapter.guidance import expand
        >>> from neuroadapter_jax.diffusion.attention import Stream
        >>> one = Stream(keys=(jnp.zeros((1, 2, 5, 8)),), values=(jnp.zeros((1, 2, 5, 8)),))
        >>> expand(one, 3).keys[0].shape
        (3, 2, 5, 8)
    """

    def repeat(x):
        return jnp.broadcast_to(x, (size, *x.shape[1:]))

    return Stream(tuple(map(repeat, stream.keys)), tuple(map(repeat, stream.values)), stream.scale)


def clean_start(vae: AutoencoderKL, start: str, sample_size: int) -> Float[Array, "y x c"] | None:
    """What lies under the first noise: nothing, or a mid-grey image.

    Args:
        vae: the backbone's autoencoder.
        start: "noise" for pure noise, or "grey" for the latents of an image of zeros, as in the
            released code, which noises them to the first timestep.
        sample_size: rows and columns of the latents.

    Raises:
        InputError: `start` is neither.
    """
    if start not in ("noise", "grey"):
        raise InputError(f"start is {start!r}; expected 'noise' or 'grey'.")
    if start == "noise":
        return None
    side = sample_size * vae.config.downscale
    mean, _ = vae.encode(jnp.zeros((1, side, side, vae.config.in_channels)))
    return vae.config.scaling_factor * mean[0]


def sample_latents(
    unet: UNet2DConditionModel,
    guidance: Guidance,
    keys: Array,
    steps: SamplingPlan,
    prediction_type: str = "epsilon",
    probe: Probe | Sequence[Probe] | None = None,
    clean: Float[Array, "y x c"] | Float[Array, "b y x c"] | None = None,
) -> tuple[Float[Array, "b y x c"], list | None]:
    """Scaled latents sampled for every response of a brain stream.

    Args:
        unet: frozen.
        guidance: what the prediction is conditioned on.
        keys: [b] random keys; key i alone decides the noise of sample i.
        steps: from `samplers.plan`.
        prediction_type: of the U-Net.
        probe: called with the brain attention [b, h, q, p] of each layer, conditional half only;
            or one such function per layer.
        clean: scaled latents under the first noise, one for all as from `clean_start` or one per
            sample; None for pure noise.

    Returns:
        Latents [b, y, x, c], and the probe's results per layer stacked over steps, or None.
    """
    state = first_state(unet, keys, steps, clean)
    state, probed = advance_latents(unet, guidance, state, keys, steps, prediction_type, probe)
    return state.latents, probed


def sample_latents_from_streams(
    unet: UNet2DConditionModel,
    streams: Sequence[Stream],
    unconditional: Sequence[Stream],
    keys: Array,
    steps: SamplingPlan,
    guidance_scale: float | Float[Array, ""] | None,
    prediction_type: str = "epsilon",
    clean: Float[Array, "y x c"] | Float[Array, "b y x c"] | None = None,
) -> Float[Array, "b y x c"]:
    """Scaled latents sampled from any streams, guided away from others of the same kinds.

    Here the unconditional half attends, too: the tokens of an empty prompt or of a black image
    differ from one another, unlike dropped brain tokens.

    Args:
        unet: frozen.
        streams: the samples' own, such as text and image, batch b or 1 each; their scales weigh
            them.
        unconditional: what stands in the place of each in the other half, batch b or 1.
        keys: [b] random keys; key i alone decides the noise of sample i.
        steps: from `samplers.plan`.
        guidance_scale: g of `Guidance`; None means no guidance.
        prediction_type: of the U-Net.
        clean: scaled latents under the first noise; None for pure noise.
    """
    scale = 1.0 if guidance_scale is None else guidance_scale
    own_streams = guided_streams = list(streams)
    if guidance_scale is not None:

        def both(a: Array, b: Array) -> Array:
            return jnp.concatenate([jnp.broadcast_to(x, (len(keys), *x.shape[1:])) for x in (a, b)])

        guided_streams = [
            own._replace(
                keys=tuple(map(both, own.keys, other.keys)),
                values=tuple(map(both, own.values, other.values)),
            )
            for own, other in zip(own_streams, unconditional, strict=True)
        ]

    def conditional_alone(x: Array, timestep: Array) -> tuple[Array, None]:
        return unet(x, jnp.full((len(x),), timestep), own_streams), None

    def guided(x: Array, timestep: Array) -> tuple[Array, None]:
        x = jnp.concatenate([x, x])
        out = unet(x, jnp.full((len(x),), timestep), guided_streams)
        conditional, without = jnp.split(out, 2)
        return without + scale * (conditional - without), None

    predict = conditional_alone if guidance_scale is None else guided
    state = first_state(unet, keys, steps, clean)
    state, _ = advance_guided((predict, conditional_alone), state, keys, steps, prediction_type)
    return state.latents


def first_state(
    unet: UNet2DConditionModel,
    keys: Array,
    steps: SamplingPlan,
    clean: Float[Array, "y x c"] | Float[Array, "b y x c"] | None = None,
) -> SamplerState:
    """The state before the first step: unit noise, or `clean` noised to the first timestep.

    Args:
        unet: whose configuration gives the latents' shape.
        keys: [b] random keys; key i alone decides the noise of sample i.
        steps: from `samplers.plan`.
        clean: scaled latents under the noise, one for all or one per sample; None for pure noise.
    """
    config = unet.config
    shape = (config.sample_size, config.sample_size, config.in_channels)
    start = unit_noise(keys, 0, shape)
    if clean is not None:
        start = steps.signal[0] * clean + steps.noise_level[0] * start
    return start_state(start)


def advance_latents(
    unet: UNet2DConditionModel,
    guidance: Guidance,
    state: SamplerState,
    keys: Array,
    steps: SamplingPlan,
    prediction_type: str = "epsilon",
    probe: Probe | Sequence[Probe] | None = None,
    span: tuple[int, int] | None = None,
) -> tuple[SamplerState, list | None]:
    """Some of the steps of `sample_latents`: calls that follow on one another equal one.

    Args:
        unet: frozen.
        guidance: what the prediction is conditioned on.
        state: from `first_state`, or of the call before.
        keys: [b] random keys; key i alone decides the noise of sample i.
        steps: the whole plan.
        prediction_type: of the U-Net.
        probe: called with the brain attention [b, h, q, p] of each layer, conditional half only;
            or one such function per layer.
        span: (first step, step after the last); None for all.

    Returns:
        The state after these steps, and the probe's results per layer stacked over them, or None.
    """
    guided = guided_prediction(unet, guidance, probe)
    without = guided_prediction(unet, guidance._replace(scale=None), probe)
    return advance_guided((guided, without), state, keys, steps, prediction_type, span)


def guided_prediction(
    unet: UNet2DConditionModel,
    guidance: Guidance,
    probe: Probe | Sequence[Probe] | None = None,
) -> Callable[[Array, Array], tuple[Array, list | None]]:
    """(latents, timestep) -> (guided prediction, the probe's results or None).

    eps = eps_uncond + g (eps_cond - eps_uncond), see `Guidance`. Both halves go through the U-Net
    as one batch of pairs. The timestep is one for all, or one per sample.

    Args:
        unet: frozen.
        guidance: what the prediction is conditioned on.
        probe: called with the brain attention [b, h, q, p] of each layer, conditional half only;
            or one such function per layer.
    """
    text, brain, unconditional, scale = guidance
    if scale is not None:
        brain = brain._replace(unconditional_value=tuple(v[:, :, :1] for v in unconditional.values))

    def predict(x: Array, timestep: Array) -> tuple[Array, list | None]:
        timesteps = jnp.broadcast_to(timestep, (len(x),))
        if scale is not None:
            x, timesteps = jnp.repeat(x, 2, axis=0), jnp.repeat(timesteps, 2)
        streams = [brain] if text is None else [text, brain]
        probed = None
        if probe is None:
            out = unet(x, timesteps, streams)
        else:
            out, probed = unet(x, timesteps, streams, probe)
        if scale is not None:
            pairs = out.reshape(-1, 2, *out.shape[1:])
            conditional, without = pairs[:, 0], pairs[:, 1]
            out = without + scale * (conditional - without)
        return out, probed

    return predict
