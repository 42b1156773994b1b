"""DINOv2 folders in transformers' layout: config.json beside the weights, read strictly."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.config_files import read_config
from neuroadapter_jax.diffusion.identity import of_network, with_commit
from neuroadapter_jax.diffusion.weights import (
    ASSETS,
    from_tensors,
    load_safetensors,
    to_tensors,
    weight_files,
    weights_in,
    write_safetensors,
)
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.errors import MissingFileError, reading
from neuroadapter_jax.files import write_json
from neuroadapter_jax.hub.snapshots import is_hub_id, snapshot

_CONFIG, _STEM = "config.json", "model"
# Names before transformers 5, as the published files have them.
_OLD_NAMES = (
    (r"attention\.attention\.(query|key|value)\.", lambda m: f"attention.{m[1][0]}_proj."),
    (r"attention\.output\.dense\.", "attention.o_proj."),
    (r"mlp\.weights_out\.", "mlp.down_proj."),
)
_IGNORED = ("embeddings.mask_token",)  # for pre-training alone


def current_tensors(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors under the names of transformers 5; the two halves of a joint SwiGLU matrix apart."""
    current = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("dinov2.").removeprefix("dinov2_with_registers.")
        if name in _IGNORED:
            continue
        for pattern, new in _OLD_NAMES:
            name = re.sub(pattern, new, name)
        if "mlp.weights_in." in name:
            gate, up = np.split(tensor, 2)
            current[name.replace("weights_in", "gate_proj")] = gate
            current[name.replace("weights_in", "up_proj")] = up
        else:
            current[name] = tensor
    return current


def dinov2_folder(name: str | Path) -> Path:
    """The folder of a DINOv2 model, fetched from the Hub if it is neither here nor shipped.

    Args:
        name: a local folder, a name shipped in the package, or a Hub id such as
            "facebook/dinov2-base", which may name a revision ("facebook/dinov2-base@commit").

    Raises:
        MissingFileError: no such folder or shipped name, and not available from the Hub.
    """
    for folder in (Path(name), ASSETS / name):
        if (folder / _CONFIG).is_file() and weights_in(folder, _STEM):
            return folder
    reason = "no connection was tried, as this is no Hub id (owner/model)"
    if is_hub_id(name):
        try:
            return snapshot(str(name), [_CONFIG, *weight_files(_STEM)])
        except Exception as error:  # whatever the network or the Hub answers with
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    raise MissingFileError(
        f"DINOv2 model {str(name)!r}: no folder here or in the package with "
        f"{_CONFIG} and {_STEM}.safetensors (or an index of shards), and not available from the "
        f"Hub ({reason}); give a "
        "local folder in transformers' layout or check the name and the connection."
    )


def dinov2_identity(name: str | Path) -> dict[str, Any]:
    """What config.json says of a DINOv2 model beside its name; see `backbone_identity`.

    Raises:
        MissingFileError: it is not there.
    """
    folder = dinov2_folder(name)
    weights = weights_in(folder, _STEM)
    if weights is None:
        raise MissingFileError(f"{folder / _STEM}.safetensors: not found, nor an index of shards.")
    return with_commit(of_network(folder / _CONFIG, weights), folder)


def load_dinov2(name: str | Path, dtype: Any = jnp.float32) -> Dinov2Model:
    """A DINOv2 model, with or without registers, see `dinov2_folder`.

    Args:
        name: a folder, a shipped name such as "tiny-vit", or a Hub id.
        dtype: of the parameters.

    Raises:
        MissingFileError: it is not there. InputError: the weights do not fit config.json, or its
            activation is not the one this code computes.
    """
    folder = dinov2_folder(name)
    config = read_config(folder / _CONFIG, Dinov2Config)
    with reading(folder / _CONFIG, "sizes of which a network can be made"):
        abstract = abstract_network(lambda rngs: Dinov2Model(config, rngs=rngs))
    path = weights_in(folder, _STEM)
    if path is None:
        raise MissingFileError(
            f"{folder / _STEM}.safetensors: not found, nor an index of shards; expected the "
            "weights as safetensors."
        )
    return from_tensors(abstract, current_tensors(load_safetensors(path)), str(path), dtype)


def save_dinov2(folder: str | Path, model: Dinov2Model, dtype: Any = np.float32) -> None:
    """Write a model as transformers 5 reads it: config.json and model.safetensors.

    Args:
        folder: to write.
        model: to write.
        dtype: of the stored weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    registers = model.config.num_register_tokens > 0
    name = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    config = dataclasses.asdict(model.config) | {
        "architectures": [name],
        "model_type": "dinov2_with_registers" if registers else "dinov2",
        "use_mask_token": False,
    }
    if not registers:
        del config["num_register_tokens"]
    write_safetensors(folder / f"{_STEM}.safetensors", to_tensors(model, dtype))
    write_json(folder / _CONFIG, config)
