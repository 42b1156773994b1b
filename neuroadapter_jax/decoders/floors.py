"""Two floors: a random training image, and the mean image. They do not look at the responses."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from neuroadapter_jax.decoders.contract import BrainDecoder, NoiseKeys
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.retrieval import Gallery, gallery_of_records
from neuroadapter_jax.diffusion.sampling import Sampling


def mean_image(gallery: Gallery, chunk: int = 256) -> UInt8[np.ndarray, "y x c"]:
    """The mean over all images of a gallery, rounded: the floor "the mean image".

    Args:
        gallery: the images.
        chunk: images read at once.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.decoders.floors import mean_image
        >>> from neuroadapter_jax.decoders.retrieval import Gallery
        >>> images = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (0, 100, 200)])
        >>> gallery = Gallery("greys", ("a", "b", "c"), read=lambda rows: images[rows])
        >>> mean_image(gallery)[0, 0].tolist()
        [100, 100, 100]
    """
    parts = np.array_split(np.arange(len(gallery)), -(-len(gallery) // chunk))
    total = sum(gallery.read(part).sum(axis=0, dtype=np.float64) for part in parts)
    return np.rint(total / len(gallery)).astype(np.uint8)


class _Floor(BrainDecoder):
    """Images of a gallery, whatever the responses are; `keep` changes nothing.

    Args:
        gallery: the images, of training.
        material: whose regions and mean response the decoder has.
    """

    uses_start: ClassVar[bool] = False

    def __init__(self, gallery: Gallery, material: Material):
        provenance = material.fitted_on()
        super().__init__(material.regions, material.mean_response, provenance=provenance)
        self.gallery, self.training_seconds = gallery, 0.0

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "_Floor":
        """Take the training images; nothing is written.

        Args:
            material: whose training images are taken.
            out: not used.
            settings: none.
        """
        return cls(gallery_of_records(material.train), material)

    @property
    def fingerprint(self) -> Any:
        return {"gallery": self.gallery.fingerprint}

    @property
    def num_parameters(self) -> int:
        return 0


class MeanImage(_Floor):
    """The floor "the mean training image" for every response.

    Args:
        gallery: the training images.
        material: whose regions and mean response the decoder has.
    """

    def __init__(self, gallery: Gallery, material: Material):
        super().__init__(gallery, material)
        self.image = mean_image(gallery)

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        shape = (len(fmri), keys.num_candidates, *self.image.shape)
        return np.broadcast_to(self.image, shape).copy()


class RandomImage(_Floor):
    """The floor "a random training image", named by the keys as noise is.

    Args:
        gallery: the training images.
        material: whose regions and mean response the decoder has.
    """

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        rows = [
            np.random.default_rng([keys.seed, int(i), j]).integers(len(self.gallery))
            for i in keys.sample_ids
            for j in range(keys.num_candidates)
        ]
        images = self.gallery.read(np.array(rows))
        return images.reshape(len(fmri), keys.num_candidates, *images.shape[1:])
