"""The test images of the ledger, and the scores of reconstructions image by image."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.evaluation.features import TINY_VIT
from neuroadapter_jax.evaluation.protocol import score_images
from neuroadapter_jax.evaluation.simulated_truth import SimulatedTruth
from neuroadapter_jax.metrics.pixel_scores import pixel_scores
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

BATCH = 20
# "found" over "shown" is a recall; the other scores are means over images.
SHOWN = "objects_shown"
LABELS = {
    "pixel_correlation": "pixel correlation",
    "ssim": "SSIM",
    "two_way_pixels": "two-way identification by pixels",
    "two_way_tiny_vit_pooled": "two-way identification by tiny-vit",
    "semantic_recall": "semantic recall",
    "object_identity": "object identity",
}
RECALLS = ("semantic_recall", "object_identity")
Scores = dict[str, Any]


@dataclass(frozen=True)
class TestImages:
    """Responses to the test images, what was shown, and what it shows.

    Attributes:
        fmri: repeats averaged.
        stimuli: what was shown.
        ids: 0-based, of the subject's root.
        truth: the scenes behind the stimuli.
    """

    __test__ = False  # pytest takes the name for a test's

    fmri: Float[np.ndarray, "b n"]
    stimuli: UInt8[np.ndarray, "b y x c"]
    ids: Int[np.ndarray, " b"]
    truth: SimulatedTruth

    @classmethod
    def read(
        cls, prepared: str | Path, split: str, root: str | Path, num_images: int | None
    ) -> "TestImages":
        """The first so many images of a split, in the order of their ids."""
        dataset = PreparedDataset(prepared, split)
        count = min(num_images or len(dataset), len(dataset))
        arrays = read_split(dataset, "betas", "image", "image_id", num_images=count)
        ids = np.asarray(arrays["image_id"]).astype(np.int64)
        fmri = arrays["betas"].astype(np.float32)
        return cls(fmri, arrays["image"], ids, SimulatedTruth.load(root, ids))

    def scores(self, images: UInt8[np.ndarray, "b y x c"]) -> dict[str, Float[np.ndarray, " b"]]:
        """One number per image of every score; recalls as objects found.

        Args:
            images: reconstructions, one per stimulus.
        """
        pixels = pixel_scores(self.stimuli, images)
        found = {name: np.asarray(pixels[name], float) for name in list(LABELS)[:3]}
        features = score_images(self.stimuli, images, networks=_networks(), progress=False)
        found["two_way_tiny_vit_pooled"] = features.per_image["two_way_tiny_vit_pooled"]
        for name, (hits, _) in self.truth.counts(images).items():
            found[name] = np.asarray(hits, float)
        return found

    @functools.cached_property
    def shown(self) -> Int[np.ndarray, " b"]:
        """Objects that each stimulus shows."""
        return (self.truth.categories >= 0).sum(axis=1)


@functools.cache
def _networks() -> tuple:
    return (TINY_VIT,)


def reconstruct(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    sampling: Sampling,
    num_candidates: int = 1,
    seed: int = 0,
    **options: Any,
) -> UInt8[np.ndarray, "b s y x c"]:
    """All candidates of all responses, in batches; image i's noise does not depend on the batch.

    Args:
        pipeline: the model.
        fmri: responses.
        sampling: settings of the sampler.
        num_candidates: images per response.
        seed: of the noise.
        options: of the pipeline's call; arrays have a row per response.
    """
    found = []
    for rows, valid in filled_batches(len(fmri), min(BATCH, len(fmri))):
        own = {name: _rows(value, rows) for name, value in options.items()}
        images = pipeline(
            fmri[rows], sampling, num_candidates=num_candidates, seed=seed, sample_ids=rows, **own
        )
        found.append(images[:valid])
    return np.concatenate(found)


def _rows(value: Any, rows: Int[np.ndarray, " b"]) -> Any:
    if hasattr(value, "_replace"):  # a low-level start
        return value._replace(latents=value.latents[rows])
    return value[rows]


def rank(
    encoder: BrainEncoder,
    pipeline: NeuroAdapterPipeline,
    candidates: UInt8[np.ndarray, "b s y x c"],
    test: TestImages,
) -> Float[np.ndarray, "b s"]:
    """How well each candidate's predicted response fits the measured one."""
    found = []
    for rows, valid in filled_batches(len(candidates), min(BATCH, len(candidates))):
        scores = encoder.rank(candidates[rows], test.fmri[rows], pipeline.regions)
        found.append(np.asarray(scores)[:valid])
    return np.concatenate(found)


def of_all(
    scores: Mapping[str, Float[np.ndarray, " b"]],
) -> dict[str, list[float]]:
    """Scores as JSON holds them."""
    return {name: np.asarray(values, float).tolist() for name, values in scores.items()}
