"""What every scored folder gets: its files, colours, and scores of what lies beside the images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.results import (
    PER_IMAGE,
    RESULTS,
    TABLE,
    PerImage,
    write_per_image,
)
from neuroadapter_jax.files import write_json, write_text
from neuroadapter_jax.metrics.colour import colour_errors
from neuroadapter_jax.metrics.depth import depth_errors
from neuroadapter_jax.metrics.retrieval import retrieval_top1
from neuroadapter_jax.metrics.statistics import bootstrap_interval
from neuroadapter_jax.readers import read_npz

EMBEDDINGS, DEPTH = "embeddings.npz", "depth.npz"
Scored = tuple[dict[str, Any], dict[str, Float[np.ndarray, " b"]]]


def colour_scores(
    stimuli: UInt8[np.ndarray, "b y x c"], reconstructions: UInt8[np.ndarray, "b _y _x c"]
) -> Scored:
    """`colour_errors` with intervals over images, and per image.

    Args:
        stimuli: 0..255.
        reconstructions: 0..255, same order.
    """
    per_image = colour_errors(stimuli, reconstructions)
    return {name: bootstrap_interval(x) for name, x in per_image.items()}, per_image


def file_scores(folder: str | Path, image_ids: Int[np.ndarray, " b"]) -> Scored:
    """Scores of what a decoder left beside its images: nothing where it left nothing.

    embeddings.npz gives top-1 retrieval, depth.npz the depth errors. Each holds image_ids [b] in
    the folder's order and "predicted" and "true", [b, k, c] or [b, y, x].

    Args:
        folder: of reconstructions.
        image_ids: of its images.

    Raises:
        InputError: a file is damaged, of other images, or its arrays do not fit.
    """
    results: dict[str, Any] = {}
    columns: dict[str, Float[np.ndarray, " b"]] = {}
    if (pair := _pair(Path(folder) / EMBEDDINGS, image_ids)) is not None:
        found, per_image = retrieval_top1(*pair)
        results["retrieval_top1"] = found
        # An image that fell into no pool has no score, and a column needs one for each.
        if all(np.isfinite(x).all() for x in per_image.values()):
            columns |= {f"retrieval_{name}": x for name, x in per_image.items()}
    if (pair := _pair(Path(folder) / DEPTH, image_ids)) is not None:
        errors = depth_errors(*pair)
        results |= {name: bootstrap_interval(x) for name, x in errors.items()}
        columns |= errors
    return results, columns


def _pair(
    path: Path, image_ids: Int[np.ndarray, " b"]
) -> tuple[Real[np.ndarray, "b ..."], Real[np.ndarray, "b ..."]] | None:
    if not path.is_file():
        return None
    names = ("image_ids", "predicted", "true")
    arrays = read_npz(path, f"an npz file with {', '.join(names)}", names)
    if not np.array_equal(arrays["image_ids"], image_ids):
        raise InputError(
            f"{path} is of other images than index.json beside it, or of another order; expected "
            "the same, so make it again or remove it."
        )
    pair = arrays["predicted"], arrays["true"]
    if any(x.dtype.kind not in "fiu" or x.shape[:1] != (len(image_ids),) for x in pair):
        raise InputError(
            f"{path}: predicted is {pair[0].dtype} of {pair[0].shape}, true {pair[1].dtype} of "
            f"{pair[1].shape}; expected numbers, one row for each of {len(image_ids)} images."
        )
    return pair


def write_scores(
    folder: str | Path,
    image_ids: Int[np.ndarray, " b"],
    columns: Mapping[str, Real[np.ndarray, " b"]],
    results: Mapping[str, Any],
    table: str,
) -> None:
    """Write per_image.csv, results.md and results.json, the last of which says that all is there.

    Args:
        folder: made if it is not there.
        image_ids: of the images, in their order.
        columns: score -> one value per image.
        results: the content of results.json.
        table: the content of results.md.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_per_image(folder / PER_IMAGE, PerImage(image_ids, columns))
    write_text(folder / TABLE, table)
    write_json(folder / RESULTS, results)
