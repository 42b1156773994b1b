"""Model folders in the diffusers layout: config.json beside safetensors, read strictly."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16, which safetensors files may hold)
import numpy as np
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL

ASSETS = Path(__file__).parent.parent / "assets"
_CLASSES = {
    "unet": (UNet2DConditionModel, "diffusion_pytorch_model.safetensors"),
    "vae": (AutoencoderKL, "diffusion_pytorch_model.safetensors"),
    "text_encoder": (CLIPTextModel, "model.safetensors"),
}
# A config field that this code fixes, and the only value under which it computes the same.
_FIXED = {
    "unet": {
        "use_linear_projection": False,
        "only_cross_attention": False,
        "dual_cross_attention": False,
        "class_embed_type": None,
        "addition_embed_type": None,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "act_fn": "silu",
        "resnet_time_scale_shift": "default",
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "downsample_padding": 1,
        "center_input_sample": False,
    },
    "vae": {"act_fn": "silu", "mid_block_add_attention": True, "use_quant_conv": True},
    "text_encoder": {},
}
_IGNORED_TENSORS = ("text_model.embeddings.position_ids",)


class Backbone(NamedTuple):
    """A Stable Diffusion 1.x model: its networks, noise schedule and folder."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    schedule: NoiseSchedule
    folder: Path


def backbone_folder(name: str | Path) -> Path:
    """The folder of a backbone: a path, or the name of one shipped in the package.

    Raises:
        FileNotFoundError: neither a folder with model_index.json nor a shipped name.
    """
    for folder in (Path(name), ASSETS / name):
        if (folder / "model_index.json").is_file():
            return folder
    shipped = sorted(p.parent.name for p in ASSETS.glob("*/model_index.json"))
    raise FileNotFoundError(
        f"Backbone {str(name)!r}: no folder with a model_index.json (diffusers layout) and not "
        f"one of the shipped {shipped}; give a local folder or one of these names."
    )


def tensor_name(path: tuple) -> str:
    """PyTorch's name of an NNX parameter path: kernel, scale, embedding are 'weight'."""
    *parents, leaf = (str(part) for part in path)
    leaf = {"kernel": "weight", "scale": "weight", "embedding": "weight"}.get(leaf, leaf)
    return ".".join([*parents, leaf])


def _to_torch(path: tuple, value: np.ndarray) -> np.ndarray:
    if path[-1] == "kernel":
        value = value.T if value.ndim == 2 else value.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value)


def _from_torch(path: tuple, value: np.ndarray) -> np.ndarray:
    if path[-1] == "kernel":
        value = value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)
    return value


def _torch_shape(path: tuple, shape: tuple[int, ...]) -> tuple[int, ...]:
    if path[-1] != "kernel":
        return tuple(shape)
    return shape[::-1] if len(shape) == 2 else (shape[3], shape[2], shape[0], shape[1])


