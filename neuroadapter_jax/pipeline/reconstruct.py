"""Decoding a whole split to a folder: PNG files, an index, and a grid."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from tqdm import tqdm

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Start
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder, check_fits
from neuroadapter_jax.encoder.ranking import choose
from neuroadapter_jax.files import write_json
from neuroadapter_jax.pipeline.pipeline import Candidates

INDEX, UNFINISHED = "index.json", "unfinished.json"


@runtime_checkable
class Decoder(Protocol):
    """What draws images from responses as `NeuroAdapterPipeline` does."""

    regions: Parcellation
    provenance: dict[str, Any]
    guidance_scale: float
    sampler: str
    start: Start
    num_candidates: int

    def __call__(
        self, fmri: Float[np.ndarray, "b n"], **options: Any
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images; see `NeuroAdapterPipeline.__call__`."""


@dataclass(frozen=True)
class Reconstructions:
    """What a folder of reconstructions holds.

    Attributes:
        image_ids: one per stimulus.
        stimuli: stimuli [b, y, x, 3]; black where there is none.
        has_target: whether a stimulus has an image.
        names: of the stimuli; "" where a number says all.
        reconstructions: candidates [b, s, y, x, 3].
        settings: how they were drawn.
        chosen: which of `reconstructions` counts as the reconstruction; the first without an encoder.
        scores: the encoder's, of all candidates drawn; None without one.
    """

    image_ids: Int[np.ndarray, " b"]
    stimuli: UInt8[np.ndarray, "b y x c"]
    reconstructions: UInt8[np.ndarray, "b s y x c"]
    settings: dict[str, Any]
    chosen: Int[np.ndarray, " b"]
    has_target: Bool[np.ndarray, " b"]
    names: tuple[str, ...]
    scores: Float[np.ndarray, "b _s"] | None = None

    @property
    def best(self) -> UInt8[np.ndarray, "b y x c"]:
        """The reconstructions: the chosen candidates."""
        return self.reconstructions[np.arange(len(self.reconstructions)), self.chosen]


