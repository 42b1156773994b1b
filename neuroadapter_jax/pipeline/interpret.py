"""Images together with IBBI's two views of every step, as one jitted function of the networks."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from neuroadapter_jax.adapter.guidance import Guidance, clean_start, first_state
from neuroadapter_jax.diffusion.samplers import Prediction, advance_guided, plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.ibbi.views import (
    LayerWeighting,
    Reduction,
    Views,
    combine_layers,
    prediction_with_views,
)
from neuroadapter_jax.pipeline.networks import Networks, Request, guidance_of
from neuroadapter_jax.pipeline.reconstruct import decoded


class Interpretation(NamedTuple):
    """Images, and what the attention to the regions was while they were sampled.

    Attributes:
        images: the reconstructions, 0..255.
        views: both views of every denoising step, [t, b, ...]; see `ibbi.views.Views`.
        timesteps: of the noise schedule, from most to least noise.
        shown: steps, from 0, of which `noisy` and `predicted_clean` are kept.
        noisy: the latents before each shown step, scaled, channels last.
        predicted_clean: the clean images that the guided prediction implies there, 0..255.
    """

    images: UInt8[np.ndarray, "b y x c"]
    views: Views
    timesteps: Int[np.ndarray, " t"]
    shown: tuple[int, ...]
    noisy: Float[np.ndarray, "k b _y _x _c"]
    predicted_clean: UInt8[np.ndarray, "k b y x c"]


@functools.partial(
    jax.jit, static_argnames=("sampling", "reduction", "layer_weighting", "shown", "mesh")
)
def sample_with_views(
    networks: Networks,
    request: Request,
    roi_weights: Float[Array, "r p"],
    candidate: Int[Array, ""],
    *,
    sampling: Sampling,
    reduction: Reduction,
    layer_weighting: LayerWeighting,
    shown: tuple[int, ...],
    mesh: Mesh,
) -> tuple[UInt8[Array, "b _y _x _c"], Views, Array, Array, Array]:
    """The images of one candidate per response, and the views of every step.

    Args:
        networks: of the pipeline.
        request: the responses.
        roi_weights: each ROI's weights over the regions.
        candidate: which candidate.
        sampling: the steps; the guidance scale is the request's.
        reduction: see `ibbi.views.prediction_with_views`.
        layer_weighting: see `ibbi.views.combine_layers`.
        shown: steps whose noisy latents and predicted clean images are returned.
        mesh: whose devices share the samples.

    Returns:
        Images, views [t, b, ...], noisy latents [k, b, ...], predicted clean images, and the
        latents of the images.
    """
    unet, vae, schedule = networks.merge_unet(), networks.merge_vae(), networks.schedule
    steps, side = plan(schedule, sampling), unet.config.sample_size
    keys = request.noise_keys(jnp.full((len(request.fmri), 1), candidate))
    guidance, keys = guidance_of(networks, request, keys, 1, mesh)

    def with_views(guidance: Guidance) -> Prediction:
        predict = prediction_with_views(unet, guidance, roi_weights, reduction)

        def combined(x: Array, timestep: Array) -> tuple[Array, tuple]:
            out, layers = predict(x, timestep)
            # The latents of every step are small beside one layer's attention.
            return out, (combine_layers(layers, side, layer_weighting), x, out)

        return combined

    predictions = with_views(guidance), with_views(guidance._replace(scale=None))
    state = first_state(unet, keys, steps, clean_start(vae, sampling.start, side))
    state, (views, noisy, out) = advance_guided(
        predictions, state, keys, steps, schedule.prediction_type
    )
    at = np.array(shown, int)
    noisy, timesteps = noisy[at], jnp.asarray(steps.timesteps[at])
    clean = schedule.predicted_clean(noisy, out[at], timesteps)
    images = decoded(networks, state.latents, mesh)
    pictures = [decoded(networks, x, mesh) for x in clean]
    predicted = jnp.stack(pictures) if pictures else jnp.zeros((0, *images.shape), jnp.uint8)
    return images, views, noisy, predicted, state.latents


def concatenate_samples(parts: Iterable[tuple]) -> tuple:
    """What `sample_with_views` returns for some samples after others, put together on the host."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]

    def along(axis: int, place: int) -> Any:
        trees = [jax.tree.map(np.asarray, part[place]) for part in parts]
        return jax.tree.map(lambda *x: np.concatenate(x, axis=axis), *trees)

    # Images, views [t, b, ...], noisy latents [k, b, ...], clean images [k, b, ...], latents.
    return tuple(along(axis, place) for place, axis in enumerate((0, 1, 1, 1, 0)))
