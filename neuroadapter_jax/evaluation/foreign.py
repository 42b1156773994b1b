"""Scores of reconstructions that were made elsewhere: a tensor file or numbered pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.evaluation.protocol import resize, score_images
from neuroadapter_jax.evaluation.results import RESULTS, markdown
from neuroadapter_jax.evaluation.score_files import colour_scores, write_scores
from neuroadapter_jax.files import refuse_foreign
from neuroadapter_jax.interop.image_tensors import (
    PICTURES,
    TENSOR_FILES,
    ImageStack,
    read_image_ids,
    read_image_stack,
)
from neuroadapter_jax.readers import read_json

# MindEye2's final evaluation mixes the blurry image into the refined one, at this side.
BLURRY_WEIGHT, BLURRY_SIDE = 0.25, 256


@dataclass(frozen=True)
class ForeignSource:
    """Where reconstructions made elsewhere lie, and what they are compared with.

    Attributes:
        reconstructions: tensor file or folder of pictures; see `read_image_stack`.
        image_ids: file of their image ids, where the reconstructions do not say; see
            `read_image_ids`.
        stimuli: tensor file or folder of the stimuli.
        prepared: prepared records that hold the stimuli, in place of `stimuli`.
        split: of the records.
        blurry: tensor file or folder of MindEye2's blurry reconstructions, mixed in by a quarter
            at 256 x 256 pixels, as its evaluation does.
    """

    reconstructions: str | Path
    image_ids: str | Path | None = None
    stimuli: str | Path | None = None
    prepared: str | Path | None = None
    split: str = "test"
    blurry: str | Path | None = None


def score_foreign(
    source: ForeignSource, out: str | Path, *, convention: str = "mindeye", **options: Any
) -> dict[str, Any]:
    """Score reconstructions made elsewhere, and write results.json, per_image.csv and results.md.

    Reconstructions and stimuli may differ in size: each convention says to which size both are
    resized. Of several candidates the first counts. Nothing is written before all is scored.

    Args:
        source: where they lie.
        out: folder for the scores; `neuroadapter evaluate --compare` takes it.
        convention: a name in `CONVENTIONS`.
        options: of `score_images`.

    Returns:
        What is in results.json.

    Raises:
        MissingFileError, InputError: files that are not there, of another layout, or of images
            that do not belong together.
    """
    out = Path(out)
    refuse_foreign(out, ("index.json", "images", "stimuli"))
    made_by = {name: None if value is None else str(value) for name, value in vars(source).items()}
    _require_same_source(out, made_by)
    own = read_image_stack(source.reconstructions)
    ids = _ids(source, own)
    stimuli = _stimuli(source, ids, own.image_ids is not None or source.image_ids is not None)
    images = own.images[:, 0]
    if source.blurry is not None:
        images = _mixed(images, _aligned(source.blurry, ids, "--blurry"))
    scores = score_images(stimuli, images, convention=convention, **options)
    columns = dict(scores.per_image)
    colours, further = colour_scores(stimuli, images)
    results = {
        "num_images": len(images),
        "reconstructions": {"made_elsewhere": made_by, "num_candidates": own.images.shape[1]},
        **scores.summary(),
        **colours,
    }
    name = Path(source.reconstructions).name
    table = markdown(results, title=f"Scores of {name}", comparable=True)
    write_scores(out, ids, columns | further, results, table)
    return results


def is_made_elsewhere(path: str | Path) -> bool:
    """Whether a path is a tensor file or a folder of numbered pictures without index.json.

    Args:
        path: what the user named.
    """
    path = Path(path)
    if path.is_dir():
        # A picture without a number, such as the grid of our own folders, shows no one image.
        numbered = (p for p in path.iterdir() if any(c.isdigit() for c in p.stem))
        pictures = any(p.suffix.lower() in PICTURES for p in numbered)
        return pictures and not (path / "index.json").exists()
    return path.suffix in TENSOR_FILES and path.is_file()


def _require_same_source(out: Path, made_by: dict[str, str | None]) -> None:
    """Refuse to put scores in the place of those of other reconstructions."""
    if not (out / RESULTS).is_file():
        return
    found = read_json(out / RESULTS, "scores of `neuroadapter evaluate`").get("reconstructions", {})
    there = found.get("made_elsewhere") if isinstance(found, dict) else None
    if there != made_by:
        named = (there or {}).get("reconstructions", "other reconstructions")
        raise ExistingFileError(
            f"--out is {out}, which holds the scores of {named}; name another folder, or delete "
            f"{RESULTS} there."
        )


def _ids(source: ForeignSource, own: ImageStack) -> Int[np.ndarray, " b"]:
    count, where = len(own.images), source.reconstructions
    if source.image_ids is not None:
        ids = read_image_ids(source.image_ids)
        if own.image_ids is not None and not np.array_equal(ids, own.image_ids):
            raise InputError(
                f"{source.image_ids} lists other ids, or another order, than {where} itself; "
                "leave --image_ids out."
            )
        if len(ids) != count:
            raise InputError(
                f"{source.image_ids} lists {len(ids)} image ids, {where} holds {count} images; "
                "expected one id for each image."
            )
        return ids
    if own.image_ids is not None:
        return own.image_ids
    if source.prepared is not None:
        raise InputError(
            f"{where} does not say which images it shows; give --image_ids, a file with the image "
            "id of each, as the records have them."
        )
    return np.arange(count)


def _stimuli(
    source: ForeignSource, ids: Int[np.ndarray, " b"], known: bool
) -> UInt8[np.ndarray, "b y x c"]:
    if source.prepared is not None:
        records = PreparedDataset(source.prepared, source.split)
        place = {image_id: row for row, image_id in enumerate(records.image_ids.tolist())}
        where = f"split {records.split!r} of {records.path}"
        _require(ids, place, str(source.reconstructions), where)
        rows = [place[image_id] for image_id in ids.tolist()]
        if lacking := [int(i) for i, row in zip(ids, rows, strict=True)
                       if not records.has_image[row]]:  # fmt: skip
            raise InputError(
                f"{where} has no picture of image {lacking[0]}; expected stimuli with a picture, "
                "so leave those reconstructions out."
            )
        return np.stack([records[row]["image"] for row in rows])
    if source.stimuli is None:
        raise InputError("Reconstructions made elsewhere need --stimuli or --prepared beside them.")
    return _aligned(source.stimuli, ids, "--stimuli", known)


def _aligned(
    path: str | Path, ids: Int[np.ndarray, " b"], flag: str, known: bool = True
) -> UInt8[np.ndarray, "b y x c"]:
    """The images of a source for these ids: by its own ids, or row by row where it has none."""
    stack = read_image_stack(path)
    if stack.image_ids is not None and known:
        place = {image_id: row for row, image_id in enumerate(stack.image_ids.tolist())}
        _require(ids, place, "the reconstructions", f"{flag} {path}")
        return stack.images[[place[image_id] for image_id in ids.tolist()], 0]
    if len(stack.images) != len(ids):
        raise InputError(
            f"{flag} {path} holds {len(stack.images)} images, the reconstructions {len(ids)}; "
            "expected as many, in the same order, or pictures named by their image ids."
        )
    return stack.images[:, 0]


def _require(ids: Int[np.ndarray, " b"], place: dict[int, int], what: str, where: str) -> None:
    if lacking := [image_id for image_id in ids.tolist() if image_id not in place]:
        raise InputError(
            f"{what}: {len(lacking)} of {len(ids)} images are not in {where}, such as image "
            f"{lacking[0]}; expected image ids as they are there, which for the Natural Scenes "
            "Dataset count from 0."
        )


def _mixed(
    sharp: UInt8[np.ndarray, "b y x c"], blurry: UInt8[np.ndarray, "b _y _x c"]
) -> UInt8[np.ndarray, "b _side _side c"]:
    both = [resize(x, BLURRY_SIDE, antialias=False) for x in (sharp, blurry)]
    mixed = (1.0 - BLURRY_WEIGHT) * both[0] + BLURRY_WEIGHT * both[1]
    return np.rint(mixed.clip(0, 1) * 255).astype(np.uint8)
