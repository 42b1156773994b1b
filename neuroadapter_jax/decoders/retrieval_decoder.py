"""Retrieval as a decoder: the training image whose predicted response fits the measured one."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, UInt8

from neuroadapter_jax.decoders.contract import BrainDecoder, NoiseKeys
from neuroadapter_jax.decoders.linear_two_stage import repeated
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.retrieval import Gallery, Leaders, gallery_of_records
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.ranking import pairwise_correlation
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.fingerprints import of_values
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_npz

_FILE, _CHUNK = "predicted.npz", 256


class RetrievalDecoder(BrainDecoder):
    """argmax_g r(encoder(g), fmri) over a gallery whose predicted responses are kept.

    See `retrieve`, which goes through a gallery of any size without keeping its predictions.

    Args:
        encoder: a brain encoder of the same subject.
        gallery: what is chosen from.
        predicted: the encoder's responses to the gallery, at the vertices that count.
        mask: which vertices of the cortex count.
        material: whose regions and mean response are taken.
    """

    uses_start: ClassVar[bool] = False

    def __init__(
        self,
        encoder: BrainEncoder,
        gallery: Gallery,
        predicted: Float[np.ndarray, "k f"],
        mask: Bool[np.ndarray, " n"],
        material: Material,
    ):
        provenance = material.fitted_on()
        super().__init__(material.regions, material.mean_response, provenance=provenance)
        self.encoder, self.gallery, self.predicted, self.mask = encoder, gallery, predicted, mask

    @classmethod
    def fit(cls, material: Material, out: Path, settings: Any = None) -> "RetrievalDecoder":
        """Predict the response to every image of the gallery, once.

        Args:
            material: with a brain encoder.
            out: gets predicted.npz.
            settings: the `Gallery`; the training images when None.

        Raises:
            InputError: there is no encoder, or the folder is of another gallery or encoder.
        """
        encoder = material.encoder
        if encoder is None:
            raise InputError("Retrieval needs a brain encoder of the subject; give encoder.")
        gallery = settings or gallery_of_records(material.train)
        mask = encoder.ranked_vertices(material.regions)
        of = of_values(
            [gallery.keys, gallery.fingerprint, encoder.fingerprint, np.flatnonzero(mask).tolist()]
        )
        path = Path(out) / _FILE
        if not path.is_file():
            write_npz(path, of=of, predicted=_predict(encoder, gallery, mask, material.progress))
        file = read_npz(
            path, "predicted responses", {"of": "U0", "predicted": "f2"}, f"delete {path}"
        )
        if str(file["of"]) != of:
            raise InputError(
                f"{path} is of another gallery, encoder or regions than those that are there now; "
                "name another folder or delete it."
            )
        return cls(encoder, gallery, file["predicted"], mask, material)

    @property
    def fingerprint(self) -> Any:
        return {"gallery": self.gallery.fingerprint, "encoder_weights": self.encoder.fingerprint}

    @property
    def num_parameters(self) -> int:
        return self.encoder.num_parameters

    def rows(self, fmri: Float[np.ndarray, "b n"]) -> np.ndarray:
        """The gallery's row for each response."""
        measured, leaders = fmri[:, self.mask], Leaders.of_none(len(fmri))
        for first in range(0, len(self.gallery), _CHUNK):
            part = np.arange(first, min(first + _CHUNK, len(self.gallery)))
            scores = np.array(pairwise_correlation(measured, self.predicted[part]))
            leaders = leaders.with_images(part, scores)
        return leaders.chosen().rows

    def _images(
        self,
        fmri: Float[np.ndarray, "b n"],
        keys: NoiseKeys,
        keep: Bool[np.ndarray, "b p"] | None,
        start: Float[np.ndarray, "b _y _x _c"] | None,
        strength: float | None,
        sampling: Sampling,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        return repeated(self.gallery.read(self.rows(fmri)), keys.num_candidates)


def _predict(
    encoder: BrainEncoder, gallery: Gallery, mask: Bool[np.ndarray, " n"], progress: bool
) -> Float[np.ndarray, "k f"]:
    parts = []
    with Bar(total=len(gallery), desc="Gallery", unit="image", disable=not progress) as bar:
        for first in range(0, len(gallery), _CHUNK):
            part = np.arange(first, min(first + _CHUNK, len(gallery)))
            parts.append(np.asarray(encoder.predict(gallery.read(part)))[:, mask])
            bar.update(len(part))
    return np.concatenate(parts).astype(np.float32)
