"""Scores of a folder of reconstructions of the simulated subject."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.cortex.packing import Packing, pack
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.records import PreparedDataset
from neuroadapter_jax.evaluation.embedded import evaluate_embedded
from neuroadapter_jax.evaluation.linear_readout import fit_linear_readout
from neuroadapter_jax.evaluation.scene_reader import load_scene_reader, read_scenes
from neuroadapter_jax.evaluation.selection import selection_scores
from neuroadapter_jax.evaluation.semantics import semantic_counts
from neuroadapter_jax.evaluation.thing_identification import identify_things, things_shown
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.reconstruction import load_reconstructions
from neuroadapter_jax.simulation.nsd_writer import load_scenes, load_truth
from neuroadapter_jax.simulation.scenes import Scene


def score_embedded(
    reconstructions: str | Path,
    *,
    permuted: str | Path,
    model: str | Path,
    prepared: str | Path,
    root: str | Path,
) -> dict[str, Any]:
    """Everything `evaluate_embedded` says of the chosen candidates of a folder.

    Where an encoder chose and all candidates were kept, "selection" says what that gave; see
    `selection_scores`.

    Args:
        reconstructions: folder of launch/reconstruct.py.
        permuted: folder drawn from permuted responses by the same model.
        model: the pipeline's folder or name; the linear readout sees the same regions.
        prepared: prepared records.
        root: the simulated subject's folder, with truth.npz.

    Raises:
        ValueError: the two folders, or they and the records, show different images.
    """
    drawn, control = load_reconstructions(reconstructions), load_reconstructions(permuted)
    split = PreparedDataset(prepared, drawn.settings["split"])
    for folder, ids in ((reconstructions, drawn.image_ids), (permuted, control.image_ids)):
        if not np.array_equal(ids, split.image_ids):
            raise ValueError(
                f"{folder} holds other images than split {split.split!r} of {prepared}; draw it "
                "again from these records."
            )
    if not drawn.settings["own_responses"] or control.settings["own_responses"]:
        raise ValueError(
            f"{reconstructions} should be drawn from the images' own responses and {permuted} "
            "with --permute_responses; exchange or draw them again."
        )
    truth = load_truth(root)
    packing = NeuroAdapterPipeline.from_pretrained(model).packing
    train = PreparedDataset(prepared, "train")
    responses, test_responses = _packed(train, packing), _packed(split, packing)

    def read_out(what: str, num: int, may_be_empty: bool) -> Int[np.ndarray, "b slot"]:
        readout = fit_linear_readout(responses, truth[what][train.image_ids], num)
        return readout.read(test_responses, may_be_empty=may_be_empty)

    scenes = load_scenes(root, split.image_ids)
    result = evaluate_embedded(
        drawn.best,
        drawn.seen,
        truth["categories"][split.image_ids],
        load_scene_reader(),
        category_names=truth["category_names"].tolist(),
        scenes=scenes,
        readout=read_out("categories", len(truth["category_names"]), may_be_empty=True),
        thing_readout=read_out("things", len(truth["thing_names"]), may_be_empty=False),
        drawn_permuted=control.best,
    ) | {"reconstructions": drawn.settings}
    if drawn.scores is not None and drawn.drawn.shape[1] > 1:
        result["selection"] = selection_scores(
            drawn.seen,
            drawn.drawn,
            drawn.chosen,
            further=_things_found(drawn.drawn, scenes, truth["categories"][split.image_ids]),
        )
    return result


def _things_found(
    candidates: UInt8[np.ndarray, "b s y x c"],
    scenes: Sequence[Scene],
    categories: Int[np.ndarray, "b slot"],
) -> dict[str, Float[np.ndarray, "b s"]]:
    """Share of a scene's things that a candidate shows: of the right category, and themselves."""
    things, reader = things_shown(scenes), load_scene_reader()

    def share(read: Int[np.ndarray, "b slot"], truth: Int[np.ndarray, "b slot"]) -> np.ndarray:
        hits, shown, _ = semantic_counts(read, truth)
        return hits / np.maximum(shown, 1)

    columns = [np.ascontiguousarray(x) for x in np.moveaxis(candidates, 1, 0)]
    return {
        "semantic_recall": np.stack(
            [share(read_scenes(reader, x), categories) for x in columns], axis=1
        ),
        "thing_identification": np.stack(
            [share(identify_things(x, scenes), things) for x in columns], axis=1
        ),
    }


def _packed(dataset: PreparedDataset, packing: Packing) -> Float[np.ndarray, "b p v"]:
    pieces = [
        np.asarray(pack(batch["betas"].astype(np.float32), packing))[: batch["num_valid"]]
        for batch in eval_batches(dataset, 50)
    ]
    return np.concatenate(pieces)
