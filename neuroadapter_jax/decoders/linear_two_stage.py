"""The linear two-stage baseline: ridge to latents and to conditioning states, then the backbone.

The family of Takagi and Nishimoto (2023, CVPR) and Brain-Diffuser (Ozcelik and VanRullen 2023,
arXiv 2303.05334): the same regions, backbone and sampler as NeuroAdapter's, but what conditions the
backbone is predicted linearly, and nothing is trained by denoising.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.decoders.captions import caption_states
from neuroadapter_jax.decoders.contract import BrainDecoder, NoiseKeys
from neuroadapter_jax.decoders.linear_map import LinearMap, fit_latents, fit_states
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.stream_decoder import Conditions, StreamDecoder, text_streams
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_tree
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

LINEAR = "linear"  # folder of the maps that several decoders share


class LinearTwoStage(StreamDecoder):
    """Reconstructs images from text states that are predicted linearly from responses.

    Guidance is the text-to-image model's: its other half has the empty prompt.

    Args:
        backbone: a text-to-image model.
        regions: the p regions whose vertices are read.
        states: from responses to the states [k, c] that the U-Net's cross-attention attends to.
        mean_response: the training images' mean response; zeros when None, which is the mean of
            responses that were z-scored.
        options: sampling, num_candidates and provenance, see `BrainDecoder`.
    """

    deviations: ClassVar[tuple[str, ...]] = (
        "Takagi and Nishimoto take one penalty for all outputs; here each output has the penalty "
        "with the least leave-one-out error.",
        "The latents and the sampler are those of NeuroAdapter.",
    )

    def __init__(
        self,
        backbone: Backbone,
        regions: Parcellation,
        states: LinearMap,
        mean_response: Float[np.ndarray, " n"] | None = None,
        **options: Any,
    ):
        if mean_response is None:
            mean_response = np.zeros(sum(regions.num_vertices), np.float32)
        super().__init__(backbone, regions, mean_response, **options)
        self.states, self.training_seconds = states, states.seconds
        self._empty = caption_states(backbone, [[""]], batch_size=1)

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "LinearTwoStage":
        """Fit the map to caption states, or load it; its folder is shared by all that use it.

        Args:
            material: with captions of every training image.
            out: not used: the map lies in the material's shared folder.
            settings: none.

        Raises:
            InputError: there are no captions, or the folder holds a map of something else.
        """
        if material.captions is None:
            raise InputError("The linear two-stage decoder needs captions of the training images.")
        folder, progress = material.shared / LINEAR, material.progress
        states = fit_states(
            material.prepared, material.pipeline, material.captions, folder, progress=progress
        )
        return cls(
            material.backbone,
            material.regions,
            states,
            material.mean_response,
            provenance={**material.fitted_on(), "fitted_on": len(states.image_ids)},
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        states = self.states
        return of_tree([self._params, states.weights, states.bias, states.vertices, self._empty])

    @property
    def num_parameters(self) -> int:
        return self.states.num_parameters

    def conditions(self, fmri: Float[np.ndarray, "b n"]) -> Conditions:
        return {"states": self.states(fmri)}

    def streams(
        self, modules: Mapping[str, Any], conditions: Mapping[str, Array]
    ) -> tuple[list[Stream], list[Stream]]:
        own, other = text_streams(modules["unet"], conditions["states"], jnp.asarray(self._empty))
        return [own], [other]


class LinearLatents(BrainDecoder):
    """The images of latents that are predicted linearly; nothing is denoised.

    Args:
        pipeline: whose autoencoder decodes.
        latents: from responses to scaled latents.
        mean_response: see `BrainDecoder`.
        options: sampling, num_candidates and provenance, see `BrainDecoder`.
    """

    uses_start: ClassVar[bool] = False

    def __init__(
        self,
        pipeline: NeuroAdapterPipeline,
        latents: LinearMap,
        mean_response: Float[np.ndarray, " n"],
        **options: Any,
    ):
        super().__init__(pipeline.regions, mean_response, **options)
        self.pipeline, self.latents = pipeline, latents
        self.training_seconds = latents.seconds

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "LinearLatents":
        """Fit the map to latents, or load it; its folder is shared by all that use it.

        Args:
            material: what is fitted on.
            out: not used: the map lies in the material's shared folder.
            settings: none.

        Raises:
            InputError: the folder holds a map of something else.
        """
        folder, pipeline = material.shared / LINEAR, material.pipeline
        latents = fit_latents(material.prepared, pipeline, folder, progress=material.progress)
        return cls(pipeline, latents, material.mean_response, provenance=material.fitted_on())

    @property
    def fingerprint(self) -> Any:
        latents = self.latents
        parts = of_tree([latents.weights, latents.bias, latents.vertices])
        return {"latents": parts, "vae": self.pipeline.fingerprint["vae"]}

    @property
    def num_parameters(self) -> int:
        return self.latents.num_parameters

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> np.ndarray:
        return repeated(self.pipeline.decode(self.latents(fmri)), keys.num_candidates)


def repeated(images: np.ndarray, count: int) -> np.ndarray:
    """[b, y, x, c] -> [b, count, y, x, c], all candidates of a response being the same."""
    return np.repeat(images[:, None], count, axis=1)
