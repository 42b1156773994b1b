"""Single predictions of the U-Net: with all regions, without some, or with their attention."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from neuroadapter_jax.pipeline.networks import Networks
from neuroadapter_jax.sharding import ROWS


@functools.partial(jax.jit, static_argnames="mesh")
def region_set_effects(
    networks: Networks,
    fmri: Float[Array, "b n"],
    noisy: Float[Array, "b y x c"],
    timestep: Int[Array, ""],
    kept: Bool[Array, "r k"],
    rest: Bool[Array, ""],
    *,
    mesh: Mesh,
) -> Float[Array, "b r y x"]:
    """sum_c (eps(x_t, t, tokens of `kept`) - eps(x_t, t, tokens of `rest`))^2 for each row.

    Args:
        networks: of the pipeline.
        fmri: responses of the whole cortex.
        noisy: x_t.
        timestep: the timestep t of `noisy`.
        kept: the tokens of each row that stay.
        rest: whether the prediction compared with has all tokens, or none.
        mesh: whose devices share the samples.
    """
    adapter, unet = networks.merge_adapter(), networks.merge_unet()
    packed, noisy = jax.lax.with_sharding_constraint(
        (networks.pack(fmri), noisy), NamedSharding(mesh, ROWS)
    )
    timesteps = jnp.full(len(fmri), timestep)

    def predict(keep: Array) -> Array:
        keep = jnp.broadcast_to(keep, (len(fmri), kept.shape[1]))
        return unet(noisy, timesteps, [networks.text, adapter(packed, keep)])

    base = predict(rest)

    def change(keep: Array) -> Array:
        return jnp.square(predict(keep) - base).sum(axis=-1)

    return jnp.moveaxis(jax.lax.map(change, kept), 0, 1)


@functools.partial(jax.jit, static_argnames="return_attention")
def predict_noise(
    networks: Networks,
    packed: Float[Array, "b p v"],
    latents: Float[Array, "b c y x"],
    timesteps: Int[Array, " b"],
    *,
    return_attention: bool,
) -> tuple[Float[Array, "b c y x"], list[Float[Array, "b _h _q _p"]] | None]:
    """What the U-Net predicts for noisy latents, without guidance, and its attention if asked for.

    Args:
        networks: of the pipeline.
        packed: responses by region.
        latents: scaled, noisy latents with channels first, as in diffusers.
        timesteps: one per sample.
        return_attention: whether each layer's attention to the tokens is returned.
    """
    adapter, unet = networks.merge_adapter(), networks.merge_unet()
    streams = [networks.text, adapter(packed)]
    inputs, attention = jnp.moveaxis(latents, 1, -1), None
    if return_attention:
        out, attention = unet(inputs, timesteps, streams, lambda weights: weights)
    else:
        out = unet(inputs, timesteps, streams)
    return jnp.moveaxis(out, -1, 1), attention