def reconstruct_split(
    pipeline: Decoder,
    dataset: PreparedDataset,
    out: str | Path,
    *,
    num_candidates: int | None = None,
    seed: int = 0,
    sampler: str | None = None,
    start: Start | None = None,
    num_steps: int = 50,
    guidance_scale: float | None = None,
    batch_size: int = 20,
    order: Int[np.ndarray, " b"] | None = None,
    low_level_start: Float[np.ndarray, "b _y _x _c"] | None = None,
    strength: float = 0.8,
    encoder: BrainEncoder | None = None,
    halving: Sequence[tuple[int, int]] = (),
    keep_candidates: bool = False,
    num_images: int | None = None,
    save_grid: Callable[[Path, Reconstructions], None] | None = None,
    progress: bool = True,
) -> Reconstructions:
    """Draw every image of a split from its responses and write the images as they come.

    A call that was killed goes on at the first image that is missing. With several devices the
    candidates of a batch are shared among them.

    Args:
        pipeline: trained on the same subject and normalisation.
        dataset: the split.
        out: folder that gets images/ID_cJ.png (images/ID.png where only the chosen candidate is
            kept), seen/ID.png and index.json, in which `stimuli` is null for a stimulus without an
            image.
        num_candidates: s per response; like the next three the pipeline's own when None.
        seed: of the noise.
        sampler: see `NeuroAdapterPipeline.__call__`.
        start: likewise.
        num_steps: likewise.
        guidance_scale: likewise.
        batch_size: responses per jitted call.
        order: image i is drawn from the responses to image order[i]; a control. None: its own.
        low_level_start: scaled latents, one per image, see `NeuroAdapterPipeline.__call__`; `order`
            holds for them too, since they come from the responses.
        strength: likewise.
        encoder: chooses among the candidates; without one the first counts.
        halving: with an encoder, see `NeuroAdapterPipeline.candidates`; the scores that are kept
            are then those of the candidates drawn to the end.
        keep_candidates: with an encoder, write all candidates, not the chosen one alone.
        num_images: how many of the split, from its first on; None for all.
        save_grid: called at the end with (folder, reconstructions).
        progress: show a bar.

    Raises:
        ValueError: the folder holds images drawn otherwise, or nobody knows how, or the records'
            surface or regions are not the pipeline's, or the encoder does not fit; see
            `check_fits`.
    """
    out = Path(out)
    keep_candidates = keep_candidates or encoder is None
    num_candidates = num_candidates or pipeline.num_candidates
    sampler, start = sampler or pipeline.sampler, start or pipeline.start
    num_images = min(num_images or len(dataset), len(dataset))
    settings = {
        "model": pipeline.provenance,
        "prepared": str(dataset.path),
        "split": dataset.split,
        "num_images": num_images,
        "num_candidates": num_candidates,
        "seed": seed,
        "sampler": sampler,
        "start": start,
        "num_steps": num_steps,
        "guidance_scale": pipeline.guidance_scale if guidance_scale is None else guidance_scale,
        "own_responses": order is None,
    }
    if low_level_start is not None:
        settings |= {
            "low_level_start": hashlib.sha256(np.ascontiguousarray(low_level_start)).hexdigest(),
            "strength": strength,
        }
    if encoder is not None:
        check_fits(encoder, pipeline.regions, pipeline.provenance)
        settings |= {
            "encoder": encoder.provenance,
            "halving": list(halving),
            "keep_candidates": keep_candidates,
        }
    settings = _check_folder(out, settings)
    if dataset.num_vertices != pipeline.regions.num_vertices:
        raise ValueError(
            f"{dataset.path} has {dataset.num_vertices} vertices per hemisphere, the model's "
            f"regions {pipeline.regions.num_vertices}; use records of the model's surface."
        )
    if dataset.regions is not None:
        _require_regions(dataset, pipeline.regions)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "seen").mkdir(exist_ok=True)
    scores: dict[str, list[float]] = {}
    if (out / UNFINISHED).is_file():
        scores = json.loads((out / UNFINISHED).read_text()).get("scores", {})
    elif (out / INDEX).is_file():
        entries = json.loads((out / INDEX).read_text())["images"]
        scores = {str(e["image_id"]): e["scores"] for e in entries if "scores" in e}
    write_json(out / UNFINISHED, {"settings": settings, "scores": scores})
    betas, images = [], []
    for batch in eval_batches(dataset, batch_size):
        betas.append(batch["betas"][: batch["num_valid"]])
        images.append(batch["image"][: batch["num_valid"]])
    betas, stimuli = np.concatenate(betas), np.concatenate(images)
    if order is not None:
        betas = betas[order]
        low_level_start = None if low_level_start is None else low_level_start[order]
    betas, stimuli = betas[:num_images], stimuli[:num_images]
    num_reconstructed = halving[-1][1] if halving else num_candidates
    files = [
        {
            "image_id": int(image_id),
            **({"stimulus": name} if name else {}),
            "seen": f"seen/{int(image_id):06d}.png" if has_image else None,
            "drawn": [f"images/{int(image_id):06d}_c{j}.png" for j in range(num_reconstructed)]
            if keep_candidates
            else [f"images/{int(image_id):06d}.png"],
        }
        for image_id, name, has_image in zip(
            dataset.image_ids[:num_images],
            dataset.names[:num_images],
            dataset.has_image[:num_images],
            strict=True,
        )
    ]
    reconstructions: list[np.ndarray | None] = [
        None
        if encoder is not None and str(entry["image_id"]) not in scores
        else _read_candidates(out, entry["drawn"])
        for entry in files
    ]
    missing = np.flatnonzero([image is None for image in reconstructions])
    bar = tqdm(
        total=len(files), initial=len(files) - len(missing), unit="image", disable=not progress
    )
    for first in range(0, len(missing), batch_size):
        rows = missing[first : first + batch_size]
        # The last batch is filled up, so that one compilation serves all.
        filled = np.concatenate([rows, np.full(batch_size - len(rows), rows[-1])])
        begin = {} if low_level_start is None else {"low_level_start": low_level_start[filled]}
        found = _draw(
            pipeline,
            encoder,
            betas[filled].astype(np.float32),
            halving,
            **begin,
            strength=strength,
            num_candidates=num_candidates,
            seed=seed,
            sampler=sampler,
            start=start,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            sample_ids=filled,
        )
        kept = found.images
        if not keep_candidates:
            kept = kept[np.arange(len(kept)), found.chosen][:, None]
        for row, candidates in zip(rows, kept, strict=False):
            reconstructions[row] = candidates
            if files[row]["seen"]:
                _write_png(out / files[row]["seen"], stimuli[row])
            for name, image in zip(files[row]["drawn"], candidates, strict=True):
                _write_png(out / name, image)
        if encoder is not None:
            ids = [str(files[row]["image_id"]) for row in rows]
            scores |= dict(zip(ids, found.scores.astype(float).tolist(), strict=False))
            write_json(out / UNFINISHED, {"settings": settings, "scores": scores})
        bar.update(len(rows))
    bar.close()
    for entry in files if encoder is not None else []:
        entry["scores"] = scores[str(entry["image_id"])]
        entry["chosen"] = int(choose(np.array([entry["scores"]]))[0])
    result = _result(files, stimuli, np.stack(reconstructions), settings)
    if save_grid is not None:
        save_grid(out, result)
    write_json(out / INDEX, {"settings": settings, "images": files})
    (out / UNFINISHED).unlink()
    return result


