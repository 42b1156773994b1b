"""Files of image adapters: those that are published as ip-adapter-plus_sd15, and this package's."""

import dataclasses
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes, processor_indices
from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.weights import (
    from_tensors,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import here_or_shipped, write_json
from neuroadapter_jax.readers import as_type, read_json

CONFIG, WEIGHTS = "config.json", "image_adapter.safetensors"
_EXPECTED = "an image adapter in the layout of ip-adapter-plus_sd15.safetensors"
_PUBLISHED_HEAD = 64  # head width of the published files, which the files do not say
# Ours of a part of a resampler's block -> the published one's.
_PARTS = {
    "attention": "0",
    "feed_forward.norm": "1.0",
    "feed_forward.fc1": "1.1",
    "feed_forward.fc2": "1.3",
}
_OURS = {published: ours for ours, published in _PARTS.items()}


class StoredImageAdapter(NamedTuple):
    """An image adapter as it was found, and what embedding it reads.

    Attributes:
        adapter: the adapter.
        embedder: folder or shipped name of the image encoder; None where the file does not say.
        kind: of the embedding, see `encoder.image_embedding.ImageEmbedder`.
        embedder_fingerprint: of the image encoder in training; None where the file does not say.
    """

    adapter: ImageAdapter
    embedder: str | None
    kind: str
    embedder_fingerprint: str | None


class _Config(TypedDict):
    resampler: dict[str, int]
    embedder: str
    kind: str
    embedder_fingerprint: str


def published_tensors(adapter: ImageAdapter, unet: UNet2DConditionModel) -> dict[str, np.ndarray]:
    """All weights under the names of ip-adapter-plus_sd15.safetensors.

    Args:
        adapter: to write.
        unet: whose layers it serves.
    """
    tensors = {}
    for name, tensor in to_tensors(adapter.resampler).items():
        if match := re.fullmatch(r"layers\.(\d+)\.(attention|feed_forward\.\w+)\.(.+)", name):
            name = f"layers.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
        tensors[f"image_proj.{name}"] = tensor
    ours = to_tensors(adapter.attention)
    for layer, place in enumerate(processor_indices(unet).values()):
        for bank in ("to_k_ip", "to_v_ip"):
            tensors[f"ip_adapter.{place}.{bank}.weight"] = ours[f"{bank}.{layer}.weight"]
    return tensors


def adapter_of_tensors(
    tensors: dict[str, np.ndarray],
    unet: UNet2DConditionModel,
    source: str,
    config: ResamplerConfig | None = None,
) -> ImageAdapter:
    """An image adapter from tensors under the published names.

    Args:
        tensors: as `published_tensors` names them.
        unet: whose layers it serves; may be abstract.
        source: name for messages.
        config: of the resampler; None reads it off the tensors, with heads of 64 channels.

    Raises:
        InputError: missing or unknown tensors, or shapes that do not fit one another or the U-Net.
    """
    config = config or _config_of(tensors, source)
    widths, heads = map(tuple, cross_attention_shapes(unet))
    if config.token_width != unet.config.cross_attention_dim:
        raise InputError(
            f"{source} gives tokens of width {config.token_width}, the U-Net attends to tokens of "
            f"width {unet.config.cross_attention_dim}; take an adapter of this backbone."
        )
    places = {str(place): layer for layer, place in enumerate(processor_indices(unet).values())}
    renamed = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"image_proj\.layers\.(\d+)\.(0|1\.0|1\.1|1\.3)\.([a-z].*)", name):
            name = f"resampler.layers.{match[1]}.{_OURS[match[2]]}.{match[3]}"
        elif name.startswith("image_proj."):
            name = f"resampler.{name.removeprefix('image_proj.')}"
        elif match := re.fullmatch(r"ip_adapter\.(\d+)\.(to_[kv]_ip)\.weight", name):
            name = f"attention.{match[2]}.{places.get(match[1], match[1])}.weight"
        renamed[name] = tensor
    abstract = abstract_network(lambda rngs: ImageAdapter(config, widths, heads, rngs=rngs))
    return from_tensors(abstract, renamed, source, jnp.float32)


