"""Accuracy of a brain encoder on test images: per vertex, per ROI, and as a map of the cortex."""

from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.cortex.shown_surface import ShownSurface
from neuroadapter_jax.datasets.belonging import Origin, made_for, require_same_root
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.encoder.accuracy import encoding_accuracy
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.cortex_maps import value_figure
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import refuse_foreign, write_file, write_json
from neuroadapter_jax.pipeline.checks import require_same_regions
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.simulation.nsd_writer import load_truth

_FILES = ("accuracy.json", "correlation.npy", "correlation.png")


def evaluate_encoder(
    encoder: BrainEncoder,
    prepared: str | Path,
    out: str | Path,
    root: str | Path | None = None,
    surface: ShownSurface | None = None,
) -> dict[str, Any]:
    """Writes accuracy.json, correlation.npy and, where the cortex can be shown, correlation.png.

    Args:
        encoder: of the records' subject and surface.
        prepared: folder of prepared records.
        out: folder for the results.
        root: the simulated subject's folder, for accuracies per ROI.
        surface: of the encoder and the meshes that show it; one of FreeSurfer's average surfaces,
            by the number of vertices, when None. Where there is none no map is drawn.

    Returns:
        What accuracy.json holds; see `encoding_accuracy`.

    Raises:
        MissingFileError: no records, or no truth under `root`.
        ExistingFileError: the folder holds files of these names that this did not write.
        InputError: records of other data, see `made_for`, or of another surface; or `root` is
            another subject's.
    """
    split, out = PreparedDataset(prepared, "test"), Path(out)
    refuse_foreign(out, _FILES, ours=_is_ours(out))
    known = Origin.of("the encoder", encoder.provenance)
    other_data = made_for(known, split.origin, encoder.allow_other)
    if root is not None:
        require_same_root(root, split)
    if split.num_vertices != encoder.regions.num_vertices:
        raise InputError(
            f"{prepared} has {split.num_vertices} vertices per hemisphere, the encoder "
            f"{encoder.regions.num_vertices}; use records of the encoder's surface."
        )
    require_same_regions(split, encoder.regions)
    if surface is not None:
        surface.require_of(encoder.regions.num_vertices, "the encoder")
    roi = np.full(encoder.num_vertices, "")
    if root is not None:
        subject = split.origin.data.get("subject", 1)
        roi = load_truth(root, subject if isinstance(subject, int) else None)["roi"]
    if len(roi) != encoder.num_vertices:
        raise InputError(
            f"the truth of {root} is of {len(roi)} vertices, the encoder of "
            f"{encoder.num_vertices}; name the folder of the subject that the records are of."
        )
    found = read_split(split, "image", "betas")
    num_trials = np.shape(split[0]["betas"])[0]
    result, correlation = encoding_accuracy(
        encoder.predict(found["image"]),
        found["betas"].astype(np.float32),
        split.ncsnr,
        num_trials,
        roi,
    )
    if other_data:
        result["other_data"] = other_data
    write_json(out / "accuracy.json", result)
    write_file(out / "correlation.npy", lambda partial: np.save(partial, correlation))
    if surface is not None or ShownSurface.known(encoder.regions.num_vertices):
        label = f"Pearson's r over {len(split)} test images, {num_trials} trials averaged"
        figure = value_figure(correlation.astype(float), label, surface=surface)
        save_picture(out / "correlation.png", figure)
    return result


def _is_ours(out: Path) -> bool:
    """Whether a folder's accuracy.json is of an earlier call."""
    try:
        found = read_json(out / _FILES[0], "the accuracy of a brain encoder")
    except InputError:
        return False
    return {"num_images", "num_trials", "least_ceiling"} <= found.keys()
