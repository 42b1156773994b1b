"""The linear two-stage baseline: ridge to latents and to conditioning states, then the backbone.

The family of Takagi and Nishimoto (2023, CVPR) and Brain-Diffuser (Ozcelik and VanRullen 2023,
arXiv 2303.05334): the same regions, backbone and sampler as NeuroAdapter's, but what conditions the
backbone is predicted linearly, and nothing is trained by denoising.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from neuroadapter_jax.adapter.guidance import clean_start, sample_latents_from_text
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.decoders.captions import caption_states
from neuroadapter_jax.decoders.linear_map import LinearMap
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan, skipped_steps, without_first
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.fingerprints import of_tree
from neuroadapter_jax.pipeline import LowLevelStart, checks
from neuroadapter_jax.pipeline.networks import as_sample_ids
from neuroadapter_jax.ranges import Count, Seed, check
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate


class LinearTwoStage:
    """Reconstructs images from states that are predicted linearly from responses.

    It is a `Decoder`, called as `NeuroAdapterPipeline` is; candidate j of sample i starts from the
    same noise in both. Guidance is the text-to-image model's: its other half has the empty prompt.

    Args:
        backbone: a text-to-image model.
        regions: the p regions whose vertices are read.
        states: from responses to the states [k, c] that the U-Net's cross-attention attends to.
        sampling: used unless a call gives other settings.
        num_candidates: images per response unless a call names another number.
        provenance: what it was fitted on.
    """

    def __init__(
        self,
        backbone: Backbone,
        regions: Parcellation,
        states: LinearMap,
        *,
        sampling: Sampling | None = None,
        num_candidates: int = 1,
        provenance: dict[str, Any] | None = None,
    ):
        self.backbone, self.regions, self.states = backbone, regions, states
        self.sampling = sampling or Sampling()
        self.num_candidates = num_candidates
        self.provenance = provenance or {}
        self._empty = caption_states(backbone, [[""]], batch_size=1)
        self._graph, self._params = nnx.split((backbone.unet, backbone.vae))
        static = ("sampling", "skipped")
        self._reconstruct_jitted = jax.jit(self._reconstruct, static_argnames=static)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of all that the images are computed with but the responses and the settings."""
        parts = (self._params, nnx.state(self.backbone.text_encoder, nnx.Param))
        return of_tree([parts, self.states.weights, self.states.bias, self.states.vertices])

    def __call__(
        self,
        fmri: Float[np.ndarray, "b n"],
        sampling: Sampling | None = None,
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        low_level: LowLevelStart | None = None,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images for a batch of responses.

        Args:
            fmri: responses of the whole cortex, left then right hemisphere.
            sampling: settings of the sampler; the decoder's own when None.
            num_candidates: s, images per response; the decoder's own when None.
            seed: of the noise.
            sample_ids: numbers that name the samples' noise; 0 ... b - 1 when None.
            low_level: latents that the sampler starts from, one per response.

        Raises:
            InputError: what `NeuroAdapterPipeline.__call__` refuses.
        """
        check("seed", seed, Seed)
        check("num_candidates", num_candidates, Count | None)
        fmri = np.asarray(checks.whole_cortex(fmri, sum(self.regions.num_vertices)))
        start = checks.starting_latents(low_level, len(fmri), self.backbone.unet.config)
        sampling = sampling or self.sampling
        count = num_candidates or self.num_candidates
        ids = np.asarray(as_sample_ids(sample_ids, len(fmri)))
        skipped = 0 if low_level is None else skipped_steps(sampling.num_steps, low_level.strength)
        per_image = {
            "states": np.repeat(self.states(fmri), count, axis=0),
            "ids": np.repeat(ids, count),
            "numbers": np.tile(np.arange(count, dtype=np.int32), len(fmri)),
        }
        if start is not None and skipped:
            per_image["low_level"] = np.repeat(np.asarray(start), count, axis=0)
        devices = jax.local_devices()
        mesh = make_mesh(devices=devices[: math.gcd(count * len(fmri), len(devices))])
        scale = jnp.float32(sampling.guidance_scale) if sampling.is_guided else None
        images, latents = self._reconstruct_jitted(
            replicate(self._params, mesh),
            self._empty,
            jax.random.key(seed),
            scale,
            jax.device_put(per_image, NamedSharding(mesh, ROWS)),
            # The scale is an argument, so that another one needs no other program.
            sampling=sampling.replace(guidance_scale=1.0),
            skipped=skipped,
        )
        checks.usable_latents(np.asarray(latents).reshape(len(fmri), -1))
        return np.asarray(images).reshape(len(fmri), count, *images.shape[1:])

    def _reconstruct(
        self, params, empty, key, guidance_scale, per_image, *, sampling: Sampling, skipped: int
    ) -> tuple[UInt8[Array, "b _y _x _c"], Float[Array, "b y x c"]]:
        schedule = self.backbone.schedule
        unet, vae = nnx.merge(self._graph, params)
        keys = jax.vmap(lambda i, j: jax.random.fold_in(jax.random.fold_in(key, i), j))(
            per_image["ids"], per_image["numbers"]
        )
        clean = per_image.get("low_level")
        if clean is None:
            clean = clean_start(vae, sampling.start, unet.config.sample_size)
        latents = sample_latents_from_text(
            unet,
            unet.text_context(per_image["states"]),
            unet.text_context(empty),
            keys,
            without_first(plan(schedule, sampling), skipped),
            guidance_scale,
            schedule.prediction_type,
            clean=clean,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor)), latents
