"""Model folders in the diffusers layout: config.json beside safetensors, read strictly."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16, which safetensors files may hold)
import numpy as np
from flax import nnx
from safetensors import safe_open
from safetensors.numpy import save
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.config_files import (
    SCHEDULE_FILE,
    check_backbone,
    component_config,
    read_schedule,
)
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import ASSETS as ASSETS  # where examples and tests find it
from neuroadapter_jax.files import inside, write_file, write_json
from neuroadapter_jax.finite import require_finite_tensors
from neuroadapter_jax.hub.snapshots import is_hub_id, snapshot
from neuroadapter_jax.readers import read_json

_CLASSES: dict[str, tuple[Any, str]] = {
    "unet": (UNet2DConditionModel, "diffusion_pytorch_model"),
    "vae": (AutoencoderKL, "diffusion_pytorch_model"),
    "text_encoder": (CLIPTextModel, "model"),
}
COMPONENTS = tuple(_CLASSES)
_RANDOM = "random"
_Module = TypeVar("_Module", bound=nnx.Module)
_IGNORED_TENSORS = ("text_model.embeddings.position_ids",)


class Backbone(NamedTuple):
    """A Stable Diffusion 1.x model: its networks, noise schedule and folder.

    Attributes:
        unet: predicts the noise.
        vae: between images and latents.
        text_encoder: of which the pipeline uses the empty prompt alone.
        schedule: the noise schedule it was trained with.
        folder: where its files lie, in the diffusers layout.
        lora: the `lora.Lora` that was added to the U-Net's stored weights; None for none.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    schedule: NoiseSchedule
    folder: Path
    lora: Any = None


def backbone_folder(name: str | Path) -> Path:
    """The folder of a backbone, fetched from the Hub if it is neither here nor shipped.

    Args:
        name: a local folder, a name shipped in the package, or a Hub id "owner/model", which may
            name a branch, tag or commit ("owner/model@revision").
            "random" stands for Stable Diffusion 1.5's architecture with random weights, and
            "random:NAME" for the architecture of any such name; the folder is the architecture's.

    Raises:
        MissingFileError: no such folder or shipped name, and not available from the Hub.

    Examples:
        >>> from neuroadapter_jax.diffusion.weights import backbone_folder
        >>> backbone_folder("tiny-sd").name
        'tiny-sd'
    """
    kind, _, architecture = str(name).partition(":")
    if kind == _RANDOM and architecture:
        return backbone_folder(architecture)
    for folder in (Path(name), ASSETS / name):
        if (folder / "model_index.json").is_file():
            return folder
    shipped = sorted(p.parent.name for p in ASSETS.glob("*/model_index.json"))
    if is_hub_id(name):
        return _from_hub(str(name), shipped)
    raise MissingFileError(
        f"Backbone {str(name)!r}: no folder with a model_index.json (diffusers layout) and not "
        f"one of the shipped {shipped}; give a local folder, one of these names or a Hub id "
        "(owner/model)."
    )


def is_random(name: str | Path) -> bool:
    """Whether a name stands for an architecture with random weights: "random" or "random:NAME".

    Args:
        name: of a backbone.

    Examples:
        >>> from neuroadapter_jax.diffusion.weights import is_random
        >>> is_random("random:tiny-sd"), is_random("tiny-sd")
        (True, False)
    """
    return str(name).partition(":")[0] == _RANDOM


def _from_hub(name: str, shipped: list[str]) -> Path:
    def fetch(*patterns: str) -> Path:
        return snapshot(name, list(patterns))

    def weights(component: str, variant: str) -> list[str]:
        return [f"{component}/{file}" for file in weight_files(_CLASSES[component][1], variant)]

    try:
        folder = fetch(
            *("model_index.json", "scheduler/*.json", "tokenizer/*.json", "tokenizer/merges.txt"),
            *(f"{component}/config.json" for component in _CLASSES),
            *(pattern for component in _CLASSES for pattern in weights(component, "")),
        )
        if lacking := [c for c in _CLASSES if not find_weights(folder, c)]:
            fetch(*(pattern for component in lacking for pattern in weights(component, "fp16")))
    except Exception as error:  # whatever the network or the Hub answers with
        reason = str(error).strip().split("\n")[0]
        raise MissingFileError(
            f"Backbone {name!r}: no folder of this name here, not one of the shipped {shipped}, "
            f"and not available from the Hub ({type(error).__name__}: {reason}); check the name "
            "and the connection, or give a local folder in the diffusers layout."
        ) from error
    return folder


