"""Reconstructions of a whole split in a folder: PNG files, an index, and a grid."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from pydantic import FiniteFloat
from typing_extensions import TypedDict

from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import check_fits
from neuroadapter_jax.encoder.ranking import choose
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import (
    INPUTS,
    json_values,
    refuse_other_kind,
    require_same_settings,
    write_file,
    write_json,
)
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline.checks import (
    NotFiniteLatentsError,
    require_same_regions,
    require_same_surface,
)
from neuroadapter_jax.pipeline.contract import (
    Decoder,
    Ranking,
    RankingDecoder,
    ReconstructionSettings,
    recorded_precision,
    recorded_sampling,
    with_unrecorded_precision,
)
from neuroadapter_jax.pipeline.rank import Candidates
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart
from neuroadapter_jax.pipeline.reconstructions import (
    INDEX,
    UNFINISHED,
    Reconstructions,
    as_reconstructions,
    read_candidates,
)
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.readers import read_json

SaveGrid = Callable[[Path, "Reconstructions"], None]


@runs_alone("out", "a reconstruction")
def reconstruct_split(
    decoder: Decoder,
    dataset: PreparedDataset,
    out: str | Path,
    settings: ReconstructionSettings = ReconstructionSettings(),
    *,
    order: Int[np.ndarray, " b"] | None = None,
    low_level: LowLevelStart | None = None,
    ranking: Ranking | None = None,
    save_grid: SaveGrid | None = None,
    progress: bool = True,
) -> Reconstructions:
    """Reconstruct every image of a split from its responses; write the images as they come.

    A call that was killed goes on at the first image that is missing. With several devices the
    candidates of a batch are shared among them.

    Args:
        decoder: trained on the same subject and normalisation.
        dataset: the split.
        out: folder that gets images/ID_cJ.png (images/ID.png where only the chosen candidate is
            kept), stimuli/ID.png and index.json, in which "stimulus" is null for a stimulus without
            an image.
        settings: sampling, candidates, seed and size.
        order: image i is reconstructed from the responses to image order[i]; a control. None: its
            own.
        low_level: where sampling begins, with latents of every image of the split. `order` holds
            for them too, since they come from the responses.
        ranking: chooses among the candidates; without one the first counts.
        save_grid: called at the end with (folder, reconstructions).
        progress: show a bar.

    Raises:
        InputError: the folder holds images made otherwise, or nobody knows how; or the records are
            not of the decoder's data (see `made_for`), surface or regions; or the encoder does not
            fit, see `check_fits`.
        NotFiniteError: the latents of an image are not finite; those before it are kept.
    """
    out = Path(out)
    resolved = _Resolved.of(settings, decoder, len(dataset))
    model = Origin.of("the model", decoder.provenance)
    other_data = made_for(model, dataset.origin, settings.allow_other)
    require_same_surface(dataset, decoder.regions)
    require_same_regions(dataset, decoder.regions)
    if ranking is not None:
        check_fits(ranking.encoder, decoder.regions, decoder.provenance)
        encoder = Origin.of("the encoder", ranking.encoder.provenance)
        other_data |= made_for(encoder, dataset.origin, settings.allow_other)
        if ranking.halving and not isinstance(decoder, RankingDecoder):
            raise InputError(
                f"halving is {tuple(ranking.halving)}, but {type(decoder).__name__} samples every "
                "candidate to the end; leave halving out."
            )
    record = _settings_record(decoder, dataset, resolved, order, low_level, ranking)
    record = _check_folder(out, record | ({"other_data": other_data} if other_data else {}))
    folder = _Folder(out, record, ranking is not None, _read_scores(out))
    split = read_split(dataset, "betas", "image")
    fmri, stimuli = split["betas"], split["image"]
    starts = low_level
    if order is not None:
        fmri = fmri[order]
        starts = None if starts is None else starts._replace(latents=starts.latents[order])
    files = _files(dataset, resolved, ranking)
    candidates = folder.read_candidates(files)
    missing = np.flatnonzero([image is None for image in candidates])
    with Bar(
        total=len(files), initial=len(files) - len(missing), unit="image", disable=not progress
    ) as bar:
        size = resolved.batch_size
        for first in range(0, len(missing), size):
            rows = missing[first : first + size]
            # The last batch is filled up, so that one compilation serves all.
            filled = np.concatenate([rows, np.full(size - len(rows), rows[-1])])
            start = (
                None if starts is None else LowLevelStart(starts.latents[filled], starts.strength)
            )
            try:
                found = _sample(
                    decoder, fmri[filled].astype(np.float32), resolved, filled, start, ranking
                )
            except NotFiniteLatentsError as error:
                ids = dataset.image_ids[np.unique(filled[error.samples])].tolist()
                raise NotFiniteLatentsError(error.samples, ids) from None
            images = found.images
            if ranking is not None and not ranking.keep_candidates:
                images = found.best[:, None]
            for row, own in zip(rows, images, strict=False):
                candidates[row] = own
                folder.write_images(files[row], stimuli[row], own)
            if ranking is not None:
                ids = [str(files[row]["image_id"]) for row in rows]
                folder.add_scores(dict(zip(ids, found.scores.astype(float).tolist(), strict=False)))
            bar.update(len(rows))
    whole = np.stack([images for images in candidates if images is not None])
    return folder.finish(files, stimuli[: len(files)], whole, save_grid)


@runs_alone("out", "a reconstruction")
def write_reconstructions(
    out: str | Path,
    dataset: PreparedDataset,
    reconstructions: UInt8[np.ndarray, "b y x c"],
    settings: dict[str, Any],
    save_grid: SaveGrid | None = None,
) -> Reconstructions:
    """Write a folder in the layout of `reconstruct_split`, of images from somewhere else.

    Args:
        out: the folder.
        dataset: the split, whose order `reconstructions` has.
        reconstructions: one image per stimulus, of its size.
        settings: how they were made; under "inputs" with fingerprints, see `require_same_settings`.
        save_grid: called at the end with (folder, reconstructions).

    Raises:
        InputError: the folder holds other images, or the images do not fit the stimuli.
    """
    out = Path(out)
    stimuli = read_split(dataset, "image")["image"]
    if reconstructions.shape != stimuli.shape or reconstructions.dtype != np.uint8:
        raise InputError(
            f"The images for {out} are {reconstructions.dtype} of shape {reconstructions.shape}; "
            f"expected uint8 of shape {stimuli.shape}, one for each stimulus of split "
            f"{dataset.split!r}."
        )
    record = {
        "prepared": str(dataset.path),
        "data": dict(dataset.origin.data),
        "split": dataset.split,
        "num_images": len(dataset),
        "num_candidates": 1,
        "own_responses": True,
        **settings,
        INPUTS: {"prepared": dataset.fingerprint, **settings.get(INPUTS, {})},
    }
    folder = _Folder(out, _check_folder(out, record), ranked=False, scores={})
    files = []
    for image_id, stimulus, image in zip(dataset.image_ids, stimuli, reconstructions, strict=True):
        name = f"{int(image_id):06d}.png"
        files.append(
            {
                "image_id": int(image_id),
                "stimulus": f"stimuli/{name}",
                "candidates": [f"images/{name}"],
            }
        )
        folder.write_images(files[-1], stimulus, image[None])
    return folder.finish(files, stimuli, reconstructions[:, None], save_grid)


@dataclass
class _Folder:
    """A folder that is being filled: the images come first, the index at the end says all."""

    path: Path
    settings: dict[str, Any]
    ranked: bool
    scores: dict[str, list[float]]
    begun: bool = False

    def _write_progress(self) -> None:
        write_json(self.path / UNFINISHED, {"settings": self.settings, "scores": self.scores})

    def add_scores(self, scores: dict[str, list[float]]) -> None:
        self.scores |= scores
        self._write_progress()

    def read_candidates(
        self, files: list[dict[str, Any]]
    ) -> list[UInt8[np.ndarray, "s y x c"] | None]:
        """The candidates of an earlier call; None where one is missing, or without a score."""
        return [
            None
            if self.ranked and str(entry["image_id"]) not in self.scores
            else read_candidates(self.path, entry["candidates"])
            for entry in files
        ]

    def write_images(
        self,
        entry: dict[str, Any],
        stimulus: UInt8[np.ndarray, "y x c"],
        candidates: UInt8[np.ndarray, "s y x c"],
    ) -> None:
        if not self.begun:  # and not before there is an image, so that a failed call leaves nothing
            self._write_progress()
            self.begun = True
        if entry["stimulus"]:
            _write_png(self.path / entry["stimulus"], stimulus)
        for name, image in zip(entry["candidates"], candidates, strict=True):
            _write_png(self.path / name, image)

    def finish(
        self,
        files: list[dict[str, Any]],
        stimuli: UInt8[np.ndarray, "b y x c"],
        candidates: UInt8[np.ndarray, "b s y x c"],
        save_grid: SaveGrid | None,
    ) -> Reconstructions:
        for entry in files if self.ranked else []:
            entry["scores"] = self.scores[str(entry["image_id"])]
            entry["chosen"] = int(choose(np.array([entry["scores"]]))[0])
        result = as_reconstructions(files, stimuli, candidates, self.settings)
        if save_grid is not None:
            save_grid(self.path, result)
        write_json(self.path / INDEX, {"settings": self.settings, "images": files})
        (self.path / UNFINISHED).unlink(missing_ok=True)
        return result


@dataclass(frozen=True)
class _Resolved:
    """`ReconstructionSettings` with nothing left to fill in."""

    sampling: Sampling
    num_candidates: int
    seed: int
    num_images: int
    batch_size: int

    @classmethod
    def of(cls, settings: ReconstructionSettings, decoder: Decoder, num_images: int) -> "_Resolved":
        return cls(
            settings.sampling or decoder.sampling,
            settings.num_candidates or decoder.num_candidates,
            settings.seed,
            min(settings.num_images or num_images, num_images),
            settings.batch_size,
        )


def _settings_record(
    decoder: Decoder,
    dataset: PreparedDataset,
    settings: _Resolved,
    order: Int[np.ndarray, " b"] | None,
    low_level: LowLevelStart | None,
    ranking: Ranking | None,
) -> dict[str, Any]:
    """All that decides the images, as index.json holds it."""
    record: dict[str, Any] = {
        "model": decoder.provenance,
        "prepared": str(dataset.path),
        "data": dict(dataset.origin.data),
        "split": dataset.split,
        "num_images": settings.num_images,
        "num_candidates": settings.num_candidates,
        "seed": settings.seed,
        "sampling": recorded_sampling(decoder, settings.sampling).to_dict(),
        # Candidates start from noise of their own, but sums of another batch round otherwise.
        "batch_size": settings.batch_size,
        "own_responses": order is None,
        **recorded_precision(decoder),
        INPUTS: {"prepared": dataset.fingerprint, "weights": decoder.fingerprint},
    }
    if low_level is not None:
        latents = np.ascontiguousarray(low_level.latents)
        record |= {
            "low_level_start": hashlib.sha256(latents.tobytes()).hexdigest(),
            "strength": low_level.strength,
        }
    if ranking is not None:
        record |= {
            "encoder": ranking.encoder.provenance,
            "halving": list(ranking.halving),
            "keep_candidates": ranking.keep_candidates,
            "encoder_precision": ranking.encoder.precision,
        }
        record[INPUTS] |= {"encoder_weights": ranking.encoder.fingerprint}
    return record


def _files(
    dataset: PreparedDataset, settings: _Resolved, ranking: Ranking | None
) -> list[dict[str, Any]]:
    """The index's entries: which files a stimulus and its candidates have."""
    halving = () if ranking is None else ranking.halving
    count = halving[-1][1] if halving else settings.num_candidates
    all_kept = ranking is None or ranking.keep_candidates
    some = slice(settings.num_images)
    rows = zip(dataset.image_ids[some], dataset.names[some], dataset.has_image[some], strict=True)
    return [
        {
            "image_id": int(image_id),
            **({"name": name} if name else {}),
            "stimulus": f"stimuli/{int(image_id):06d}.png" if has_image else None,
            "candidates": [f"images/{int(image_id):06d}_c{j}.png" for j in range(count)]
            if all_kept
            else [f"images/{int(image_id):06d}.png"],
        }
        for image_id, name, has_image in rows
    ]


