"""Scores of reconstructions of the simulated subject, whose truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real

from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.linear_readout import fit_linear_readout
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader
from neuroadapter_jax.evaluation.simulated import evaluate_simulated
from neuroadapter_jax.evaluation.simulated_truth import SimulatedTruth
from neuroadapter_jax.pipeline import NeuroAdapterPipeline, Reconstructions
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
        model: the pipeline's folder or name; a linear readout reads the same regions. None: no
            readout.
        permuted: the same model's reconstructions from permuted responses. None: no control.

    Raises:
        InputError: the model was made for other data; or an image to be scored is one of the
            training images that the readout is fitted on.
    """
    truth = load_truth(root)
    readout: Int[np.ndarray, "b slot"] | None = None
    object_readout: Int[np.ndarray, "b slot"] | None = None
    if model is not None:
        train = PreparedDataset(split.path, "train")
        check_held_out(train.image_ids, split.image_ids)
        # Its regions alone are used, so that its backbone makes no difference.
        pipeline = NeuroAdapterPipeline.from_pretrained(model, allow_other=("backbone",))
        allowed = {k.partition(".")[0] for k in reconstructions.settings.get("other_data", {})}
        made_for(Origin.of("the model", pipeline.provenance), split.origin, allowed or None)
        packing = pipeline.packing
        responses, test_responses = _packed(train, packing), _packed(split, packing)

        def read_out(what: str, num: int, may_be_empty: bool) -> Int[np.ndarray, "b slot"]:
            fitted = fit_linear_readout(responses, truth[what][train.image_ids], num)
            return fitted.read(test_responses, may_be_empty=may_be_empty)

        readout = read_out("categories", len(truth["category_names"]), may_be_empty=True)
        object_readout = read_out("objects", len(truth["object_names"]), may_be_empty=False)
    return evaluate_simulated(
        reconstructions.best,
        reconstructions.stimuli,
        truth["categories"][split.image_ids],
        load_scene_reader(),
        category_names=truth["category_names"].tolist(),
        scenes=load_scenes(root, split.image_ids),
        permuted_reconstructions=None if permuted is None else permuted.best,
        readout=readout,
        object_readout=object_readout,
    )


def check_held_out(train_ids: Int[np.ndarray, " _n"], test_ids: Int[np.ndarray, " b"]) -> None:
    """Checks that nothing is fitted on an image that it is then tested on.

    Raises:
        InputError: the two share an image.
    """
    if len(shared := np.intersect1d(train_ids, test_ids)):
        raise InputError(
            f"{len(shared)} of {len(test_ids)} images to be scored are training images, such as "
            f"image {shared[0]}; score images that nothing was fitted on."
        )


def candidates_objects(
    reconstructions: Reconstructions, root: str | Path
) -> dict[str, Float[np.ndarray, "b s"]]:
    """Share of a scene's objects that each candidate shows: by category, and by identity.

    Args:
        reconstructions: reconstructions of the simulated subject's images.
        root: the subject's folder, with truth.npz.
    """
    truth = SimulatedTruth.load(root, reconstructions.image_ids)
    columns = [
        truth.counts(np.ascontiguousarray(x)) for x in np.moveaxis(reconstructions.candidates, 1, 0)
    ]
    return {
        name: np.stack([x[name][0] / np.maximum(x[name][1], 1) for x in columns], axis=1)
        for name in columns[0]
    }


def _packed(dataset: PreparedDataset, packing: Packing) -> Float[np.ndarray, "b p v"]:
    return read_split(dataset, "betas", of_betas=lambda x: pack(x, packing))["betas"]