def weight_files(stem: str, variant: str = "") -> tuple[str, str, str]:
    """What the libraries call a network's weights: whole, index of shards, pattern of shards."""
    dot = f".{variant}" if variant else ""
    return (
        f"{stem}{dot}.safetensors",
        f"{stem}.safetensors.index{dot}.json",
        f"{stem}{dot}-*-of-*.safetensors",
    )


def find_weights(folder: Path, component: str) -> Path | None:
    """A component's safetensors file, or the index of its shards; float32 before float16."""
    return weights_in(folder / component, _CLASSES[component][1])


def weights_in(folder: Path, stem: str) -> Path | None:
    """The safetensors file of a stem in a folder, or the index of its shards; float32 first."""
    names = (name for variant in ("", "fp16") for name in weight_files(stem, variant)[:2])
    return next((p for name in names if (p := folder / name).is_file()), None)


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
    """PyTorch's name and shape of every parameter; works on abstract modules too.

    Args:
        module: any NNX module.

    Examples:
        >>> from flax import nnx
        >>> from neuroadapter_jax.diffusion.weights import parameter_shapes
        >>> parameter_shapes(nnx.Linear(3, 5, rngs=nnx.Rngs(0)))  # PyTorch has outputs first
        {'bias': (5,), 'weight': (5, 3)}
    """
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {tensor_name(path): _torch_shape(path, leaf.shape) for path, leaf in flat}


def to_tensors(module: nnx.Module, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """Every parameter under PyTorch's name, in PyTorch's axis order.

    Args:
        module: any NNX module of this package.
        dtype: of the tensors.
    """
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {
        tensor_name(path): _to_torch(path, np.asarray(leaf[...])).astype(dtype)
        for path, leaf in flat
    }


def from_tensors(abstract: nnx.Module, tensors: dict[str, np.ndarray], source: str, dtype: Any):
    """Fill an abstract module: each tensor used once, each parameter filled, each shape checked.

    Args:
        abstract: a module of `abstract_network`.
        tensors: arrays under PyTorch's names, in PyTorch's axis order.
        source: name for messages.
        dtype: of the parameters.

    Raises:
        InputError: missing or unknown tensors, or a shape that differs; all are named.
        NotFiniteError: a tensor that holds NaN or infinite numbers.
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
        if not jnp.issubdtype(tensors[name].dtype, jnp.floating):
            problems.append(f"{name} holds {tensors[name].dtype}, expected floating-point numbers")
    if problems:
        shown = "; ".join(problems[:10]) + ("; ..." if len(problems) > 10 else "")
        raise InputError(
            f"{source}: {len(problems)} tensor(s) do not fit the configuration: {shown}; "
            "copy config.json and the weights again, together."
        )
    require_finite_tensors(tensors, source, "copy or download the file again")
    filled = [
        (path, leaf.replace(jnp.asarray(_from_torch(path, tensors[name]), dtype)))
        for name, (path, leaf) in wanted.items()
    ]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def load_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a safetensors file, or of the shards that an index (.json) names.

    Args:
        path: a .safetensors file, or an index of shards (.json).

    Raises:
        MissingFileError: a shard is not there.
        InputError: a shard lacks a tensor of the index.
    """
    if path.suffix == ".json":
        return _load_shards(path)
    with reading(path, "weights (safetensors)"), safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}


class _ShardIndex(TypedDict):
    weight_map: dict[str, str]


