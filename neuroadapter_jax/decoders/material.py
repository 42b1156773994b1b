"""What all decoders of a comparison are fitted on."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from neuroadapter_jax.adapter.image_adapter import ImageAdapter
from neuroadapter_jax.adapter.image_adapter_files import load_image_adapter
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder, as_kind
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.ranges import Seed
from neuroadapter_jax.training.image_features import compute_embedding


@dataclass(frozen=True, kw_only=True)
class Material:
    """What all decoders of a comparison are fitted on; they read training records only.

    Attributes:
        prepared: folder of prepared records.
        pipeline: NeuroAdapter, whose backbone and regions every decoder takes.
        shared: folder of what several decoders use, such as linear maps and image embeddings.
        encoder: a brain encoder of the same subject, for those that retrieve; None for none.
        captions: of the training images by id, for those that predict text; None for none.
        image_adapter: folder or shipped name of an image adapter, or a file in the layout of
            ip-adapter-plus_sd15, for those that predict image embeddings; None for none.
        image_encoder: folder of the image encoder, where the adapter does not name it.
        seed: of random weights and batches.
        progress: show bars.
    """

    prepared: Path
    pipeline: NeuroAdapterPipeline
    shared: Path
    encoder: BrainEncoder | None = None
    captions: Mapping[int, Sequence[str]] | None = None
    image_adapter: str | Path | None = None
    image_encoder: str | Path | None = None
    seed: Seed = 0
    progress: bool = True

    @property
    def backbone(self) -> Backbone:
        """The frozen text-to-image model."""
        return self.pipeline.backbone

    @property
    def regions(self) -> Parcellation:
        """The p regions whose vertices are read."""
        return self.pipeline.regions

    @functools.cached_property
    def train(self) -> PreparedDataset:
        """The training records."""
        return PreparedDataset(self.prepared, "train")

    @functools.cached_property
    def validation(self) -> PreparedDataset:
        """The validation records."""
        return PreparedDataset(self.prepared, "validation")

    @functools.cached_property
    def mean_response(self) -> Float[np.ndarray, " n"]:
        """The mean over training images of the whole cortex's response."""
        total = np.zeros(sum(self.train.num_vertices))
        for first in range(0, len(self.train), 256):
            rows = range(first, min(first + 256, len(self.train)))
            for row in rows:
                betas = self.train.read(row, ("betas",))["betas"]
                total += betas.mean(axis=0, dtype=np.float64)
        return (total / len(self.train)).astype(np.float32)

    @functools.cached_property
    def image_path(self) -> tuple[ImageAdapter, ImageEmbedder]:
        """The image adapter, and what gives the embedding that it reads.

        Raises:
            MissingFileError: one is not there.
            InputError: no adapter or no image encoder is named, or the encoder is another than the
                adapter was trained with.
        """
        if self.image_adapter is None:
            raise InputError("Image embeddings need an image adapter; give image_adapter.")
        stored = load_image_adapter(self.image_adapter, self.backbone.unet)
        name = self.image_encoder or stored.embedder
        if name is None:
            raise InputError(
                f"{self.image_adapter} does not say which image encoder it reads; give "
                "image_encoder, the folder of the CLIP that it was trained with."
            )
        embedder = ImageEmbedder.load(name, as_kind(stored.kind))
        if stored.embedder_fingerprint not in (None, embedder.fingerprint):
            raise InputError(
                f"{name} is another image encoder than the one that {self.image_adapter} was "
                "trained with; give that one."
            )
        width = stored.adapter.resampler.config.embedding_width
        if embedder.shape[1] != width:
            raise InputError(
                f"{name} gives embeddings of {embedder.shape[1]} channels, {self.image_adapter} "
                f"reads {width}; give the image encoder that it was trained with."
            )
        return stored.adapter, embedder

    @functools.cached_property
    def embedding(self) -> Float[np.ndarray, "i k c"]:
        """The training images' embedding, computed once and kept in the shared folder."""
        _, embedder = self.image_path
        path = self.shared / "embedding-train.npy"
        return compute_embedding(self.train, embedder, path, progress=self.progress)

    def fitted_on(self) -> dict[str, Any]:
        """A decoder's provenance: the records it was fitted on, as `made_for` compares them."""
        return {"fitted_on": len(self.train), "data": dict(self.train.origin.data)}
