"""Where sampling starts from: latents that another decoder gives, from a file or from images."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.errors import InputError, MissingFileError, NotFiniteError
from neuroadapter_jax.files import write_npz
from neuroadapter_jax.finite import finite_rows
from neuroadapter_jax.pipeline import NeuroAdapterPipeline, load_reconstructions
from neuroadapter_jax.readers import read_npz, read_rgb

_INDEX = "index.json"


def save_low_level_start(
    path: str | Path,
    image_ids: Int[np.ndarray, " b"],
    latents: Float[np.ndarray, "b y x c"],
) -> None:
    """Write an npz file of image_ids and latents, whole or not at all.

    Args:
        path: the file.
        image_ids: which stimulus each is of.
        latents: scaled, as `NeuroAdapterPipeline.encode` gives them.
    """
    write_npz(path, image_ids=image_ids, latents=np.asarray(latents, np.float32))


def load_low_level_start(
    path: str | Path, image_ids: Int[np.ndarray, " b"], pipeline: NeuroAdapterPipeline
) -> Float[np.ndarray, "b y x c"]:
    """The latents to start from, in the order of some stimuli.

    Args:
        path: a file of `save_low_level_start`; or a folder of `neuroadapter reconstruct` or of
            images ID.png (six digits, the 0-based 73k id), which the pipeline's VAE encodes.
        image_ids: the stimuli.
        pipeline: what will reconstruct.

    Raises:
        MissingFileError: neither is there, or the image of a stimulus is not.
        InputError: a stimulus is not in the file, or the latents or images have another size.
        NotFiniteError: the latents of one are NaN or infinite.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path, image_ids, pipeline)
    if not path.is_file():
        raise MissingFileError(f"{path}: not found; expected an npz file or a folder of images.")
    expected = "what `neuroadapter decoders` writes as low_level_test.npz"
    file = read_npz(path, expected, {"image_ids": "iu1", "latents": "f4"})
    ids, latents = file["image_ids"], file["latents"]
    if ids.shape != latents.shape[:1]:
        raise InputError(
            f"{path}: image_ids is of shape {ids.shape}, latents is of shape {latents.shape}; "
            f"expected {expected}."
        )
    _require(path, ids, image_ids)
    config = pipeline.backbone.unet.config
    shape = (config.sample_size, config.sample_size, config.in_channels)
    if latents.shape[1:] != shape:
        raise InputError(
            f"{path} holds latents of shape {latents.shape[1:]}; the model samples {shape}, so "
            "give latents of the model's VAE at this size."
        )
    rows = {int(i): row for row, i in enumerate(ids)}
    found = latents[[rows[int(i)] for i in image_ids]]
    if not (finite := finite_rows(found)).all():
        first = int(image_ids[np.argmin(finite)])
        raise NotFiniteError(
            f"{path}: the latents of {np.sum(~finite)} images are NaN or infinite, first those of "
            f"image {first}; expected finite numbers, so look at what they were predicted from."
        )
    return found


def _from_folder(
    folder: Path, image_ids: Int[np.ndarray, " b"], pipeline: NeuroAdapterPipeline
) -> Float[np.ndarray, "b y x c"]:
    if (folder / _INDEX).is_file():
        found = load_reconstructions(folder)
        _require(folder, found.image_ids, image_ids)
        pictures = dict(zip(found.image_ids.tolist(), found.best, strict=True))
        images = [pictures[int(i)] for i in image_ids]
    else:
        files = [folder / f"{int(i):06d}.png" for i in image_ids]
        if missing := [file for file in files if not file.is_file()]:
            raise MissingFileError(
                f"{missing[0]}: not found, and {len(missing) - 1} others; expected an image for "
                f"each of {len(files)} stimuli."
            )
        images = [read_rgb(file) for file in files]
    backbone = pipeline.backbone
    side = backbone.unet.config.sample_size * backbone.vae.config.downscale
    if sizes := {image.shape[:2] for image in images} - {(side, side)}:
        raise InputError(
            f"{folder} holds images of {sorted(sizes)} pixels; the model's are {side} x {side}, so "
            "resize them first."
        )
    stack = np.stack(images)
    return map_batches(lambda rows: pipeline.encode(stack[rows]), len(stack), min(32, len(stack)))


def _require(path: Path, known: Int[np.ndarray, " k"], wanted: Int[np.ndarray, " b"]) -> None:
    if len(missing := np.setdiff1d(wanted, known)):
        raise InputError(
            f"{path} lacks {len(missing)} of {len(wanted)} stimuli, such as image {missing[0]}; "
            "give the start of every image to reconstruct."
        )