def _shard_of_tensors(index: Path) -> dict[str, str]:
    return read_json(index, "an index of weights in several files", _ShardIndex)["weight_map"]


def list_shards(index: Path) -> list[Path]:
    """The files that an index of shards names, in the order of their names.

    Raises:
        InputError: it is no such index, or a name leads out of its folder.
    """
    shards = sorted(set(_shard_of_tensors(index).values()))
    paths = [inside(index.parent, shard, index) for shard in shards]
    if lacking := [path for path in paths if not path.is_file()]:
        raise MissingFileError(
            f"{lacking[0]}: not found, but {index.name} beside it names it; copy all shards."
        )
    return paths


def _load_shards(index: Path) -> dict[str, np.ndarray]:
    places = _shard_of_tensors(index)
    tensors: dict[str, np.ndarray] = {}
    for path in list_shards(index):
        found = load_safetensors(path)
        listed = {name for name, place in places.items() if index.parent / place == path}
        if differing := sorted(listed ^ found.keys()):
            raise InputError(
                f"{path}: {index.name} beside it lists other tensors in this file "
                f"({', '.join(differing[:5])}); copy index and shards again, together."
            )
        tensors |= found
    return tensors


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


def current_tensors(
    component: str, tensors: dict[str, np.ndarray], source: str
) -> dict[str, np.ndarray]:
    """Tensors of a file `source` under the names and in the shapes that this package uses.

    The autoencoder's attention was written as 1 x 1 convolutions before it was linear.

    Raises:
        InputError: two tensors of the file are the same one of the network.
    """
    current = {}
    for name, tensor in tensors.items():
        new = current_name(component, name)
        if new in current:
            raise InputError(
                f"{source}: holds {new} under its old and its current name; only one is expected."
            )
        if component == "vae" and ".attentions." in new and tensor.shape[2:] == (1, 1):
            tensor = tensor[:, :, 0, 0]
        current[new] = tensor
    return current


def abstract_component(folder: str | Path, name: str) -> nnx.Module:
    """A component with its shapes only; allocates no array."""
    cls, config = _CLASSES[name][0], component_config(folder, name)
    with reading(Path(folder) / name / "config.json", "sizes of which a network can be made"):
        return abstract_network(lambda rngs: cls(config, rngs=rngs))


def load_component(backbone: str | Path, name: str, dtype: Any = jnp.float32) -> nnx.Module:
    """Load "unet", "vae" or "text_encoder" of a backbone.

    Args:
        backbone: a folder, a shipped name, a Hub id, or "random:NAME"; see `backbone_folder`.
        name: of the component.
        dtype: of its parameters.

    Raises:
        MissingFileError: a file is not there.
        InputError: missing or unknown tensors, or one of another shape; all are named.
        NotFiniteError: a tensor that holds NaN or infinite numbers.

    Examples:
        >>> from neuroadapter_jax.diffusion.weights import load_component
        >>> load_component("tiny-sd", "vae").config.downscale
        4
    """
    folder = backbone_folder(backbone)
    abstract = abstract_component(folder, name)
    if is_random(backbone):
        return random_parameters(abstract, list(_CLASSES).index(name), dtype)
    weights = find_weights(folder, name)
    if weights is None:
        raise MissingFileError(
            f"{folder / name / _CLASSES[name][1]}.safetensors: not found, nor its fp16 variant or "
            "an index of shards; expected the weights as safetensors (pickled .bin files are not "
            "read)."
        )
    tensors = current_tensors(name, load_safetensors(weights), str(weights))
    return from_tensors(abstract, tensors, str(weights), dtype)


