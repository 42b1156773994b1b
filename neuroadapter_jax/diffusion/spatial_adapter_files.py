"""T2I-Adapter's files: diffusers' layout, TencentARC's own, and this package's shipped ones."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapter, SpatialAdapterConfig
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    from_tensors,
    load_safetensors,
    to_tensors,
    weights_in,
    write_safetensors,
)
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import write_json
from neuroadapter_jax.readers import as_type, read_json

_CONFIG, _STEM = "config.json", "diffusion_pytorch_model"
_CLASS = "SpatialAdapter"
_EXPECTED = "the sizes of a T2I-Adapter"


def load_spatial_adapter(name: str | Path, dtype: Any = jnp.float32) -> SpatialAdapter:
    """A spatial adapter of a file or folder.

    Read are a folder in diffusers' layout (config.json of `T2IAdapter` beside
    diffusion_pytorch_model.safetensors), a folder that `save_spatial_adapter` wrote, the name of a
    shipped one, and a single .safetensors file in TencentARC's layout, whose tensors say the sizes.

    Args:
        name: the folder, the shipped name or the file. Pickled files (.pth) are not read.
        dtype: of the parameters.

    Raises:
        MissingFileError: it is not there.
        InputError: another kind of adapter, such as that of SDXL, or tensors that do not fit.
        NotFiniteError: a tensor that holds NaN or infinite numbers.
    """
    path = Path(name)
    if path.is_file():
        return _load_original(path, dtype)
    folder = next((f for f in (path, ASSETS / path) if (f / _CONFIG).is_file()), None)
    if folder is None:
        raise MissingFileError(
            f"Spatial adapter {str(name)!r}: no such file, and no folder here or in the package "
            f"with {_CONFIG}; give a folder in diffusers' layout or a .safetensors file of "
            "T2I-Adapter."
        )
    config = _read_config(folder / _CONFIG)
    weights = weights_in(folder, _STEM)
    if weights is None:
        raise MissingFileError(
            f"{folder / _STEM}.safetensors: not found; expected the weights beside {_CONFIG}."
        )
    return _filled(config, load_safetensors(weights), weights, dtype)


def save_spatial_adapter(
    folder: str | Path, adapter: SpatialAdapter, dtype: Any = np.float32
) -> None:
    """Write an adapter: config.json and diffusion_pytorch_model.safetensors.

    diffusers reads a "full" one, and a "light" one whose last two levels are equally wide, which
    is all that its class can express; another is read by this package alone.

    Args:
        folder: to write.
        adapter: to write.
        dtype: of the stored weights.
    """
    folder, config = Path(folder), adapter.config
    folder.mkdir(parents=True, exist_ok=True)
    channels = list(config.channels)
    light = config.kind == "light"
    if light and channels[-2:] != channels[-1:] * 2:
        content: dict[str, Any] = {"_class_name": _CLASS, **dataclasses.asdict(config)}
    else:
        content = {
            "_class_name": "T2IAdapter",
            "adapter_type": f"{config.kind}_adapter",
            "channels": channels[:-1] if light else channels,
            "downscale_factor": config.downscale,
            "in_channels": config.in_channels,
            "num_res_blocks": config.num_res_blocks,
        }
    write_safetensors(folder / f"{_STEM}.safetensors", to_tensors(adapter, dtype))
    write_json(folder / _CONFIG, content)


def _read_config(path: Path) -> SpatialAdapterConfig:
    content = read_json(path, _EXPECTED)
    values = {key: value for key, value in content.items() if not key.startswith("_")}
    if content.get("_class_name") == _CLASS:
        return as_type(SpatialAdapterConfig, values, path, _EXPECTED)
    kind = values.pop("adapter_type", "full_adapter")
    if kind not in ("full_adapter", "light_adapter"):
        raise InputError(
            f"{path}: adapter_type is {kind!r}; expected 'full_adapter' or 'light_adapter', the "
            "kinds of Stable Diffusion 1.x."
        )
    light = kind == "light_adapter"
    default = (320, 640, 1280) if light else (320, 640, 1280, 1280)
    channels = as_type(tuple[int, ...], values.pop("channels", default), path, _EXPECTED)
    named = {"downscale_factor": "downscale"}
    sizes = {"kind": kind.removesuffix("_adapter")}
    sizes |= {named.get(key, key): value for key, value in values.items()}
    sizes["channels"] = list(channels + channels[-1:] if light else channels)
    sizes.setdefault("num_res_blocks", 2)
    return as_type(SpatialAdapterConfig, sizes, path, _EXPECTED)


def _filled(
    config: SpatialAdapterConfig, tensors: dict[str, np.ndarray], source: Path, dtype: Any
) -> SpatialAdapter:
    with reading(source, "sizes of which a network can be made"):
        abstract = abstract_network(lambda rngs: SpatialAdapter(config, rngs=rngs))
    return from_tensors(abstract, tensors, str(source), dtype)


def _load_original(path: Path, dtype: Any) -> SpatialAdapter:
    """TencentARC's: `Adapter` with ksize 1, sk and average pools, or `Adapter_light`."""
    if path.suffix != ".safetensors":
        raise InputError(
            f"{path} is no .safetensors file; pickled files can run code when they are read, so "
            "expected T2I-Adapter's weights as safetensors, or a folder in diffusers' layout."
        )
    tensors = load_safetensors(path)
    tensors = {name.removeprefix("adapter."): value for name, value in tensors.items()}
    numbers = [int(m[1]) for name in tensors if (m := re.match(r"body\.(\d+)\.", name))]
    if not numbers or any(x.ndim not in (1, 4) for x in tensors.values()):
        raise InputError(
            f"{path} holds no T2I-Adapter ({', '.join(sorted(tensors)[:3])} ...); expected "
            "tensors such as body.0.block1.weight."
        )
    light = "conv_in.weight" not in tensors
    renamed = _of_light(tensors) if light else _of_full(tensors, path)
    levels = 1 + max(int(name.split(".")[2]) for name in renamed if ".body." in name)
    last = "out_conv" if light else "resnets.0.block2"
    first = renamed.get("adapter.body.0.in_conv.weight" if light else "adapter.conv_in.weight")
    outs = [renamed.get(f"adapter.body.{i}.{last}.weight") for i in range(levels)]
    blocks = {name.split(".")[4] for name in renamed if ".resnets." in name}
    if first is None or not blocks or any(x is None for x in outs):
        raise InputError(
            f"{path} lacks tensors of a T2I-Adapter, such as those of body.0; copy the file again."
        )
    config = SpatialAdapterConfig(
        kind="light" if light else "full",
        in_channels=max(first.shape[1] // 64, 1),
        channels=tuple(int(x.shape[0]) for x in outs if x is not None),
        num_res_blocks=len(blocks),
        downscale=8,
    )
    return _filled(config, renamed, path, dtype)


def _of_light(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    inner = re.compile(r"^(body\.\d+)\.body\.")
    return {"adapter." + inner.sub(r"\1.resnets.", name): x for name, x in tensors.items()}


def _of_full(tensors: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """body.{level * blocks + j} -> body.{level}.resnets.{j}; a level begins where the width does.

    The last two levels of Stable Diffusion's are equally wide, so that the number of blocks is
    taken from where the second level begins.
    """
    begins = sorted(
        int(m[1]) for name in tensors if (m := re.match(r"body\.(\d+)\.in_conv\.weight$", name))
    )
    count = 1 + max(
        int(m[1]) for name in tensors if (m := re.match(r"body\.(\d+)\.block1\.", name))
    )
    per_level = begins[0] if begins else count
    if not per_level or count % per_level or any(b % per_level for b in begins):
        raise InputError(
            f"{path}: {count} blocks of a T2I-Adapter, whose width changes at {begins}; expected "
            "as many blocks in each level."
        )
    renamed = {}
    for name, value in tensors.items():
        head, _, rest = name.partition(".")
        if head != "body":
            renamed[f"adapter.{name}"] = value
            continue
        number, _, rest = rest.partition(".")
        level, j = divmod(int(number), per_level)
        place = rest if rest.startswith("in_conv.") else f"resnets.{j}.{rest}"
        renamed[f"adapter.body.{level}.{place}"] = value
    return renamed
