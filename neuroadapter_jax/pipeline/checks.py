"""What the pipeline refuses, each with a sentence: found, expected, what to do."""

import warnings
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapterConfig
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.unet import UNetConfig
from neuroadapter_jax.errors import InputError, NotFiniteError
from neuroadapter_jax.finite import finite_rows
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart

# z-scores stay below 200 in any of the field's data sets, stored betas below 32,768.
_LARGEST_RESPONSE = 1e6
# The spread of z-scored responses over vertices: 0.5 to 1, whether of one trial or of an average.
_USUAL_SPREAD = (0.02, 10.0)
# Scaled latents of images are below 100; beyond this the autoencoder's float32 overflows.
_LARGEST_LATENT = 1e15


class NotFiniteLatentsError(NotFiniteError):
    """The sampler ended in latents that are no image's; the pictures would be black or noise.

    Args:
        samples: which, as indices into the responses of the call.
        names: what to call them in the message; samples by their index when None.
    """

    def __init__(self, samples: Int[np.ndarray, " k"], names: Sequence[object] | None = None):
        named = [f"sample {i}" for i in samples] if names is None else [f"image {i}" for i in names]
        more = f" and {len(named) - 3} others" if len(named) > 3 else ""
        super().__init__(
            f"{', '.join(named[:3])}{more}: the sampled latents are NaN, infinite or beyond "
            f"{_LARGEST_LATENT:g}, so there is no image; look at the guidance scale, the size of "
            "the responses and the weights."
        )
        self.samples = samples


def usable_latents(latents: Float[np.ndarray | Array, "b ..."]) -> None:
    """Refuse sampled latents that no image has.

    Raises:
        NotFiniteLatentsError: a sample's latents are not finite, or too large to be decoded.
    """
    found = np.asarray(latents)
    with np.errstate(invalid="ignore"):
        small = (np.abs(found) < _LARGEST_LATENT).all(axis=tuple(range(1, found.ndim)))
    if not small.all():
        raise NotFiniteLatentsError(np.flatnonzero(~small))


def finite_result(result: Shaped[np.ndarray, "b ..."], what: str) -> Shaped[np.ndarray, "b ..."]:
    """A result of the networks, unless it is NaN or infinite.

    Raises:
        NotFiniteError: so it is.
    """
    bad = np.flatnonzero(~finite_rows(np.asarray(result)))
    if len(bad):
        raise NotFiniteError(
            f"{what} of sample {bad[0]} is NaN or infinite, and of {len(bad) - 1} others; look at "
            "the size of the responses, the latents and the weights."
        )
    return result


def whole_cortex(fmri: np.ndarray | Array, num_vertices: int) -> Float[Array, "b n"]:
    """Responses of all vertices of both hemispheres as float32.

    Raises:
        InputError: another number of vertices, no sample, integers, or values that are not finite
            or far beyond any response.
    """
    fmri = np.asarray(fmri)
    if fmri.ndim != 2 or fmri.shape[1] != num_vertices:
        raise InputError(
            f"fmri has shape {fmri.shape}; expected [samples, {num_vertices}], all "
            "vertices of the left, then of the right hemisphere."
        )
    return _finite(fmri)


