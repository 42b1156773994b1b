"""How many images are sampled at once: planned from a device's memory before any is sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.ibbi.views import DEFAULT_REDUCTION, Reduction
from neuroadapter_jax.pipeline.interpret import sample_with_views
from neuroadapter_jax.pipeline.networks import Request
from neuroadapter_jax.pipeline.reconstruct import Steps, sample_candidates

if TYPE_CHECKING:
    from neuroadapter_jax.pipeline.reconstruction_pipeline import ReconstructionPipeline

# Of the free memory; the rest is for what XLA does not plan, such as cuDNN's workspaces.
SHARE = 0.85
_PROBE = 2  # images of the program that is analysed


def free_bytes(device: jax.Device | None = None) -> int | None:
    """Memory that JAX may still take on a device; None where the device does not say, as CPUs.

    Args:
        device: this process's first when None.
    """
    stats = (device or jax.local_devices()[0]).memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def bytes_per_image(
    pipeline: ReconstructionPipeline,
    sampling: Sampling,
    num_rois: int | None = None,
    reduction: Reduction = DEFAULT_REDUCTION,
) -> int | None:
    """What one image takes on a device beside the weights, by the compiled program's own analysis.

    The program is compiled for two images, on one device, and not run. What of its memory does not
    grow with the images is counted as if it did, so the estimate is too high rather than too low.

    Args:
        pipeline: whose networks sample.
        sampling: the steps, and whether they are guided.
        num_rois: of the image view; None for sampling without views.
        reduction: of the views.

    Returns:
        Bytes; None where XLA gives no analysis on this platform.
    """
    mesh, networks = pipeline.place(1)
    request = Request(
        jnp.zeros((_PROBE, pipeline.num_vertices)),
        jnp.zeros(_PROBE, jnp.int32),
        jax.random.key(0),
        jnp.float32(sampling.guidance_scale) if sampling.is_guided else None,
    )
    steps = Steps.of(sampling)
    if num_rois is None:
        numbers = jnp.zeros((_PROBE, 1), jnp.int32)
        lowered = sample_candidates.lower(
            networks, request, numbers, None, None, steps=steps, mesh=mesh
        )
    else:
        weights = jnp.zeros((num_rois, pipeline.adapter.config.num_tokens))
        lowered = sample_with_views.lower(
            networks,
            request,
            weights,
            jnp.int32(0),
            sampling=steps.sampling,
            reduction=reduction,
            layer_weighting="queries",
            shown=(),
            mesh=mesh,
        )
    found = lowered.compile().memory_analysis()
    if found is None:
        return None
    return int(found.temp_size_in_bytes + found.output_size_in_bytes) // _PROBE


def images_that_fit(per_image: int, free: int) -> int:
    """How many images fit into the free memory, at least one: floor(0.85 free / per image).

    Args:
        per_image: bytes of one image, from `bytes_per_image`.
        free: bytes that are free, from `free_bytes`.

    Examples:
        >>> from neuroadapter_jax.pipeline.memory import images_that_fit
        >>> images_that_fit(per_image=2**30, free=24 * 2**30)  # 1 GiB each, 24 GiB free
        20
    """
    return max(1, int(SHARE * free) // max(1, per_image))