def load_image_adapter(name: str | Path, unet: UNet2DConditionModel) -> StoredImageAdapter:
    """An image adapter of this package, or a published file of IP-Adapter "plus".

    Args:
        name: folder of `save_image_adapter`, a shipped name ("image-adapter-tiny"), or a
            safetensors file in the layout of ip-adapter-plus_sd15.
        unet: the frozen U-Net that it is for.

    Raises:
        MissingFileError: it is not there.
        InputError: its tensors do not fit the layout or the U-Net.
    """
    path = Path(name)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(
                f"{path}: expected {_EXPECTED}; files of other kinds, such as pickles (.bin), are "
                "not read, so download the safetensors file."
            )
        adapter = adapter_of_tensors(load_safetensors(path), unet, str(path))
        return StoredImageAdapter(adapter, None, "penultimate", None)
    folder = here_or_shipped(name) or path
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise MissingFileError(
            f"{name}: no image adapter there; expected a folder with {CONFIG} and {WEIGHTS}, such "
            "as `neuroadapter train-image-adapter` writes, a shipped name, or "
            f"{_EXPECTED}."
        )
    raw = read_json(folder / CONFIG, "the settings of an image adapter")
    stored: _Config = as_type(_Config, raw, folder / CONFIG, "the settings of an image adapter")
    names = {field.name for field in dataclasses.fields(ResamplerConfig)}
    if stored["resampler"].keys() != names:
        raise InputError(
            f"{folder / CONFIG}: resampler has the keys {', '.join(sorted(stored['resampler']))}; "
            f"expected {', '.join(sorted(names))}, so copy the folder again."
        )
    config = ResamplerConfig(**stored["resampler"])
    tensors = load_safetensors(folder / WEIGHTS)
    adapter = adapter_of_tensors(tensors, unet, str(folder / WEIGHTS), config)
    return StoredImageAdapter(
        adapter, stored["embedder"], stored["kind"], stored["embedder_fingerprint"]
    )


def save_image_adapter(
    folder: str | Path,
    adapter: ImageAdapter,
    unet: UNet2DConditionModel,
    *,
    embedder: str,
    kind: str,
    embedder_fingerprint: str,
    dtype: Any = np.float16,
    **known: Any,
) -> None:
    """Write config.json and image_adapter.safetensors, the latter in the published layout.

    Args:
        folder: to write.
        adapter: to write.
        unet: whose layers it serves.
        embedder: folder or shipped name of the image encoder.
        kind: of the embedding.
        embedder_fingerprint: of the image encoder.
        dtype: of the weights.
        known: JSON values that join config.json, such as how it was trained.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.astype(dtype) for k, v in published_tensors(adapter, unet).items()}
    write_safetensors(folder / WEIGHTS, tensors)
    write_json(
        folder / CONFIG,
        {
            "resampler": dataclasses.asdict(adapter.resampler.config),
            "embedder": embedder,
            "kind": kind,
            "embedder_fingerprint": embedder_fingerprint,
            **known,
        },
    )


def _config_of(tensors: dict[str, np.ndarray], source: str) -> ResamplerConfig:
    needed = ("latents", "proj_in.weight", "proj_out.weight", "layers.0.0.to_q.weight")
    lacking = [name for name in needed if f"image_proj.{name}" not in tensors]
    if lacking:
        raise InputError(
            f"{source}: lacks image_proj.{lacking[0]}; expected {_EXPECTED}; the other IP-Adapters "
            "have another projection, so take a plus file."
        )
    latents, first, last, to_q = (tensors[f"image_proj.{name}"] for name in needed)
    blocks = [re.match(r"image_proj\.layers\.(\d+)\.", name) for name in tensors]
    return ResamplerConfig(
        embedding_width=first.shape[1],
        width=first.shape[0],
        depth=1 + max(int(match[1]) for match in blocks if match),
        heads=to_q.shape[0] // _PUBLISHED_HEAD,
        head_width=_PUBLISHED_HEAD,
        queries=latents.shape[1],
        token_width=last.shape[0],
    )