def write_reconstructions(
    out: str | Path,
    dataset: PreparedDataset,
    reconstructions: UInt8[np.ndarray, "b y x c"],
    settings: dict[str, Any],
    save_grid: Callable[[Path, Reconstructions], None] | None = None,
) -> Reconstructions:
    """A folder as `reconstruct_split` writes it, of images that come from somewhere else.

    Args:
        out: the folder.
        dataset: the split, whose order `reconstructions` has.
        reconstructions: one image per stimulus, of its size.
        settings: how they were made.
        save_grid: called at the end with (folder, reconstructions).

    Raises:
        ValueError: the folder holds other images, or the images do not fit the stimuli.
    """
    out = Path(out)
    stimuli = np.concatenate([b["image"][: b["num_valid"]] for b in eval_batches(dataset, 50)])
    if reconstructions.shape != stimuli.shape or reconstructions.dtype != np.uint8:
        raise ValueError(
            f"The images for {out} are {reconstructions.dtype} of shape {reconstructions.shape}; expected uint8 of "
            f"shape {stimuli.shape}, one for each stimulus of split {dataset.split!r}."
        )
    settings = {
        "prepared": str(dataset.path),
        "split": dataset.split,
        "num_images": len(dataset),
        "num_candidates": 1,
        "own_responses": True,
        **settings,
    }
    settings = _check_folder(out, settings)
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "seen").mkdir(exist_ok=True)
    write_json(out / UNFINISHED, {"settings": settings})
    files = []
    for image_id, stimulus, image in zip(dataset.image_ids, stimuli, reconstructions, strict=True):
        name = f"{int(image_id):06d}.png"
        files.append(
            {"image_id": int(image_id), "seen": f"seen/{name}", "drawn": [f"images/{name}"]}
        )
        _write_png(out / "seen" / name, stimulus)
        _write_png(out / "images" / name, image)
    result = _result(files, stimuli, reconstructions[:, None], settings)
    if save_grid is not None:
        save_grid(out, result)
    write_json(out / INDEX, {"settings": settings, "images": files})
    (out / UNFINISHED).unlink()
    return result


