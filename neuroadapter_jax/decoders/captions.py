"""Captions of images: read from files, and encoded as a text-to-image model takes them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Int
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.datasets.text_table import read_text_table, whole_numbers
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.weights import Backbone
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.readers import as_type, read_json

_STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
_EXPECTED = (
    'captions by image id (0-based 73k id), such as {"7": ["a cat on a sofa"]}, or COCO\'s '
    "annotations of captions"
)


class _Annotation(TypedDict):
    image_id: int
    caption: str


def caption_states(
    backbone: Backbone, captions: Sequence[Sequence[str]], batch_size: int = 64
) -> Float[np.ndarray, "i k c"]:
    """The text encoder's states of each image's captions, averaged over its captions.

    Args:
        backbone: a text-to-image model.
        captions: one or several per image.
        batch_size: captions encoded at once.

    Raises:
        InputError: an image has no caption.
    """
    if bare := sum(not some for some in captions):
        raise InputError(f"{bare} of {len(captions)} images have no caption; give each at least 1.")
    tokenizer = CLIPTokenizer(backbone.folder / "tokenizer")
    graph, params = nnx.split(backbone.text_encoder)
    encode = jax.jit(lambda params, ids: nnx.merge(graph, params)(ids))
    owner = np.repeat(np.arange(len(captions)), [len(some) for some in captions])
    ids = tokenizer([text for some in captions for text in some])
    shape = (len(captions), ids.shape[1], backbone.unet.config.cross_attention_dim)
    total = np.zeros(shape, np.float32)
    for rows, valid in filled_batches(len(ids), batch_size):
        states = np.asarray(encode(params, ids[rows]), np.float32)[:valid]
        np.add.at(total, owner[rows[:valid]], states)
    return total / np.bincount(owner)[:, None, None].astype(np.float32)


def read_captions(
    files: Sequence[str | Path], root: str | Path | None = None
) -> dict[int, list[str]]:
    """Captions by image id (0-based 73k id).

    Args:
        files: JSON files, each either {"image id": "caption" or ["caption", ...]}, or annotations
            of COCO's captions (captions_train2017.json and captions_val2017.json hold NSD's).
        root: NSD's folder, whose nsd_stim_info_merged.csv says which COCO image is which; needed
            for COCO's files.

    Raises:
        MissingFileError: a file is not there.
        InputError: a file is of neither kind, or COCO's without a root that has the table.
    """
    captions: dict[int, list[str]] = {}
    for path in map(Path, files):
        if not path.is_file():
            raise MissingFileError(f"{path}: not found; expected a JSON file of captions.")
        content = read_json(path, _EXPECTED)
        if "annotations" in content:
            as_type(list[_Annotation], content["annotations"], path, _EXPECTED)
            if root is None:
                raise InputError(
                    f"{path} holds captions by COCO id; give NSD's folder (--nsd_root), whose "
                    f"{_STIM_INFO} says which image is which."
                )
            if not (table := Path(root) / _STIM_INFO).is_file():
                raise MissingFileError(
                    f"{path} holds captions by COCO id, but {root} has no {_STIM_INFO}, which says "
                    "which image is which; give NSD's folder (--nsd_root)."
                )
            columns, expected = ["cocoId", "nsdId"], "NSD's table of stimuli"
            info = read_text_table(table, expected, usecols=columns)
            info = whole_numbers(info, columns, table, "download it again")
            ids: dict[int, list[int]] = {}
            for coco, nsd in info.itertuples(index=False):
                ids.setdefault(int(coco), []).append(int(nsd))
            for entry in content["annotations"]:
                for nsd in ids.get(int(entry["image_id"]), ()):
                    captions.setdefault(nsd, []).append(entry["caption"].strip())
        elif other := [key for key in content if not re.fullmatch(r"\d+", key)]:
            raise InputError(
                f"{path} has the key {other[0]!r}, which is no image id; expected {_EXPECTED}."
            )
        else:
            as_type(dict[str, str | list[str]], content, path, _EXPECTED)
            for key, texts in content.items():
                texts = [texts] if isinstance(texts, str) else list(texts)
                captions.setdefault(int(key), []).extend(texts)
    return captions


def captions_of(
    captions: Mapping[int, Sequence[str]], image_ids: Int[np.ndarray, " i"]
) -> list[list[str]]:
    """The captions of some images, in their order.

    Raises:
        InputError: an image has none.
    """
    missing = [int(i) for i in image_ids if not captions.get(int(i))]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(image_ids)} images have no caption, such as image "
            f"{missing[0]}; the linear baseline needs one for every training image, so add them to "
            "the files of captions."
        )
    return [list(captions[int(i)]) for i in image_ids]
