"""All scores of reconstructions in the simulated data, in one JSON-able dictionary."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.metrics.pixel_scores import pixel_scores
from neuroadapter_jax.metrics.recall import (
    chance_recall,
    permuted_recall,
    semantic_counts,
)
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.simulation.scenes import OBJECTS, Scene


def _pixel_intervals(values: dict[str, Float[np.ndarray, " b"]], seed: int) -> dict[str, Any]:
    scores: dict[str, Any] = {name: bootstrap_interval(x, seed) for name, x in values.items()}
    scores["two_way_pixels"]["chance"] = 0.5
    return scores


def _semantic_scores(
    read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"], seed: int
) -> dict[str, Any]:
    hits, shown, claimed = semantic_counts(read, truth)
    null = np.quantile(permuted_recall(read, truth, seed), [0.005, 0.995])
    return {
        "semantic_recall": bootstrap_ratio(hits, shown, seed)
        | {"chance": chance_recall(read, truth), "chance_interval_99": null.tolist()},
        "semantic_precision": bootstrap_ratio(hits, claimed, seed),
        "objects_read": int(claimed.sum()),
    }


def _object_scores(
    named: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"], seed: int
) -> dict[str, Any]:
    hits, shown, _ = semantic_counts(named, truth)
    return {"object_identity": bootstrap_ratio(hits, shown, seed) | {"chance": 1 / len(OBJECTS)}}


def evaluate_simulated(
    reconstructions: UInt8[np.ndarray, "b y x c"],
    images: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    reader: SceneReader,
    *,
    category_names: Sequence[str],
    scenes: Sequence[Scene] | None = None,
    readout: Int[np.ndarray, "b slot"] | None = None,
    object_readout: Int[np.ndarray, "b slot"] | None = None,
    permuted_reconstructions: UInt8[np.ndarray, "b y x c"] | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, Real[np.ndarray, " b"]]]:
    """Scores one reconstruction per test image of the simulated data.

    Every score is ``{"value", "interval"}`` with a 95 % bootstrap interval over images.

    * ``two_way_pixels``: identification by pixel correlation (MindEye's orientation).
    * ``pixel_correlation``, ``ssim``: of each reconstruction with its stimulus.
    * ``semantic_recall``: share of the objects shown that the scene reader reads, with the right
      category, at their slot of the reconstruction; with its exact chance under permuted
      readings and the central 99 % of that null distribution. ``semantic_precision``: share of
      the objects it reads that were shown so. ``recall_by_category``: the recall by true category.
    * ``reader_on_stimuli``: the same two for the stimuli themselves, the reader's own limit.
    * ``object_identity``: share of the objects shown that are the one, of all 48, that their
      square of the reconstruction resembles most (see ``identify_objects``); chance 1/48.
    * ``linear_readout``: both scores for readings straight from the responses;
      ``recall_relative_to_readout``: hits in the reconstructions over hits of the readout.
    * ``permuted_responses``: the scores of reconstructions from permuted responses, and
      ``at_chance``: identification within 5 points of 50 %, recall inside its own 99 % null.

    Args:
        reconstructions: reconstructions, 0..255, one per stimulus.
        images: stimuli, 0..255, same order.
        categories: true category per slot, -1 for empty.
        reader: the scene reader.
        category_names: name of each category index.
        scenes: what the stimuli show; without them objects are not identified.
        readout: category per slot read from the same responses by the linear readout.
        object_readout: index into `scenes.OBJECTS` per slot, read from the same responses;
            needs `scenes` and `readout`.
        permuted_reconstructions: reconstructions from the responses permuted across images (see
            ``recall.derangement``), still in the stimuli's order.
        seed: seed of resampling and permutations.

    Returns:
        The scores, made of dict, list, str, int, float and None only; and, of the reconstructions,
        one value per image: pixel scores at the images' own size, and how many objects are shown,
        read rightly and identified.

    Raises:
        InputError: if shapes, dtypes or counts do not fit together.
    """
    objects = None if scenes is None else objects_shown(scenes)

    def identified(images: UInt8[np.ndarray, "b y x c"]) -> dict[str, Any]:
        if scenes is None or objects is None:
            return {}
        return _object_scores(identify_objects(images, scenes), objects, seed)

    read, pixels = read_scenes(reader, reconstructions), pixel_scores(images, reconstructions)
    hits, shown, _ = semantic_counts(read, categories)
    per_image = {
        "two_way_pixels": pixels["two_way_pixels"],
        "pixel_correlation_own_size": pixels["pixel_correlation"],
        "ssim_own_size": pixels["ssim"],
        "objects_shown": shown,
        "objects_read_rightly": hits,
    }
    named: dict[str, Any] = {}
    if scenes is not None and objects is not None:
        names = identify_objects(reconstructions, scenes)
        named = _object_scores(names, objects, seed)
        per_image["objects_identified"] = semantic_counts(names, objects)[0]
    result = {
        "num_images": len(images),
        "num_objects": int(shown.sum()),
        "identification_orientation": "columns",
        **_pixel_intervals(pixels, seed),
        **_semantic_scores(read, categories, seed),
        **named,
        "recall_by_category": {
            name: bootstrap_ratio(
                ((read == index) & (categories == index)).sum(axis=1),
                (categories == index).sum(axis=1),
                seed,
            )
            for index, name in enumerate(category_names)
        },
        "reader_on_stimuli": _semantic_scores(read_scenes(reader, images), categories, seed)
        | identified(images),
    }
    if readout is not None:
        readout_hits, _, _ = semantic_counts(readout, categories)
        result["linear_readout"] = _semantic_scores(readout, categories, seed)
        if object_readout is not None and objects is not None:
            result["linear_readout"] |= _object_scores(object_readout, objects, seed)
        result["recall_relative_to_readout"] = bootstrap_ratio(hits, readout_hits, seed)
    if permuted_reconstructions is not None:
        control = (
            _pixel_intervals(pixel_scores(images, permuted_reconstructions), seed)
            | _semantic_scores(read_scenes(reader, permuted_reconstructions), categories, seed)
            | identified(permuted_reconstructions)
        )
        low, high = control["semantic_recall"]["chance_interval_99"]
        control["at_chance"] = {
            "two_way_pixels": bool(abs(control["two_way_pixels"]["value"] - 0.5) <= 0.05),
            "semantic_recall": bool(low <= control["semantic_recall"]["value"] <= high),
        }
        result["permuted_responses"] = control
    return result, per_image