def _check_folder(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as they come back from the index; refuses a folder of other images."""
    settings = json.loads(json.dumps(settings))
    for index in (out / INDEX, out / UNFINISHED):
        if index.is_file() and (found := json.loads(index.read_text())["settings"]) != settings:
            keys = settings.keys() | found.keys()
            different = sorted(key for key in keys if found.get(key) != settings.get(key))
            raise ValueError(
                f"{out} holds reconstructions drawn with other {', '.join(different)}; name "
                "another folder or delete this one."
            )
    known = any((out / name).is_file() for name in (INDEX, UNFINISHED))
    if (out / "images").exists() and not known:
        raise ValueError(
            f"{out} holds images but neither {INDEX} nor {UNFINISHED}, which would say how they "
            "were drawn; name another folder or delete this one."
        )
    return settings


def _require_regions(dataset: PreparedDataset, regions: Parcellation) -> None:
    """Voxels of the same number may be others, so the regions themselves must be the same."""
    known = {
        (h, n): v
        for h, n, v in zip(
            dataset.regions.hemispheres,
            dataset.regions.names,
            dataset.regions.vertices,
            strict=True,
        )
    }
    for h, n, v in zip(regions.hemispheres, regions.names, regions.vertices, strict=True):
        if not np.array_equal(known.get((h, n), ()), v):
            raise ValueError(
                f"{dataset.path} has no region {n!r} ({h}) of the features of the model's; use a "
                "model that was trained on the same subject's files."
            )


def _draw(
    pipeline: Decoder,
    encoder: BrainEncoder | None,
    betas: Float[np.ndarray, "b n"],
    halving: Sequence[tuple[int, int]],
    **options: Any,
) -> Candidates:
    if encoder is not None:
        return pipeline.candidates(betas, encoder, halving=halving, **options)
    images = pipeline(betas, **options)
    shape = images.shape[:2]
    return Candidates(images, np.zeros(shape), np.zeros(len(images), int), np.zeros(shape, int))


def _result(
    files: list[dict[str, Any]],
    stimuli: UInt8[np.ndarray, "b y x c"],
    reconstructions: UInt8[np.ndarray, "b s y x c"],
    settings: dict[str, Any],
) -> Reconstructions:
    scored = all("scores" in entry for entry in files)
    several = reconstructions.shape[1] > 1
    return Reconstructions(
        np.array([entry["image_id"] for entry in files]),
        stimuli,
        reconstructions,
        settings,
        np.array([entry.get("chosen", 0) if several else 0 for entry in files]),
        np.array([entry["seen"] is not None for entry in files]),
        tuple(entry.get("stimulus", "") for entry in files),
        np.array([entry["scores"] for entry in files]) if scored else None,
    )


def _write_png(path: Path, image: UInt8[np.ndarray, "y x c"]) -> None:
    """A file under its final name is complete."""
    partial = path.with_suffix(".partial")
    Image.fromarray(image).save(partial, format="PNG")
    os.replace(partial, path)


def _read_candidates(folder: Path, names: list[str]) -> UInt8[np.ndarray, "s y x c"] | None:
    """An image's candidates, if an earlier call has drawn them all."""
    if not all((folder / name).is_file() for name in names):
        return None
    return np.stack([_read_png(folder / name) for name in names])


def _read_png(path: Path) -> UInt8[np.ndarray, "y x c"]:
    with Image.open(path) as image:
        if image.mode != "RGB":
            raise ValueError(
                f"{path}: found an image of mode {image.mode}; expected RGB, 8 bits per channel, "
                "so convert it first."
            )
        return np.asarray(image)


def load_reconstructions(folder: str | Path, *, require_targets: bool = True) -> Reconstructions:
    """Read a folder written by `reconstruct_split`, or by anyone in its layout.

    index.json holds "settings", any dictionary, and "images", a list of {"image_id", "seen",
    "drawn"}: the stimulus' file and those of its candidates, relative to the folder. "chosen" and
    "scores" are the encoder's, where one chose. "seen" is null for a stimulus without an image.

    Args:
        folder: the folder.
        require_targets: refuse a stimulus without an image, with which nothing can be compared.

    Raises:
        FileNotFoundError: no index.json, or an image that it lists is not there.
        ValueError: an image is no RGB image or of another size than the others, an image_id
            occurs twice, there are more candidates of one stimulus than of another, or a
            stimulus has no image.
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f"{folder / INDEX}: not found; expected a finished folder of launch/reconstruct.py."
        )
    index = json.loads((folder / INDEX).read_text())
    entries = index["images"]
    ids = [entry["image_id"] for entry in entries]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(
            f"{folder / INDEX} lists image {twice} more than once; expected one entry per stimulus."
        )
    counts = [len(entry["drawn"]) for entry in entries]
    if len(set(counts)) != 1 or 0 in counts:
        raise ValueError(
            f"{folder / INDEX} lists {min(counts, default=0)} to {max(counts, default=0)} "
            "candidates per stimulus; expected one number, at least 1, for all."
        )
    if require_targets and (lacking := [e for e in entries if e["seen"] is None]):
        raise ValueError(
            f"{folder}: {len(lacking)} of {len(entries)} stimuli have no image, the first being "
            f"{lacking[0].get('stimulus', lacking[0]['image_id'])}, so their reconstructions "
            "cannot be compared with what was seen; evaluate a split whose stimuli all have one."
        )
    images: dict[str, np.ndarray] = {}
    for name in (n for entry in entries for n in (entry["seen"], *entry["drawn"]) if n):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: listed in {INDEX} but not found.")
        images[name] = image = _read_png(folder / name)
        first = next(iter(images.values())).shape
        if image.shape != first:
            raise ValueError(
                f"{folder / name} is {image.shape[0]} x {image.shape[1]} pixels, the images before "
                f"it are {first[0]} x {first[1]}; expected one size for all, so resize first."
            )
    none = np.zeros_like(images[entries[0]["drawn"][0]])
    return _result(
        entries,
        np.stack([images[entry["seen"]] if entry["seen"] else none for entry in entries]),
        np.stack([np.stack([images[name] for name in entry["drawn"]]) for entry in entries]),
        index.get("settings", {}),
    )
