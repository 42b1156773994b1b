"""All scores of a folder of reconstructions, and the files that say them."""

from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.datasets.belonging import Origin, made_for, require_same_root
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.protocol import score_candidates, score_images
from neuroadapter_jax.evaluation.results import markdown
from neuroadapter_jax.evaluation.score_files import colour_scores, file_scores, write_scores
from neuroadapter_jax.evaluation.selection import selection_scores
from neuroadapter_jax.evaluation.simulated_folder import candidates_objects, score_simulated
from neuroadapter_jax.pipeline import Reconstructions, load_reconstructions


def check_records(
    folder: str | Path, reconstructions: Reconstructions, records: PreparedDataset
) -> None:
    """Checks that a folder shows a split's images, in its order, beside the right stimuli.

    Raises:
        InputError: other images, another order, another size, or a stimulus that is not the
            record's.
    """
    where = f"split {records.split!r} of {records.path}"
    if not np.array_equal(reconstructions.image_ids, records.image_ids):
        if set(reconstructions.image_ids.tolist()) == set(records.image_ids.tolist()):
            raise InputError(
                f"{folder} holds the images of {where} in another order; list them in ascending "
                "order of image_id."
            )
        lacking = np.setdiff1d(records.image_ids, reconstructions.image_ids)
        more = np.setdiff1d(reconstructions.image_ids, records.image_ids)
        named = f"image {lacking[0]} is missing" if len(lacking) else f"image {more[0]} is too many"
        raise InputError(
            f"{folder} holds {len(reconstructions.image_ids)} images, {where} {len(records)}: "
            f"{named}; reconstruct these records again."
        )
    for row, image_id in enumerate(reconstructions.image_ids.tolist()):
        truth = records[row]["image"]
        height, width = reconstructions.stimuli.shape[1:3]
        if truth.shape != reconstructions.stimuli[row].shape:
            raise InputError(
                f"{folder} holds images of {height} x {width} pixels, {where} of "
                f"{truth.shape[0]} x {truth.shape[1]}; resize the reconstructions or "
                "prepare the records at their size."
            )
        if not np.array_equal(truth, reconstructions.stimuli[row]):
            raise InputError(
                f"{folder}: the stimulus of image {image_id} is not the one in {where}; the "
                "stimulus files are mixed up or of another preparation."
            )


def score_folder(
    folder: str | Path,
    *,
    convention: str = "mindeye",
    prepared: str | Path | None = None,
    root: str | Path | None = None,
    model: str | Path | None = None,
    permuted: str | Path | None = None,
    weights: str | Path | None = None,
    download: bool = False,
    set_level: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Score the reconstructions that count, and write the scores into their folder.

    results.json holds "num_images", "reconstructions" (how they were made), "convention",
    "colour_cd" and "colour_stress" (see `colour_errors`), what `file_scores` says,
    "metrics", "missing" and "set_level" (see `Scores.summary`), and what `evaluate_simulated` says
    where `root` is given; per_image.csv a row per image; results.md the table beside published
    numbers. Where an encoder chose and all candidates were kept, "selection" says what the choice
    gave; see `selection_scores`. Nothing is written before everything is scored.

    Args:
        folder: of `neuroadapter reconstruct`, or in its layout; see `load_reconstructions`.
        convention: a name in `CONVENTIONS`.
        prepared: prepared records; where given, the folder has to show exactly their images.
        root: the simulated subject's folder; adds the scores that need the truth.
        model: with `root`, adds the linear readout from this model's regions.
        permuted: with `root`, a folder of reconstructions from permuted responses, the control.
        weights: folder of the feature networks' weights; see `features`.
        download: fetch weights that are not here.
        set_level: identify whole sets of candidates, too.
        progress: show bars.

    Returns:
        What is in results.json.

    Raises:
        MissingFileError, InputError: the folders are not there, incomplete, or do not belong
            together.
    """
    folder = Path(folder)
    reconstructions = load_reconstructions(folder)
    if root is not None and prepared is None:
        raise InputError("--root needs --prepared: the records say which scenes were shown.")
    if root is None and (model is not None or permuted is not None):
        raise InputError("--model and --permuted need --root: they belong to its scores.")
    if set_level and reconstructions.candidates.shape[1] == 1:
        raise InputError(
            f"{folder} holds one candidate per stimulus; set-level identification needs several, "
            "so reconstruct with --num_candidates (and --keep_candidates beside --encoder)."
        )
    records = control = None
    if prepared is not None:
        records = PreparedDataset(prepared, reconstructions.settings.get("split", "test"))
        check_records(folder, reconstructions, records)
        reconstructed_from = Origin(str(folder), reconstructions.settings.get("data", {}))
        made_for(reconstructed_from, records.origin, None)
        if root is not None:
            require_same_root(root, records)
    if permuted is not None and records is not None:
        control = load_reconstructions(permuted)
        check_records(permuted, control, records)
        if not reconstructions.settings.get("own_responses", True) or control.settings.get(
            "own_responses", True
        ):
            raise InputError(
                f"{folder} should be reconstructed from the images' own responses and {permuted} "
                "with --permute_responses; exchange the two or make them again."
            )
    scores = score_images(
        reconstructions.stimuli,
        reconstructions.best,
        convention=convention,
        candidates=reconstructions.candidates if set_level else None,
        weights=weights,
        download=download,
        progress=progress,
    )
    columns = dict(scores.per_image)
    columns |= {f"set_level_{name}": values for name, values in scores.set_level.items()}
    results = {
        "num_images": len(reconstructions.stimuli),
        "reconstructions": reconstructions.settings,
    }
    results |= scores.summary()
    for found, further in (
        colour_scores(reconstructions.stimuli, reconstructions.best),
        file_scores(folder, reconstructions.image_ids),
    ):
        results |= found
        columns |= further
    if root is not None and records is not None:
        simulated, further = score_simulated(
            reconstructions, records, root, model=model, permuted=control
        )
        results |= simulated
        columns |= further
    if reconstructions.scores is not None and reconstructions.candidates.shape[1] > 1:
        found = score_candidates(
            reconstructions.stimuli,
            reconstructions.candidates,
            convention=convention,
            weights=weights,
            download=download,
            progress=progress,
        )
        found |= {} if root is None else candidates_objects(reconstructions, root)
        results["selection"] = selection_scores(found, reconstructions.chosen)
    table = markdown(results, title=f"Scores of {folder.name}", comparable=root is None)
    write_scores(folder, reconstructions.image_ids, columns, results, table)
    return results