_EXPECTED = "how the images of a folder were made"


class _Unfinished(TypedDict):
    settings: dict[str, Any]
    scores: NotRequired[dict[str, list[FiniteFloat]]]


class _Scored(TypedDict):
    image_id: int
    scores: NotRequired[list[FiniteFloat]]


class _Finished(TypedDict):
    images: list[_Scored]


def _read_scores(out: Path) -> dict[str, list[float]]:
    """The encoder's scores that an earlier call wrote, by image id."""
    if (out / UNFINISHED).is_file():
        return read_json(out / UNFINISHED, _EXPECTED, _Unfinished).get("scores", {})
    if (out / INDEX).is_file():
        entries = read_json(out / INDEX, "an index of reconstructions", _Finished)["images"]
        return {str(e["image_id"]): e["scores"] for e in entries if "scores" in e}
    return {}


def _check_folder(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as they come back from the index; refuses a folder of other images."""
    settings = json_values(settings)
    refuse_other_kind(out, "reconstructions")
    if (out / "seen").exists():
        raise InputError(
            f"{out} was written by version 0.1.0, which evaluation still reads; expected a folder "
            "of this version to go on with, so name another folder or delete this one."
        )
    made = _made_files(out)
    for index in (out / INDEX, out / UNFINISHED):
        # What a call noted that ended before its first image binds nobody.
        if index.is_file() and (made or index.name == INDEX):
            found = read_json(index, _EXPECTED, _Unfinished)["settings"]
            found = with_unrecorded_precision(found, settings)
            require_same_settings(out, found, settings, "reconstructions")
    known = any((out / name).is_file() for name in (INDEX, UNFINISHED))
    if made and not known:
        raise InputError(
            f"{out} holds {made[0]} but neither {INDEX} nor {UNFINISHED}, which would say how it "
            "was made; name another folder or delete this one."
        )
    return settings


def _made_files(out: Path) -> list[str]:
    """What a folder holds of what a call writes; folders only where something is in them."""
    pictures = [name for name in ("images", "stimuli") if any((out / name).glob("*.png"))]
    return pictures + (["grid.png"] if (out / "grid.png").exists() else [])


def _sample(
    decoder: Decoder,
    fmri: Float[np.ndarray, "b n"],
    settings: _Resolved,
    sample_ids: Int[np.ndarray, " b"],
    low_level: LowLevelStart | None,
    ranking: Ranking | None,
) -> Candidates:
    options: dict[str, Any] = {
        "num_candidates": settings.num_candidates,
        "seed": settings.seed,
        "sample_ids": sample_ids,
    }
    if low_level is not None:
        options["low_level"] = low_level
    if ranking is not None and isinstance(decoder, RankingDecoder):
        return decoder.candidates(
            fmri, ranking.encoder, settings.sampling, halving=ranking.halving, **options
        )
    images = decoder(fmri, settings.sampling, **options)
    numbers = np.tile(np.arange(images.shape[1]), (len(images), 1))
    if ranking is None:
        scores = np.zeros(images.shape[:2], np.float32)
        return Candidates(images, scores, np.zeros(len(images), int), numbers)
    scores = ranking.encoder.rank(images, fmri, decoder.regions)
    return Candidates(images, scores, choose(scores), numbers)


def _write_png(path: Path, image: UInt8[np.ndarray, "y x c"]) -> None:
    write_file(path, lambda partial: Image.fromarray(image).save(partial, format="PNG"))
