"""Scores of one run of the ablation, image by image."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.errors import reading
from neuroadapter_jax.evaluation.features import NETWORKS, PUBLISHED_NETWORKS
from neuroadapter_jax.evaluation.old_names import NEW_NAMES
from neuroadapter_jax.evaluation.protocol import score_images
from neuroadapter_jax.evaluation.simulated_truth import SimulatedTruth
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.pipeline import Reconstructions
from neuroadapter_jax.readers import read_npz


class ImageScores(NamedTuple):
    """One reconstruction's scores per image; a score is sum_b points / sum_b out_of.

    Attributes:
        image_ids: one per image.
        points: score -> points of each image, such as objects found.
        out_of: score -> points that were available, such as objects shown; 1 for a mean.
        missing: metric -> why it is not there.
    """

    image_ids: Int[np.ndarray, " b"]
    points: dict[str, Float[np.ndarray, " b"]]
    out_of: dict[str, Float[np.ndarray, " b"]]
    missing: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write an npz file, whole or not at all."""
        arrays: dict[str, Any] = {"image_ids": self.image_ids}
        for part in ("points", "out_of", "missing"):
            values = getattr(self, part).items()
            arrays |= {f"{part}/{name}": np.asarray(value) for name, value in values}
        write_npz(path, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "ImageScores":
        """Read a file of `save`; one of version 0.1.0 comes with today's names."""
        parts: dict[str, dict[str, Any]] = {"points": {}, "out_of": {}, "missing": {}}
        arrays = read_npz(path, "scores of each image", {"image_ids": "iu1"}, f"delete {path}")
        with reading(path, "scores of each image", f"delete {path}"):
            for key, values in arrays.items():
                part, _, name = key.partition("/")
                name = NEW_NAMES.get(name, name)
                if name:
                    parts[part][name] = str(values) if part == "missing" else values
        return cls(arrays["image_ids"], **parts)


def score_choice(
    reconstructions: Reconstructions, simulated: str | Path | None = None
) -> ImageScores:
    """Scores of the chosen candidates: the field's metrics, and objects found.

    Args:
        reconstructions: a folder's reconstructions.
        simulated: the simulated subject's folder, with truth.npz: adds semantic recall and
            object identity, and metrics over the project's own small network. None
            for a real subject.
    """
    return _score(
        reconstructions.image_ids, reconstructions.stimuli, reconstructions.best, simulated
    )


def score_mean_candidate(
    reconstructions: Reconstructions, simulated: str | Path | None = None
) -> ImageScores:
    """What a candidate taken at random is expected to score: the mean over all of them.

    Args:
        reconstructions: with all candidates.
        simulated: see `score_choice`.
    """
    columns = [np.ascontiguousarray(x) for x in np.moveaxis(reconstructions.candidates, 1, 0)]
    scores = [
        _score(reconstructions.image_ids, reconstructions.stimuli, x, simulated) for x in columns
    ]
    means = {name: np.mean([x.points[name] for x in scores], axis=0) for name in scores[0].points}
    return scores[0]._replace(points=means)


def _score(
    image_ids: Int[np.ndarray, " b"],
    stimuli: UInt8[np.ndarray, "b y x c"],
    reconstructions: UInt8[np.ndarray, "b y x c"],
    simulated: str | Path | None,
) -> ImageScores:
    networks = PUBLISHED_NETWORKS if simulated is None else NETWORKS
    fields = score_images(stimuli, reconstructions, networks=networks, progress=False)
    points = dict(fields.per_image)
    out_of = {name: np.ones(len(image_ids)) for name in points}
    if simulated is not None:
        counts = SimulatedTruth.load(simulated, image_ids).counts(reconstructions)
        for name, (found, shown) in counts.items():
            points[name], out_of[name] = found.astype(float), shown.astype(float)
    return ImageScores(image_ids, points, out_of, fields.missing)
