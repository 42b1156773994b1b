"""Decoders that condition a frozen U-Net by streams which they predict from responses."""

import abc
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, UInt8

from neuroadapter_jax.adapter.guidance import clean_start, sample_latents_from_streams
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.decoders.contract import BrainDecoder, NoiseKeys
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.images import to_uint8
from neuroadapter_jax.diffusion.samplers import plan, skipped_steps, without_first
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.fingerprints import of_tree
from neuroadapter_jax.pipeline import LowLevelStart, checks
from neuroadapter_jax.sharding import ROWS, make_mesh, replicate

Conditions = Mapping[str, np.ndarray]


class StreamDecoder(BrainDecoder):
    """A decoder whose predictions a frozen U-Net attends to, with classifier-free guidance.

    A subclass says what it predicts of responses (`conditions`) and how the U-Net sees that
    (`streams`). Candidate j of sample i starts from the same noise as NeuroAdapter's.

    Args:
        backbone: a text-to-image model.
        regions: the p regions whose vertices are read.
        mean_response: see `BrainDecoder`.
        frozen: modules that `streams` needs beside the U-Net, by name.
        options: sampling, num_candidates and provenance, see `BrainDecoder`.
    """

    def __init__(
        self,
        backbone: Backbone,
        regions: Parcellation,
        mean_response: Float[np.ndarray, " n"],
        *,
        frozen: Mapping[str, nnx.Module] | None = None,
        **options: Any,
    ):
        super().__init__(regions, mean_response, **options)
        self.backbone = backbone
        modules = {"unet": backbone.unet, "vae": backbone.vae, **(frozen or {})}
        self._graphs = {name: nnx.graphdef(module) for name, module in modules.items()}
        self._params = {name: nnx.state(module) for name, module in modules.items()}
        static = ("sampling", "skipped")
        self._sample_jitted = jax.jit(self._sample, static_argnames=static)

    @abc.abstractmethod
    def conditions(self, fmri: Float[np.ndarray, "b n"]) -> Conditions:
        """What is predicted of responses, as arrays by name of which each has b rows."""

    @abc.abstractmethod
    def streams(
        self, modules: Mapping[str, Any], conditions: Mapping[str, Array]
    ) -> tuple[list[Stream], list[Stream]]:
        """The samples' streams, and those of the unconditional half; traced by jit.

        Args:
            modules: "unet", "vae" and what `frozen` named.
            conditions: of `conditions`, a row per sample.
        """

    def own_start(
        self, fmri: Float[np.ndarray, "b n"], strength: float | None
    ) -> LowLevelStart | None:
        """Where sampling begins if no start is given; None for pure noise.

        Args:
            fmri: responses.
            strength: that of the call; the decoder's own when None.
        """
        return None

    @functools.cached_property
    def frozen_fingerprint(self) -> str:
        """Of every network that is not fitted."""
        text = nnx.state(self.backbone.text_encoder, nnx.Param)
        return of_tree([self._params, text])

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        if start is None:
            low_level = self.own_start(fmri, strength)
        else:
            low_level = LowLevelStart(start, 1.0 if strength is None else strength)
        return self.sample(self.conditions(fmri), keys, sampling, low_level)

    def sample(
        self,
        conditions: Conditions,
        keys: NoiseKeys,
        sampling: Sampling | None = None,
        low_level: LowLevelStart | None = None,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images of conditions, predicted or true.

        Args:
            conditions: arrays by name as `conditions` gives them, b rows each.
            keys: which noise each image starts from.
            sampling: settings of the sampler; the decoder's own when None.
            low_level: where sampling begins.

        Raises:
            NotFiniteError: the sampler ended in latents that are no image's.
        """
        sampling, size = sampling or self.sampling, len(keys.sample_ids)
        latents = checks.starting_latents(low_level, size, self.backbone.unet.config)
        skipped = 0 if low_level is None else skipped_steps(sampling.num_steps, low_level.strength)
        count = keys.num_candidates
        found = {k: np.repeat(v, count, axis=0) for k, v in conditions.items()}
        per_image: dict[str, Any] = {"conditions": found, "keys": keys.arrays()}
        if latents is not None and skipped:
            per_image["low_level"] = np.repeat(np.asarray(latents), count, axis=0)
        devices = jax.local_devices()
        mesh = make_mesh(devices=devices[: math.gcd(count * size, len(devices))])
        scale = jnp.float32(sampling.guidance_scale) if sampling.is_guided else None
        images, sampled = self._sample_jitted(
            replicate(self._params, mesh),
            scale,
            jax.device_put(per_image, NamedSharding(mesh, ROWS)),
            # The scale is an argument, so that another one needs no other program.
            sampling=sampling.replace(guidance_scale=1.0),
            skipped=skipped,
        )
        checks.usable_latents(np.asarray(sampled).reshape(size, -1))
        return np.asarray(images).reshape(size, count, *images.shape[1:])

    def _sample(
        self, params, guidance_scale, per_image, *, sampling: Sampling, skipped: int
    ) -> tuple[UInt8[Array, "b _y _x _c"], Float[Array, "b y x c"]]:
        schedule = self.backbone.schedule
        modules = {name: nnx.merge(graph, params[name]) for name, graph in self._graphs.items()}
        unet, vae = modules["unet"], modules["vae"]
        streams, unconditional = self.streams(modules, per_image["conditions"])
        clean = per_image.get("low_level")
        if clean is None:
            clean = clean_start(vae, sampling.start, unet.config.sample_size)
        latents = sample_latents_from_streams(
            unet,
            streams,
            unconditional,
            per_image["keys"],
            without_first(plan(schedule, sampling), skipped),
            guidance_scale,
            schedule.prediction_type,
            clean=clean,
        )
        return to_uint8(vae.decode(latents / vae.config.scaling_factor)), latents


def text_streams(
    unet: UNet2DConditionModel,
    states: Float[Array, "b k c"],
    empty: Float[Array, "1 k c"],
    scale: float = 1.0,
) -> tuple[Stream, Stream]:
    """The streams of text states, and of the empty prompt's in the unconditional half.

    Args:
        unet: whose key and value matrices are used.
        states: of the samples.
        empty: of the empty prompt.
        scale: weight of the text's attention output.
    """
    own, other = unet.text_context(states), unet.text_context(empty)
    return own._replace(scale=scale), other._replace(scale=scale)