def parameter_shapes(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """PyTorch's name and shape of every parameter; works on abstract modules too."""
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {tensor_name(path): _torch_shape(path, leaf.shape) for path, leaf in flat}


def to_tensors(module: nnx.Module, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Every parameter under PyTorch's name, in PyTorch's axis order."""
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {
        tensor_name(path): _to_torch(path, np.asarray(leaf[...])).astype(dtype)
        for path, leaf in flat
    }


def from_tensors(abstract: nnx.Module, tensors: dict[str, np.ndarray], source: str, dtype: Any):
    """Fill an abstract module: each tensor used once, each parameter filled, each shape checked.

    Args:
        abstract: a module made under `nnx.eval_shape`.
        tensors: arrays under PyTorch's names, in PyTorch's axis order.
        source: name for messages.
        dtype: of the parameters.

    Raises:
        ValueError: missing or unknown tensors, or a shape that differs; all are named.
    """
    graph, state = nnx.split(abstract)
    flat = nnx.to_flat_state(state)
    wanted = {tensor_name(path): (path, leaf) for path, leaf in flat}
    found = {name for name in tensors if name not in _IGNORED_TENSORS}
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found)]
    problems += [f"unknown {name}" for name in sorted(found - wanted.keys())]
    for name in sorted(wanted.keys() & found):
        path, leaf = wanted[name]
        expected = _torch_shape(path, leaf.shape)
        if tuple(tensors[name].shape) != expected:
            problems.append(f"{name} is {tuple(tensors[name].shape)}, expected {expected}")
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise ValueError(
            f"{source}: {len(problems)} tensor(s) do not fit the configuration: {shown}. "
            "Check that config.json and the weights belong together."
        )
    filled = [
        (path, leaf.replace(jnp.asarray(_from_torch(path, tensors[name]), dtype)))
        for name, (path, leaf) in wanted.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def load_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


# The autoencoder's attention before diffusers 0.15; Stable Diffusion 1.5's own file has these.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current_name(component: str, name: str) -> str:
    """The name that this package uses of a tensor in a file by an old diffusers or transformers 5.

    transformers 5 writes a text encoder without the leading "text_model.".
    """
    if component == "text_encoder" and not name.startswith("text_model."):
        return f"text_model.{name}"
    head, _, leaf = name.rpartition(".")
    parent, _, layer = head.rpartition(".")
    if component == "vae" and ".attentions." in parent and layer in _OLD_ATTENTION:
        return f"{parent}.{_OLD_ATTENTION[layer]}.{leaf}"
    return name


def read_config(path: Path, cls: type, fixed: dict[str, Any] | None = None):
    """A config dataclass from a diffusers or transformers config.json; other fields are ignored.

    Raises:
        ValueError: a field of `fixed` with another value than the one this code computes.
    """
    try:
        raw = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON ({error}); copy the file again.") from None
    for key, value in (fixed or {}).items():
        if raw.get(key, value) not in (value, None):
            raise ValueError(
                f"{path}: {key} is {raw[key]!r}, expected {value!r}; only Stable Diffusion 1.x "
                "networks are supported."
            )
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in raw.items() if k in names})


def abstract_component(folder: str | Path, name: str) -> nnx.Module:
    """A component with its shapes only; allocates no array."""
    cls, _ = _CLASSES[name]
    path = Path(folder) / name / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not found; expected a folder in the diffusers layout.")
    config = read_config(path, cls.config_class, _FIXED[name])
    return nnx.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0)))


def load_component(folder: str | Path, name: str, dtype: Any = jnp.float32) -> nnx.Module:
    """Load "unet", "vae" or "text_encoder" of a backbone folder (or shipped name).

    Raises:
        FileNotFoundError: a file is not there. ValueError: it does not fit, see `from_tensors`.
    """
    folder = backbone_folder(folder)
    abstract = abstract_component(folder, name)
    weights = folder / name / _CLASSES[name][1]
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights}: not found; expected the weights as safetensors (pickled .bin files are "
            "not read)."
        )
    tensors = {current_name(name, k): v for k, v in load_safetensors(weights).items()}
    return from_tensors(abstract, tensors, str(weights), dtype)


def load_schedule(folder: str | Path) -> NoiseSchedule:
    """The noise schedule of a backbone folder (scheduler/scheduler_config.json)."""
    path = backbone_folder(folder) / "scheduler" / "scheduler_config.json"
    return read_config(path, NoiseSchedule)


def load_pretrained(folder: str | Path, dtype: Any = jnp.float32) -> Backbone:
    """Load a whole backbone from a diffusers folder or a shipped name ("tiny-sd")."""
    folder = backbone_folder(folder)
    return Backbone(
        *(load_component(folder, name, dtype) for name in ("unet", "vae", "text_encoder")),
        load_schedule(folder),
        folder,
    )


def write_json(path: Path, content: dict) -> None:
    """Write JSON atomically."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(temporary, path)


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write safetensors atomically."""
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
    os.replace(temporary, path)


_EXTRA_CONFIG = {
    "unet": {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": False}
    | {"flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1},
    "vae": {"_class_name": "AutoencoderKL", "act_fn": "silu"},
    "text_encoder": {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"},
}


def save_component(
    module: nnx.Module, folder: str | Path, name: str, dtype: Any = np.float32, **extra: Any
) -> None:
    """Write a component as diffusers and transformers read it; `extra` joins config.json."""
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    config = dataclasses.asdict(module.config) | _EXTRA_CONFIG[name] | extra
    if name == "vae":
        levels = len(module.config.block_out_channels)
        config["down_block_types"] = ["DownEncoderBlock2D"] * levels
        config["up_block_types"] = ["UpDecoderBlock2D"] * levels
    write_safetensors(target / _CLASSES[name][1], to_tensors(module, dtype))
    write_json(target / "config.json", config)


def num_parameters(module: nnx.Module) -> int:
    """Number of trainable scalars of a module, abstract or not."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
