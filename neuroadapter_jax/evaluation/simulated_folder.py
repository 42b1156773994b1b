"""Scores of reconstructions of the simulated subject, whose truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.evaluation.linear_readout import fit_linear_readout
from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
from neuroadapter_jax.evaluation.simulated import evaluate_simulated
from neuroadapter_jax.metrics.recall import semantic_counts
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.reconstruct import Reconstructions
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth


def score_simulated(
    reconstructions: Reconstructions,
    split: PreparedDataset,
    root: str | Path,
    *,
    model: str | Path | None = None,
    permuted: Reconstructions | None = None,
) -> tuple[dict[str, Any], dict[str, Real[np.ndarray, " b"]]]:
    """What `evaluate_simulated` says of the chosen candidates, and its values per image.

    Args:
        reconstructions: reconstructions of the split's images, in its order.
        split: prepared records of the simulated subject.
        root: the simulated subject's folder, with truth.npz.
        model: the pipeline's folder or name; a linear readout sees the same regions. None: no
            readout.
        permuted: drawn from permuted responses by the same model. None: no control.

    Raises:
        ValueError: an image to be scored is one of the training images that the readout sees.
    """
    truth, readouts = load_truth(root), {}
    if model is not None:
        train = PreparedDataset(split.path, "train")
        check_held_out(train.image_ids, split.image_ids)
        packing = NeuroAdapterPipeline.from_pretrained(model).packing
        responses, test_responses = _packed(train, packing), _packed(split, packing)

        def read_out(what: str, num: int, may_be_empty: bool) -> Int[np.ndarray, "b slot"]:
            readout = fit_linear_readout(responses, truth[what][train.image_ids], num)
            return readout.read(test_responses, may_be_empty=may_be_empty)

        readouts = {
            "readout": read_out("categories", len(truth["category_names"]), may_be_empty=True),
            "object_readout": read_out("objects", len(truth["object_names"]), may_be_empty=False),
        }
    scenes, categories = load_scenes(root, split.image_ids), truth["categories"][split.image_ids]
    return evaluate_simulated(
        reconstructions.best,
        reconstructions.stimuli,
        categories,
        load_scene_reader(),
        category_names=truth["category_names"].tolist(),
        scenes=scenes,
        permuted_reconstructions=None if permuted is None else permuted.best,
        **readouts,
    )


def check_held_out(train_ids: Int[np.ndarray, " _n"], test_ids: Int[np.ndarray, " b"]) -> None:
    """Checks that nothing is fitted on an image that it is then tested on.

    Raises:
        ValueError: the two share an image.
    """
    if len(shared := np.intersect1d(train_ids, test_ids)):
        raise ValueError(
            f"{len(shared)} of {len(test_ids)} images to be scored are training images, such as "
            f"image {shared[0]}; score images that nothing was fitted on."
        )


def candidates_objects(
    reconstructions: Reconstructions, root: str | Path
) -> dict[str, Float[np.ndarray, "b s"]]:
    """Share of a scene's things that each candidate shows: of the right category, and themselves.

    Args:
        reconstructions: reconstructions of the simulated subject's images.
        root: the subject's folder, with truth.npz.
    """
    truth, scenes = load_truth(root), load_scenes(root, reconstructions.image_ids)
    objects, reader = objects_shown(scenes), load_scene_reader()

    def share(read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]) -> np.ndarray:
        hits, shown, _ = semantic_counts(read, truth)
        return hits / np.maximum(shown, 1)

    columns = [np.ascontiguousarray(x) for x in np.moveaxis(reconstructions.reconstructions, 1, 0)]
    read = [
        share(read_scenes(reader, x), truth["categories"][reconstructions.image_ids])
        for x in columns
    ]
    named = [share(identify_objects(x, scenes), objects) for x in columns]
    return {"semantic_recall": np.stack(read, 1), "object_identity": np.stack(named, 1)}


def _packed(dataset: PreparedDataset, packing: Packing) -> Float[np.ndarray, "b p v"]:
    pieces = [
        np.asarray(pack(batch["betas"].astype(np.float32), packing))[: batch["num_valid"]]
        for batch in eval_batches(dataset, 50)
    ]
    return np.concatenate(pieces)
