"""Folders of a trained pipeline: config.json, adapter.safetensors, regions.npz; a LoRA beside."""

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

import jax.numpy as jnp
import numpy as np
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.config_files import read_config
from neuroadapter_jax.diffusion.identity import (
    FINGERPRINT,
    backbone_identity,
    require_same_backbone,
)
from neuroadapter_jax.diffusion.lora import Lora
from neuroadapter_jax.diffusion.lora_files import LORA, backbone_with_lora, read_lora, write_lora
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.unet import with_sample_size
from neuroadapter_jax.diffusion.weights import (
    Backbone,
    from_tensors,
    load_pretrained,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import (
    ASSETS,
    here_or_shipped,
    json_values,
    refuse_foreign,
    refuse_other_kind,
    whole_folder,
    write_json,
)
from neuroadapter_jax.hub.kinds import ADAPTER, require_not_other_kind
from neuroadapter_jax.hub.snapshots import is_hub_id, local_name, published_folder
from neuroadapter_jax.ranges import Count, check, check_values, named
from neuroadapter_jax.readers import read_json

CONFIG, WEIGHTS, REGIONS = "config.json", "adapter.safetensors", "regions.npz"
CARD = "README.md"
_EXPECTED = "an adapter's settings"
# Shipped folders by the names that version 0.1.0 had for them.
_FORMER_NAMES = {"neuroadapter-embedded": "neuroadapter-simulated"}


class _Settings(TypedDict):
    """What config.json holds beside the sizes of the adapter."""

    regions_fingerprint: str
    backbone: str
    provenance: dict[str, Any]
    sampling: NotRequired[dict[str, Any]]
    sample_size: NotRequired[int]
    lora: NotRequired[bool]
    num_candidates: NotRequired[int]


class Saved(NamedTuple):
    """What a folder holds, loaded."""

    adapter: NeuroAdapter
    backbone: Backbone
    regions: Parcellation
    backbone_name: str
    sampling: Sampling
    num_candidates: int
    provenance: dict[str, Any]


def load(
    folder: str | Path,
    backbone: str | Path | None = None,
    allow_other: Collection[str] = (),
    revision: str | None = None,
) -> Saved:
    """Read a folder written by `save`, one shipped in the package by name, or one of the Hub.

    A file lora.safetensors in it is added to the U-Net.

    Args:
        folder: the folder, a shipped name such as "neuroadapter-simulated", or a model of the Hub,
            "owner/model" or "owner/model@revision".
        backbone: another place of the backbone than config.json names.
        allow_other: with "backbone" the backbone may hold other weights than in training.
        revision: the Hub's branch, tag or commit.

    Raises:
        MissingFileError: a file of the folder, or the backbone, is not there, or the Hub does not
            give it.
        InputError: the weights do not fit config.json, all differences are named; or the backbone
            is another than the one the adapter was trained with.
    """
    folder = _find(folder, revision)
    settings = read_json(folder / CONFIG, _EXPECTED, _Settings)
    config = read_config(folder / CONFIG, NeuroAdapterConfig)
    with reading(folder / CONFIG, "sizes that an adapter can have"):
        abstract = abstract_network(lambda rngs: NeuroAdapter(config, rngs=rngs))
    path = folder / WEIGHTS
    regions = Parcellation.load(folder / REGIONS)
    if regions.fingerprint() != settings["regions_fingerprint"]:
        raise InputError(
            f"{folder / REGIONS}: not the regions that {CONFIG} beside it names "
            "(regions_fingerprint), so the tokens would stand for others; copy the folder again."
        )
    name = str(backbone or settings["backbone"])
    sampling, num_candidates = read_sampling(folder)
    loaded = load_pretrained(name)
    if FINGERPRINT in settings and "backbone" not in allow_other:
        found = backbone_identity(name)[FINGERPRINT]
        require_same_backbone(folder / CONFIG, settings, name, found)
    # Folders of older versions lack the keys read here with `get`.
    if (folder / LORA).is_file():
        loaded = backbone_with_lora(loaded, read_lora(folder / LORA, loaded.unet))
    elif settings.get("lora"):
        raise MissingFileError(
            f"{folder / LORA}: not found, which {CONFIG} beside it names; without it the images "
            "would be others, so copy the folder again."
        )
    size = settings.get("sample_size", loaded.unet.config.sample_size)
    return Saved(
        from_tensors(abstract, load_safetensors(path), str(path), jnp.float32),
        loaded._replace(unet=with_sample_size(loaded.unet, size, jnp.float32)),
        regions,
        name,
        sampling,
        num_candidates,
        settings["provenance"],
    )


def save(
    folder: str | Path,
    adapter: NeuroAdapter,
    regions: Parcellation,
    dtype: Any = np.float32,
    lora: Lora | None = None,
    **settings: Any,
) -> None:
    """Write the folder; the backbone is named only.

    Args:
        folder: to write.
        adapter: its parameters and configuration.
        regions: the p regions its tokens stand for.
        dtype: of the written weights.
        lora: what was added to the U-Net's weights, written as lora.safetensors; None for none.
        settings: JSON values that join config.json.

    Raises:
        ExistingFileError: see `refuse_other_model`.
    """
    refuse_other_model(folder, settings.get("provenance", {}))
    with whole_folder(folder) as place:
        write_safetensors(place / WEIGHTS, to_tensors(adapter, dtype))
        regions.save(place / REGIONS)
        if lora is None:
            (place / LORA).unlink(missing_ok=True)
        else:
            write_lora(place / LORA, lora, dtype)
            settings["lora"] = True
        fingerprint = {"regions_fingerprint": regions.fingerprint()}
        write_json(place / CONFIG, dataclasses.asdict(adapter.config) | settings | fingerprint)


def refuse_other_model(folder: str | Path, provenance: Mapping[str, Any]) -> None:
    """Refuse to write a model over what is no model of the same training; writes nothing.

    Args:
        folder: to write.
        provenance: of the model; another step of the same training is the same.

    Raises:
        ExistingFileError: the folder holds another model, or files that a model's would replace.
    """
    refuse_other_kind(folder, "model")
    try:
        found = read_json(Path(folder) / CONFIG, _EXPECTED, _Settings)["provenance"]
        same = {**found, "step": None} == {**json_values(provenance), "step": None}
    except InputError:
        same = False
    refuse_foreign(folder, (CONFIG, WEIGHTS, REGIONS, LORA, CARD), ours=same and bool(provenance))


def read_sampling(folder: str | Path) -> tuple[Sampling, int]:
    """A folder's own sampling and number of candidates; no weights are read.

    Args:
        folder: see `load`.

    Raises:
        MissingFileError: a file of the folder is not there.
        InputError: a setting that is out of its range.
    """
    path = _find(folder) / CONFIG
    settings = read_json(path, _EXPECTED, _Settings)
    number = settings.get("num_candidates", 1)
    check(f"{path}: num_candidates", number, Count)
    with named(f"{path}: sampling."):
        if "sampling" in settings:
            check_values(settings["sampling"], Sampling, "a setting of the sampling")
            return Sampling(**settings["sampling"]), number
        # Version 0.1.0 wrote its fields beside the others.
        flat = {key: settings.get(key) for key in ("guidance_scale", "sampler", "start")}
        return Sampling().replace(**flat), number


def _find(folder: str | Path, revision: str | None = None) -> Path:
    """The folder, the one that ships under this name or the Hub's; its files are there."""
    here = here_or_shipped(folder)
    if here is None and str(folder) in _FORMER_NAMES:
        here = ASSETS / _FORMER_NAMES[str(folder)]
    if here is None and is_hub_id(folder):
        what = "a folder of `neuroadapter export` or a model of `neuroadapter publish`"
        here = published_folder(folder, ADAPTER.patterns, what, revision)
        require_not_other_kind(here, ADAPTER, f"the Hub's {folder}")
        lacking = "a model of `neuroadapter publish`"
    else:
        local_name(folder, revision)
        here = here or Path(folder)
        names = sorted(p.parent.name for p in ASSETS.glob(f"*/{WEIGHTS}"))
        near = difflib.get_close_matches(str(folder), names, n=1)
        hint = f" (did you mean {near[0]}?)" if near and not here.is_dir() else ""
        lacking = (
            f"a folder written by save_pretrained or `neuroadapter export`, or one of the shipped "
            f"{names}{hint}"
        )
    for name in (CONFIG, WEIGHTS, REGIONS):
        if not (here / name).is_file():
            raise MissingFileError(f"{here / name}: not found; expected {lacking}.")
    return here