def packed_responses(
    fmri: np.ndarray | Array, num_regions: int, num_slots: int
) -> Float[Array, "b p v"]:
    """Responses by region as float32.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    expected = (len(fmri), num_regions, num_slots)
    if np.shape(fmri) != expected:
        raise InputError(f"fmri has shape {np.shape(fmri)}; expected {expected}, packed.")
    return _finite(fmri)


def _finite(fmri: np.ndarray | Array) -> Float[Array, "b ..."]:
    fmri = np.asarray(fmri)
    if not len(fmri):
        raise InputError("fmri holds no sample; expected the responses of at least one.")
    if not jnp.issubdtype(fmri.dtype, jnp.floating):
        raise InputError(
            f"fmri is {fmri.dtype}; expected floats, normalised as in training: stored betas are "
            "percent signal change times 300, so z-score them per vertex and session, as "
            "`neuroadapter prepare` does."
        )
    if not np.isfinite(fmri).all():
        bad = int((~np.isfinite(fmri)).any(axis=0).sum())
        raise InputError(
            f"fmri, the responses, has NaN or infinite values at {bad} vertices; expected finite "
            "numbers, so put another in their place, such as 0, the mean of z-scored responses."
        )
    if (largest := float(np.abs(fmri).max(initial=0))) > _LARGEST_RESPONSE:
        raise NotFiniteError(
            f"fmri holds values up to {largest:.3g}, with which the networks overflow; expected "
            "responses normalised as in training, z-scores of a few units."
        )
    # Over what is not 0, since vertices without data are; in float64, since float16 overflows.
    spread = float(np.std(fmri[fmri != 0], dtype=np.float64)) if fmri.any() else 0.0
    smallest, greatest = _USUAL_SPREAD
    if spread and not smallest <= spread <= greatest:
        warnings.warn(
            f"fmri has a standard deviation of {spread:.3g}; responses z-scored per vertex, which "
            "models are trained on, have about 1. If yours are percent signal change or stored "
            "betas, z-score them over the trials of a session, as `neuroadapter prepare` does.",
            stacklevel=4,
        )
    return jnp.asarray(fmri, jnp.float32)


def token_mask(keep: np.ndarray | None, size: int, num_tokens: int) -> Bool[Array, "b k"] | None:
    """Which tokens stay, for each response.

    Raises:
        InputError: another shape, or something else than booleans.
    """
    expected = (size, num_tokens)
    if keep is not None and np.shape(keep) != expected:
        raise InputError(
            f"keep has shape {np.shape(keep)}; expected {expected}, one entry per token."
        )
    return None if keep is None else jnp.asarray(_booleans("keep", keep))


def _booleans(key: str, mask: np.ndarray) -> Bool[np.ndarray, "..."]:
    """A mask, unless it may be a list of indices."""
    mask = np.asarray(mask)
    if mask.dtype != np.bool_:
        raise InputError(
            f"{key} is {mask.dtype}; expected booleans, an entry per token, which of indices "
            "np.isin(np.arange(num_tokens), indices) makes."
        )
    return mask


def region_set_masks(region_sets: np.ndarray, num_tokens: int) -> Bool[Array, "r k"]:
    """The members of sets of regions.

    Raises:
        InputError: sets of another number of regions, or something else than booleans.
    """
    if np.ndim(region_sets) != 2 or np.shape(region_sets)[1] != num_tokens:
        raise InputError(
            f"region_sets have shape {np.shape(region_sets)}; expected [sets, {num_tokens}], an "
            "entry per token."
        )
    return jnp.asarray(_booleans("region_sets", region_sets))


def starting_latents(
    low_level: LowLevelStart | None, size: int, config: UNetConfig
) -> Float[Array, "b y x c"] | None:
    """The latents that sampling begins from; None where there are none, or strength is 1.

    Raises:
        InputError: another shape, or values that are not finite.
    """
    if low_level is None:
        return None
    expected = (size, config.sample_size, config.sample_size, config.in_channels)
    if np.shape(low_level.latents) != expected:
        raise InputError(
            f"low_level.latents has shape {np.shape(low_level.latents)}; expected {expected}, the "
            "scaled latents of each response."
        )
    if not np.isfinite(low_level.latents).all():
        raise InputError(
            "low_level.latents has NaN or infinite values; expected finite numbers, so look at "
            "what they were predicted from."
        )
    return jnp.asarray(low_level.latents, jnp.float32) if low_level.strength < 1.0 else None


def noisy_latents(latents: np.ndarray | Array, size: int, config: UNetConfig) -> Array:
    """Latents with channels first, [b, c, y, x], as float32.

    Raises:
        InputError: they do not fit the responses or the U-Net, or are not finite.
    """
    multiple = 2 ** (len(config.block_out_channels) - 1)
    if (
        np.ndim(latents) != 4
        or latents.shape[:2] != (size, config.in_channels)
        or any(side % multiple for side in latents.shape[2:])
    ):
        raise InputError(
            f"latents have shape {np.shape(latents)}; expected [{size}, {config.in_channels}, "
            f"rows, columns], rows and columns multiples of {multiple}."
        )
    finite_result(np.asarray(latents), "latents")
    return jnp.asarray(latents, jnp.float32)


def viewable(
    roi_weights: np.ndarray | Array,
    shown: Sequence[int],
    num_steps: int,
    config: NeuroAdapterConfig,
) -> Float[Array, "r p"]:
    """The weights of ROIs over the model's regions as float32.

    Raises:
        InputError: weights of another number of regions or that are not finite, steps out of
            range, or tokens that are learned queries, which stand for no region.
    """
    if config.token_queries is not None:
        raise InputError(
            "This model's tokens are learned queries over all regions; the views need one "
            "token per region (token_queries=None)."
        )
    if np.ndim(roi_weights) != 2 or np.shape(roi_weights)[1] != config.num_regions:
        raise InputError(
            f"roi_weights has shape {np.shape(roi_weights)}; expected [ROIs, "
            f"{config.num_regions}], a weight per region of the model."
        )
    if not np.isfinite(np.asarray(roi_weights)).all():
        raise NotFiniteError("roi_weights holds NaN or infinite weights; expected finite numbers.")
    if any(not 0 <= step < num_steps for step in shown):
        raise InputError(f"shown is {tuple(shown)}; expected steps from 0 to {num_steps - 1}.")
    return jnp.asarray(roi_weights, jnp.float32)


def require_same_surface(dataset: PreparedDataset, regions: Parcellation) -> None:
    """Refuses records of another surface than a model's regions.

    Raises:
        InputError: the numbers of vertices differ.
    """
    if dataset.num_vertices != regions.num_vertices:
        raise InputError(
            f"{dataset.path} has {dataset.num_vertices} vertices per hemisphere, the model's "
            f"regions {regions.num_vertices}; use records of the model's surface."
        )


def require_same_regions(dataset: PreparedDataset, regions: Parcellation) -> None:
    """Refuses records that bring other regions than the model's.

    Voxels of the same number may be others, so the regions themselves must be the same. Records of
    a surface bring none, and any parcellation of it will do.

    Raises:
        InputError: a region of the model is not among the records'.
    """
    if dataset.regions is None:
        return
    known = {
        (h, n): v
        for h, n, v in zip(
            dataset.regions.hemispheres,
            dataset.regions.names,
            dataset.regions.vertices,
            strict=True,
        )
    }
    for h, n, v in zip(regions.hemispheres, regions.names, regions.vertices, strict=True):
        if not np.array_equal(known.get((h, n), ()), v):
            raise InputError(
                f"{dataset.path} has no region {n!r} ({h}) of the features of the model's; use a "
                "model that was trained on the same subject's files."
            )
