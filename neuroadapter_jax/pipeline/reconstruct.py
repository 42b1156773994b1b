"""Candidate images of responses, as one jitted function of the networks."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from neuroadapter_jax.adapter.guidance import advance_latents, clean_start, first_state
from neuroadapter_jax.diffusion.images import to_model_range, to_uint8
from neuroadapter_jax.diffusion.samplers import SamplerState, plan, skipped_steps, without_first
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.pipeline.groups import call_in_groups
from neuroadapter_jax.pipeline.networks import Networks, Placement, Request, guidance_of
from neuroadapter_jax.sharding import ROWS, map_in_turn

# Rows of latents from which on an image at a time fills a device, and more take memory alone:
# decoding one of 512 x 512 pixels takes about a gigabyte.
LARGE = 32


class LowLevelStart(NamedTuple):
    """Where sampling begins instead of pure noise.

    Attributes:
        latents: scaled latents of every response, such as a linear decoder's
            (`decoders.linear_two_stage`) or those that `NeuroAdapterPipeline.encode` gives.
        strength: share of the steps that are taken, above 0, at most 1, from the latents noised to
            that point on, as in diffusers' image-to-image pipelines. At 1 the latents are not used
            at all (diffusers would keep what the first noise level leaves).

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.pipeline import LowLevelStart
        >>> start = LowLevelStart(np.zeros((2, 16, 16, 4), np.float32), strength=0.6)
        >>> start.latents.shape, start.strength
        ((2, 16, 16, 4), 0.6)
    """

    latents: Float[Array, "b y x c"] | Float[np.ndarray, "b y x c"]
    strength: float = 0.8


@dataclasses.dataclass(frozen=True)
class Steps:
    """Which steps of a plan a call of `sample_candidates` takes.

    Attributes:
        sampling: the plan's settings; its guidance scale is not read, `Request` has it.
        skipped: steps left out at the beginning, see `LowLevelStart`.
        span: (first step, step after the last) of what is left; None for all.
    """

    sampling: Sampling
    skipped: int = 0
    span: tuple[int, int] | None = None

    @classmethod
    def of(cls, sampling: Sampling, low_level: LowLevelStart | None = None) -> "Steps":
        """All steps of settings, less those that a low-level start leaves out.

        Raises:
            InputError: a strength out of range, see `samplers.skipped_steps`.
        """
        skipped = 0
        if low_level is not None:
            skipped = skipped_steps(sampling.num_steps, low_level.strength)
        # The scale is an array of `Request`, so that another one compiles nothing.
        return cls(sampling.replace(guidance_scale=1.0), skipped)

    @property
    def count(self) -> int:
        """Steps that all spans take together."""
        return self.sampling.num_steps - self.skipped


@functools.partial(jax.jit, static_argnames=("steps", "mesh"))
def sample_candidates(
    networks: Networks,
    request: Request,
    numbers: Int[Array, "b s"],
    state: SamplerState | None,
    low_level: Float[Array, "b y x c"] | None,
    *,
    steps: Steps,
    mesh: Mesh,
) -> tuple[UInt8[Array, "b s _y _x _c"], SamplerState]:
    """Images of candidates, and the state after the last step taken.

    Candidate j of sample i starts from the noise of key (seed, sample_ids[i], j), so its image does
    not depend on what else is in the batch.

    Args:
        networks: of the pipeline.
        request: the responses.
        numbers: which candidates of each response.
        state: of the call that took the steps before; None at the first step.
        low_level: scaled latents to begin from; None for the start that the settings name.
        steps: which steps.
        mesh: whose devices share the candidates.

    Returns:
        The images, those of the clean latents that the last step predicts where steps are left;
        and the state, [b, s, ...].
    """
    unet, vae = networks.merge_unet(), networks.merge_vae()
    schedule, num_candidates = networks.schedule, numbers.shape[1]
    sampling_plan = without_first(plan(schedule, steps.sampling), steps.skipped)
    keys = request.noise_keys(numbers)
    guidance, keys = guidance_of(networks, request, keys, num_candidates, mesh)
    if state is None:
        if low_level is None:
            clean = clean_start(vae, steps.sampling.start, unet.config.sample_size)
        else:
            clean = jnp.repeat(low_level, num_candidates, axis=0)
        state = first_state(unet, keys, sampling_plan, clean)
    else:
        state = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), state)
    state = jax.lax.with_sharding_constraint(state, NamedSharding(mesh, ROWS))
    state, _ = advance_latents(
        unet, guidance, state, keys, sampling_plan, schedule.prediction_type, span=steps.span
    )
    whole = steps.span is None or steps.span[1] == steps.count
    images = decoded(networks, state.latents if whole else state.clean, mesh)
    return jax.tree.map(lambda x: x.reshape(*numbers.shape, *x.shape[1:]), (images, state))


# (numbers [b, s], state or None, span or None) -> (images [b, s, y, x, c], state).
SampleSpan = Callable[[np.ndarray, Any, tuple[int, int] | None], tuple[Any, Any]]


def span_sampler(
    place: Placement, request: Request, steps: Steps, latents: Float[Array, "b y x c"] | None
) -> SampleSpan:
    """`sample_candidates` on this process's devices, as a function of (numbers, state, span).

    Where the placement says how many images are sampled at once, in groups of so many.

    Args:
        place: the networks, and where they are put.
        request: the responses.
        steps: all steps; `span` says which of them a call takes.
        latents: scaled latents to begin from, see `sample_candidates`.
    """

    def sample(numbers: np.ndarray, state: Any, span: tuple[int, int] | None) -> tuple[Any, Any]:
        groups = place.groups(*numbers.shape)

        def sample_group(rows: slice, columns: slice) -> tuple[Any, Any]:
            own = numbers[rows, columns]
            mesh, networks = place(own.size)
            return sample_candidates(
                networks,
                request if len(groups) == 1 else request.rows(rows),
                jnp.asarray(own, jnp.int32),
                jax.tree.map(lambda x: x[rows, columns], state) if len(groups) > 1 else state,
                latents if latents is None else latents[rows],
                steps=dataclasses.replace(steps, span=span),
                mesh=mesh,
            )

        return call_in_groups(sample_group, groups)

    return sample


def decoded(
    networks: Networks, latents: Float[Array, "b y x c"], mesh: Mesh | None = None
) -> UInt8[Array, "b _y _x _c"]:
    """The images of scaled latents; large ones one after the other on each device."""
    vae = networks.merge_vae()
    scaled = latents / vae.config.scaling_factor
    if latents.shape[1] < LARGE:
        return to_uint8(vae.decode(scaled))
    return map_in_turn(lambda x: to_uint8(vae.decode(x)), scaled, mesh)


def encoded(networks: Networks, images: UInt8[Array, "b y x c"]) -> Float[Array, "b _y _x _c"]:
    """The scaled latents of images: the mean of the VAE's posterior."""
    vae = networks.merge_vae()

    def mean(images: UInt8[Array, "b y x c"]) -> Float[Array, "b _y _x _c"]:
        return vae.config.scaling_factor * vae.encode(to_model_range(images))[0]

    if images.shape[1] < LARGE * vae.config.downscale:
        return mean(images)
    return map_in_turn(mean, images)


decode = jax.jit(decoded)
encode = jax.jit(encoded)
