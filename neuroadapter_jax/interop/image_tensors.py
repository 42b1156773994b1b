"""Images that other projects keep: tensors of PyTorch, NumPy or safetensors, or pictures."""

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from neuroadapter_jax.diffusion.weights import load_safetensors
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.readers import read_json, read_npy, read_rgb, read_text

TENSOR_FILES = (".pt", ".pth", ".npy", ".safetensors")
PICTURES = (".png", ".jpg", ".jpeg")
_LAYOUT = "images as [b, 3, y, x] or [b, y, x, 3], or [b, s, ...] with s candidates of each"
_ID_NAMES = ("image_ids", "ids")
# Floats that were rounded to half precision or resized may leave 0..1 by so much.
_SLACK = 1e-3
_BLOCK = 32


class ImageStack(NamedTuple):
    """Images from elsewhere.

    Attributes:
        images: [b, s, y, x, 3], 0..255; s candidates of each.
        image_ids: which image each shows; None where the file does not say.
    """

    images: UInt8[np.ndarray, "b s y x c"]
    image_ids: Int[np.ndarray, " b"] | None


def read_image_stack(path: str | Path) -> ImageStack:
    """Images of a tensor file or of a folder of pictures.

    A file is .pt or .pth (read without running code), .npy or .safetensors, and holds one tensor of
    images, beside it perhaps one named image_ids: uint8 in 0..255 or floats in 0..1, channels
    before or behind rows and columns. MindEye2's all_recons.pt and all_enhancedrecons.pt are such:
    float [1000, 3, y, x] in 0..1, in the order of ascending 73k ids. Floats are rounded to 8 bits.

    In a folder the first number of a picture's name is its image id, a second one, as in 123_1.png
    or 123_c1.png, its candidate's.

    Args:
        path: the file or folder.

    Raises:
        MissingFileError: it is not there.
        InputError: no images, another layout, values out of range, or names without a number.
        ImportError: a .pt file without PyTorch.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path)
    if not path.exists():
        raise MissingFileError(
            f"{path}: not found; expected a folder of pictures or a file of images "
            f"({', '.join(TENSOR_FILES)})."
        )
    tensors = _tensors(path)
    ids = next((tensors.pop(name) for name in _ID_NAMES if name in tensors), None)
    found = {name: x for name, x in tensors.items() if x.ndim >= 4}
    if len(found) != 1:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in list(tensors.items())[:3])
        raise InputError(
            f"{path} holds {len(found)} tensors that may be images ({shapes or 'nothing'}); "
            f"expected one, {_LAYOUT}."
        )
    images = _as_bytes(next(iter(found.values())), path)
    return ImageStack(images, None if ids is None else _as_ids(np.asarray(ids), path))


def read_image_ids(path: str | Path) -> Int[np.ndarray, " b"]:
    """Image ids of a file: .npy, .pt, .json (a list), or text with one a line.

    Args:
        path: the file; a first line of words, such as image_id, is skipped.

    Raises:
        MissingFileError: it is not there.
        InputError: they are no whole numbers, or one occurs twice.
    """
    path = Path(path)
    expected = "a list of image ids, whole numbers"
    if path.suffix in (".pt", ".pth"):
        tensors = _tensors(path)
        if len(tensors) != 1:
            raise InputError(
                f"{path} holds {len(tensors)} tensors; expected {expected}, one alone."
            )
        return _as_ids(np.asarray(next(iter(tensors.values()))), path)
    if path.suffix == ".npy":
        return _as_ids(read_npy(path, expected), path)
    if path.suffix == ".json":
        return _as_ids(np.array(read_json(path, expected, list[int]), np.int64), path)
    words = read_text(path, expected).replace(",", "\n").split()
    if words and re.fullmatch(r"[A-Za-z_]\w*", words[0]):
        words = words[1:]
    if wrong := [word for word in words if not re.fullmatch(r"-?\d{1,18}", word)]:
        raise InputError(f"{path}: found {wrong[0][:40]!r}; expected {expected}, one a line.")
    return _as_ids(np.array(words, np.int64), path)


def _as_ids(values: np.ndarray, path: Path) -> Int[np.ndarray, " b"]:
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        raise InputError(
            f"{path}: image ids are {values.dtype} of shape {values.shape}; expected whole numbers "
            "on one axis, one for each image."
        )
    unique, counts = np.unique(values, return_counts=True)
    if (counts > 1).any():
        raise InputError(
            f"{path} lists image {unique[counts > 1][0]} more than once; expected each once, with "
            "several candidates of an image on an axis of their own."
        )
    return values.astype(np.int64)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    if path.suffix not in TENSOR_FILES:
        raise InputError(
            f"{path} is no file of images that is read; expected one of "
            f"{', '.join(TENSOR_FILES)}, or a folder of pictures."
        )
    if path.suffix == ".npy":
        return {"images": read_npy(path, _LAYOUT, mapped=True)}
    if path.suffix == ".safetensors":
        return load_safetensors(path)
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"Reading {path} needs PyTorch: pip install 'neuroadapter-jax[pytorch]', or save the "
            "images as .npy or .safetensors."
        ) from error
    with reading(path, f"tensors that torch.save wrote, {_LAYOUT}"):
        content: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    if isinstance(content, torch.Tensor):
        content = {"images": content}
    if not isinstance(content, dict) or not all(
        isinstance(x, torch.Tensor) for x in content.values()
    ):
        raise InputError(
            f"{path} holds {type(content).__name__}; expected a tensor, or a dictionary of tensors."
        )
    # NumPy has no bfloat16.
    return {
        str(name): (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()
        for name, x in content.items()
    }


def _as_bytes(values: np.ndarray, path: Path) -> UInt8[np.ndarray, "b s y x c"]:
    """The images as 8 bits with channels last and an axis for candidates, block by block."""
    shape, axes = values.shape, values.ndim
    first, last = shape[axes - 3] == 3, shape[-1] == 3
    if axes not in (4, 5) or first == last or min(shape) < 1:
        raise InputError(
            f"{path}: the tensor of images is {tuple(shape)}; expected {_LAYOUT}, with 3 channels "
            "on one of those axes."
        )
    if values.dtype != np.uint8 and values.dtype.kind != "f":
        raise InputError(
            f"{path}: images are {values.dtype}; expected uint8 in 0..255 or floats in 0..1."
        )
    blocks = []
    for start in range(0, len(values), _BLOCK):
        block = np.asarray(values[start : start + _BLOCK])
        if block.dtype != np.uint8:
            block = block.astype(np.float32)
            low, high = float(block.min()), float(block.max())  # NaN compares as False below
            if not (low >= -_SLACK and high <= 1 + _SLACK):
                raise InputError(
                    f"{path}: images hold numbers from {low:.4g} to {high:.4g}; expected floats in "
                    "0..1, or uint8 in 0..255, so rescale them first."
                )
            block = np.rint(block.clip(0, 1) * 255).astype(np.uint8)
        block = np.moveaxis(block, axes - 3, -1) if first else block
        blocks.append(np.ascontiguousarray(block if axes == 5 else block[:, None]))
    return np.concatenate(blocks)


def _of_folder(folder: Path) -> ImageStack:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
    if not paths:
        raise InputError(
            f"{folder} holds no pictures ({', '.join(PICTURES)}); expected one for each image, "
            "such as 123.png for image 123, or a folder with index.json."
        )
    places: dict[tuple[int, int], Path] = {}
    for path in paths:
        numbers = [int(x) for x in re.findall(r"\d{1,18}", path.stem)]
        if not numbers or len(numbers) > 2:
            raise InputError(
                f"{path}: expected the image's id as the first number of a picture's name, then "
                "perhaps its candidate's, such as 123.png or 123_1.png; rename the pictures."
            )
        place = (numbers[0], numbers[1] if len(numbers) == 2 else 0)
        if place in places:
            raise InputError(
                f"{folder}: {places[place].name} and {path.name} are both of image {place[0]}; "
                "expected one picture for each image and candidate, so rename or remove one."
            )
        places[place] = path
    ids = sorted({image_id for image_id, _ in places})
    candidates = {i: sorted(j for k, j in places if k == i) for i in ids}
    if len({len(x) for x in candidates.values()}) != 1:
        few = min(ids, key=lambda i: len(candidates[i]))
        raise InputError(
            f"{folder} holds {len(candidates[few])} pictures of image {few} and more of others; "
            "expected as many candidates of each."
        )
    images = {place: read_rgb(path) for place, path in places.items()}
    sizes = {image.shape for image in images.values()}
    if len(sizes) > 1:
        raise InputError(
            f"{folder}: pictures are of {len(sizes)} sizes, such as "
            f"{' and '.join(f'{s[0]} x {s[1]}' for s in sorted(sizes)[:2])}; expected one, so "
            "resize them first."
        )
    stack = np.stack([np.stack([images[i, j] for j in candidates[i]]) for i in ids])
    return ImageStack(stack, np.array(ids, np.int64))
