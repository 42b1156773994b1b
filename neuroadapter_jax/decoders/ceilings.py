"""Ceilings: what images would be if all that a decoder predicts were true."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.decoders.captions import caption_states
from neuroadapter_jax.decoders.contract import NoiseKeys
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.stream_decoder import Conditions, StreamDecoder, text_streams
from neuroadapter_jax.diffusion.attention import Stream
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.fingerprints import of_values

GUIDANCE_SCALE = 3.5


class TrueEmbedding(StreamDecoder):
    """Images from their own embedding, through the image adapter, with the empty prompt.

    It looks at no response: every decoder that predicts the embedding is read against it.

    Args:
        material: with an image adapter.
    """

    def __init__(self, material: Material):
        adapter, self.embedder = material.image_path
        super().__init__(
            material.backbone,
            material.regions,
            material.mean_response,
            frozen={"image_adapter": adapter},
        )
        self._no_image = self.embedder.of_no_image()
        self._empty = caption_states(material.backbone, [[""]], batch_size=1)

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "TrueEmbedding":
        """Nothing is fitted.

        Args:
            material: with an image adapter.
            out: not used.
            settings: none.
        """
        return cls(material)

    @property
    def fingerprint(self) -> str:
        return of_values([self.frozen_fingerprint, self.embedder.fingerprint])

    @property
    def num_parameters(self) -> int:
        return 0

    def conditions(self, fmri: Float[np.ndarray, "b n"]) -> Conditions:
        raise InputError("This ceiling takes images, no responses; call of_images.")

    def streams(
        self, modules: Mapping[str, Any], conditions: Mapping[str, Array]
    ) -> tuple[list[Stream], list[Stream]]:
        empty = jnp.asarray(self._empty)
        text, same = text_streams(modules["unet"], empty, empty)
        adapter = modules["image_adapter"]
        image, without = adapter(conditions["embedding"]), adapter(jnp.asarray(self._no_image))
        return [text, image], [same, without]

    def of_images(
        self,
        images: UInt8[np.ndarray, "b y x c"],
        sampling: Sampling,
        *,
        seed: int = 0,
        batch_size: int = 20,
    ) -> UInt8[np.ndarray, "b y x c"]:
        """Reconstructions of images from their embedding alone.

        Args:
            images: 0 to 255.
            sampling: settings of the sampler.
            seed: of the noise; image i has the noise of sample i.
            batch_size: images at once.
        """
        embedding = self.embedder(images)

        def sample(rows: np.ndarray) -> np.ndarray:
            keys = NoiseKeys(rows, seed)
            return self.sample({"embedding": embedding[rows]}, keys, sampling)[:, 0]

        return map_batches(sample, len(images), min(batch_size, len(images)))