def random_parameters(abstract: _Module, seed: int, dtype: Any = jnp.float32) -> _Module:
    """Random parameters that keep variances: U(-a, a), a = sqrt(3 / inputs); norms start at 1.

    NumPy draws them one by one, so that nothing is compiled and none is held twice.
    """
    rng = np.random.default_rng(seed)
    graph, state = nnx.split(abstract)

    def value_of(path: tuple, leaf: Any) -> Any:
        if len(leaf.shape) == 1:
            value = np.full(leaf.shape, float(path[-1] == "scale"), np.float32)
        else:
            inputs = leaf.shape[-1] if path[-1] == "embedding" else np.prod(leaf.shape[:-1])
            value = rng.random(leaf.shape, np.float32)
            value -= 0.5
            value *= 2 * np.sqrt(3.0 / inputs, dtype=np.float32)
        return leaf.replace(jnp.asarray(value, dtype))

    flat = [(path, value_of(path, leaf)) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def load_schedule(folder: str | Path) -> NoiseSchedule:
    """The noise schedule of a backbone folder (scheduler/scheduler_config.json).

    Args:
        folder: of the backbone.
    """
    return read_schedule(backbone_folder(folder) / SCHEDULE_FILE)


def load_pretrained(name: str | Path, dtype: Any = jnp.float32) -> Backbone:
    """Load a whole backbone: a folder, a shipped name, a Hub id or "random".

    Args:
        name: a folder, a shipped name such as "tiny-sd", a Hub id, or "random:NAME".
        dtype: of the parameters.

    Raises:
        MissingFileError: a file is not there.
        InputError: the networks do not fit one another, or weights do not fit their config.json.
        NotFiniteError: a tensor that holds NaN or infinite numbers.

    Examples:
        >>> from neuroadapter_jax.diffusion.weights import load_pretrained
        >>> backbone = load_pretrained("tiny-sd")
        >>> backbone.unet.config.sample_size, backbone.schedule.num_train_timesteps
        (16, 1000)
    """
    folder = backbone_folder(name)
    schedule = load_schedule(folder)
    check_backbone(folder)
    source = name if is_random(name) else folder
    parts: dict[str, Any] = {part: load_component(source, part, dtype) for part in _CLASSES}
    return Backbone(**parts, schedule=schedule, folder=folder)


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: the file.
        tensors: by name.

    Raises:
        NotFiniteError: a tensor that holds NaN or infinite numbers.
    """
    require_finite_tensors(tensors, str(path), "train again, or write float32 weights")
    content = save(tensors, metadata={"format": "pt"})
    write_file(path, lambda partial: partial.write_bytes(content))


_EXTRA_CONFIG: dict[str, dict[str, Any]] = {
    "unet": {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": False}
    | {"flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1},
    "vae": {"_class_name": "AutoencoderKL", "act_fn": "silu"},
    "text_encoder": {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"},
}


def save_component(
    module: nnx.Module, folder: str | Path, name: str, dtype: Any = np.float32, **extra: Any
) -> None:
    """Write a component as diffusers and transformers read it; `extra` joins config.json.

    Args:
        module: to write.
        folder: of the backbone.
        name: "unet", "vae" or "text_encoder".
        dtype: of the stored weights.
        extra: further keys of config.json.
    """
    target = Path(folder) / name
    target.mkdir(parents=True, exist_ok=True)
    shape: Any = module.config  # type: ignore[attr-defined] # each component has one
    config = dataclasses.asdict(shape) | _EXTRA_CONFIG[name] | extra
    if name == "vae":
        levels = len(shape.block_out_channels)
        config["down_block_types"] = ["DownEncoderBlock2D"] * levels
        config["up_block_types"] = ["UpDecoderBlock2D"] * levels
    write_safetensors(target / f"{_CLASSES[name][1]}.safetensors", to_tensors(module, dtype))
    write_json(target / "config.json", config)


def save_schedule(folder: str | Path, schedule: NoiseSchedule) -> None:
    """Write the schedule of a backbone, for DDIM, as diffusers reads it.

    Args:
        folder: of the backbone.
        schedule: to write.
    """
    values = dataclasses.asdict(schedule)
    del values["refused"]
    path = Path(folder) / SCHEDULE_FILE
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"_class_name": "DDIMScheduler"} | values)


def num_parameters(module: nnx.Module) -> int:
    """Number of trainable scalars of a module, abstract or not.

    Args:
        module: any NNX module.
    """
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
