"""LoRA files: diffusers' layout both ways, and those of peft, kohya and older diffusers in."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import safe_open

from neuroadapter_jax.diffusion.lora import Lora, layer_kernels, with_lora
from neuroadapter_jax.diffusion.weights import Backbone, load_safetensors, write_safetensors
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.finite import require_finite_tensors

LORA = "lora.safetensors"
# What a file calls the two matrices: kohya's words, peft's, diffusers'.
_DOWN = ("lora_down", "lora_A", "lora_A.default", "lora.down")
_UP = ("lora_up", "lora_B", "lora_B.default", "lora.up")
_PREFIXES = ("base_model.model.", "unet.")
_KOHYA = "lora_unet_"
_TEXT = ("text_encoder", "lora_te")
_OTHER_KINDS = {
    "lora_mid": "LoCon with a core (lora_mid)",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_magnitude_vector": "DoRA",
    "dora_scale": "DoRA",
    "lora_embedding_": "a LoRA of embeddings",
    "lora_B.bias": "a LoRA with biases",
}
# The oldest diffusers: ...attn1.processor.to_q_lora.down.weight
_PROCESSOR = re.compile(r"\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)$")
_METADATA = "lora_adapter_metadata"


class _Layer(NamedTuple):
    down: np.ndarray
    up: np.ndarray
    scale: float


def read_lora(path: str | Path, module: nnx.Module) -> Lora:
    """The LoRA in a safetensors file, for a U-Net.

    Read are diffusers' files of both layouts (`unet.NAME.lora.down.weight` and
    `unet.NAME.lora_A.weight`), peft's own adapter files, kohya's of diffusers' names
    (`lora_unet_NAME.lora_down.weight` beside `.alpha`), which is how the LCM-LoRA of Stable
    Diffusion 1.5 is published, and those of the first diffusers (`NAME.processor.to_q_lora...`). A
    layer's scale is alpha / r, with alpha from the file, its metadata or adapter_config.json beside
    it; where none of them says, it is 1.

    Args:
        path: the file.
        module: the U-Net that it changes; an abstract one will do.

    Raises:
        MissingFileError: there is no such file.
        InputError: it holds no LoRA, one of another network, or what cannot be added to a U-Net's
            kernels, such as changes of the text encoder.
        NotFiniteError: it holds NaN or infinite numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: not found; expected a LoRA as safetensors, such as diffusers' "
            "pytorch_lora_weights.safetensors."
        )
    tensors = load_safetensors(path)
    require_finite_tensors(tensors, str(path), "copy or download the file again")
    names = {name.replace(".", "_"): name for name in layer_kernels(module)}
    found, alphas = _sorted_parts(tensors, names, path)
    settings = _adapter_settings(path)
    layers = {
        name: _layer(name, parts, alphas.get(name), settings, path) for name, parts in found.items()
    }
    down: dict[str, np.ndarray] = {}
    up: dict[str, np.ndarray] = {}
    scales: list[tuple[str, float]] = []
    problems: list[str] = []
    shapes = layer_kernels(module)
    for name, layer in sorted(layers.items()):
        if name not in shapes:
            problems.append(f"unknown layer {name}")
            continue
        try:
            down[name], up[name] = _as_kernels(layer, shapes[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
        if layer.scale != 1.0:
            scales.append((name, layer.scale))
    if problems:
        shown = "; ".join(problems[:5]) + ("; ..." if len(problems) > 5 else "")
        raise InputError(
            f"{path}: {len(problems)} of {len(layers)} layers do not fit the U-Net: {shown}; take "
            "a LoRA of this very model (one of SDXL does not fit Stable Diffusion 1.5) whose "
            "layers are named as diffusers names them."
        )
    return Lora(
        {name: jnp.asarray(x, jnp.float32) for name, x in down.items()},
        {name: jnp.asarray(x, jnp.float32) for name, x in up.items()},
        tuple(scales),
    )


def _sorted_parts(
    tensors: Mapping[str, np.ndarray], names: Mapping[str, str], path: Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Layer's name -> {"down": ..., "up": ...}, and layer's name -> alpha."""
    found: dict[str, dict[str, np.ndarray]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        for mark, kind in _OTHER_KINDS.items():
            if mark in key:
                raise InputError(
                    f"{path}: {key} is part of {kind}, which is not read; expected a plain LoRA, "
                    "two matrices a layer."
                )
        if key.startswith(_TEXT):
            raise InputError(
                f"{path}: {key} changes the text encoder, which sees the empty prompt alone here; "
                "expected a LoRA of the U-Net, so save it without its text encoder's part."
            )
        if key.endswith(".alpha"):
            if tensor.size != 1:
                raise InputError(f"{path}: {key} holds {tensor.size} numbers; expected one.")
            alphas[_layer_name(key.removesuffix(".alpha"), names)] = float(tensor.reshape(()))
            continue
        stem, part = _split(key)
        if part is None:
            raise InputError(
                f"{path}: {key} is no part of a LoRA; expected names such as "
                "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight."
            )
        own = found.setdefault(_layer_name(stem, names), {})
        if part in own:
            raise InputError(f"{path}: {key} is in the file under two names; expected one of them.")
        own[part] = tensor
    if not found:
        raise InputError(f"{path} holds no tensor; expected a LoRA's two matrices a layer.")
    if odd := sorted(alphas.keys() - found.keys()):
        raise InputError(f"{path}: alpha of {odd[0]}, whose matrices are not in the file.")
    return found, alphas


def _split(key: str) -> tuple[str, str | None]:
    """A tensor's layer, and which of its two matrices it is; None for neither."""
    stem = key.removesuffix(".weight")
    if match := _PROCESSOR.search(stem):
        layer = "to_out.0" if match[1] == "to_out" else match[1]
        return f"{stem[: match.start()]}.{layer}", match[2]
    for part, ends in (("down", _DOWN), ("up", _UP)):
        for end in ends:
            if stem.endswith(f".{end}") and stem != key:
                return stem.removesuffix(f".{end}"), part
    return stem, None


def _layer_name(stem: str, names: Mapping[str, str]) -> str:
    if stem.startswith(_KOHYA):
        return names.get(stem.removeprefix(_KOHYA), stem)
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    return stem


def _layer(
    name: str,
    parts: Mapping[str, np.ndarray],
    alpha: float | None,
    settings: Mapping[str, Any],
    path: Path,
) -> _Layer:
    if len(parts) != 2:
        lacking = "second (up)" if "down" in parts else "first (down)"
        raise InputError(f"{path}: the {lacking} matrix of {name} is missing; copy it again.")
    rank, found = parts["down"].shape[0] if parts["down"].ndim else 0, parts["up"].shape
    if len(found) < 2 or rank != found[1]:
        raise InputError(
            f"{path}: the matrices of {name} are {parts['down'].shape} and {found}; expected "
            "[r, inputs] and [outputs, r]."
        )
    if alpha is None:
        alpha = _alpha_of(name, rank, settings)
    root = settings.get("use_rslora")
    return _Layer(parts["down"], parts["up"], alpha / (rank**0.5 if root else rank))


def _alpha_of(name: str, rank: int, settings: Mapping[str, Any]) -> float:
    """What peft's settings say of a layer, whose patterns are ends of names."""
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return float(alpha)
    alpha = settings.get("lora_alpha")
    return float(rank if alpha is None else alpha)


def _adapter_settings(path: Path) -> dict[str, Any]:
    """peft's settings, in the file's metadata or in adapter_config.json beside peft's own file."""
    with reading(path, "weights (safetensors)"), safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(_METADATA)
    beside = path.parent / "adapter_config.json"
    if text is None and path.name.startswith("adapter_model") and beside.is_file():
        path, text = beside, beside.read_text(encoding="utf-8")
    if text is None:
        return {}
    with reading(path, "settings of peft as JSON"):
        values = json.loads(text)
        values = {key.removeprefix("unet."): value for key, value in dict(values).items()}
        float(values.get("lora_alpha") or 0)
    if values.get("use_dora"):
        raise InputError(f"{path} says use_dora; expected a plain LoRA, two matrices a layer.")
    return values


def _as_kernels(layer: _Layer, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices in this package's axis order, for a kernel of this shape.

    Raises:
        ValueError: they make a kernel of another shape.
    """
    down, up = layer.down, layer.up
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up[:, :, 0, 0]
    if len(shape) == 2 and down.ndim == 4 and down.shape[2:] == (1, 1):
        down = down[:, :, 0, 0]
    if len(shape) == 4 and down.ndim == 2:
        down = down[:, :, None, None]
    down = down.T if down.ndim == 2 else down.transpose(2, 3, 1, 0) if down.ndim == 4 else down
    if down.shape[:-1] != shape[:-1] or up.ndim != 2 or up.shape[0] != shape[-1]:
        raise ValueError(
            f"matrices {layer.down.shape} and {layer.up.shape}, expected to make a kernel "
            f"{shape[::-1] if len(shape) == 2 else (shape[3], shape[2], *shape[:2])}"
        )
    return down, up.T


def lora_tensors(lora: Lora, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """The tensors of a file that diffusers' `load_lora_weights` reads, each scale in `up`.

    Args:
        lora: of a U-Net.
        dtype: of the tensors.
    """
    scales, tensors = dict(lora.scales), {}
    for name in sorted(lora.down):
        down, up = np.asarray(lora.down[name]), np.asarray(lora.up[name])
        up = scales.get(name, 1.0) * up.T
        if down.ndim == 4:
            down, up = down.transpose(3, 2, 0, 1), up[:, :, None, None]
        else:
            down = down.T
        tensors[f"unet.{name}.lora_A.weight"] = np.ascontiguousarray(down, dtype)
        tensors[f"unet.{name}.lora_B.weight"] = np.ascontiguousarray(up, dtype)
    return tensors


def write_lora(path: str | Path, lora: Lora, dtype: Any = np.float32) -> None:
    """Write a LoRA of a U-Net in diffusers' layout, whole or not at all.

    Args:
        path: the file, such as pytorch_lora_weights.safetensors.
        lora: of a U-Net.
        dtype: of the tensors, float32 or float16.

    Raises:
        NotFiniteError: an array holds NaN or infinite numbers.
    """
    write_safetensors(Path(path), lora_tensors(lora, dtype))


def backbone_with_lora(backbone: Backbone, lora: Lora) -> Backbone:
    """The same backbone with a LoRA added to its U-Net.

    Args:
        backbone: without a LoRA.
        lora: of its U-Net.

    Raises:
        InputError: the backbone has a LoRA already, or the LoRA is one of another U-Net.
    """
    if backbone.lora is not None:
        raise InputError(
            "The U-Net has a LoRA already, and holds one at a time; load the model without "
            f"its {LORA}, or name the one that it was made from."
        )
    return backbone._replace(unet=with_lora(backbone.unet, lora), lora=lora)
