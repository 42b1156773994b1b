"""Folders of a brain encoder: config.json, encoder_N.safetensors, regions.npz, validation.npz."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.identity import FINGERPRINT, require_same_backbone
from neuroadapter_jax.diffusion.weights import (
    from_tensors,
    load_safetensors,
    to_tensors,
    write_safetensors,
)
from neuroadapter_jax.encoder.features import Features
from neuroadapter_jax.encoder.region_encoder import RegionEncoder, RegionEncoderConfig
from neuroadapter_jax.encoder.weights import dinov2_identity
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import (
    here_or_shipped,
    json_values,
    refuse_foreign,
    whole_folder,
    write_json,
    write_npz,
)
from neuroadapter_jax.hub.kinds import ENCODER, require_not_other_kind
from neuroadapter_jax.hub.snapshots import is_hub_id, local_name, published_folder
from neuroadapter_jax.readers import as_type, read_json, read_npz

_CONFIG, _WEIGHTS, _REGIONS = "config.json", "encoder_{}.safetensors", "regions.npz"
_VALIDATION = "validation.npz"


class _Settings(TypedDict):
    regions_fingerprint: str
    features: dict[str, Any]
    encoder: dict[str, Any]
    blocks: list[int]
    sharpness: float
    provenance: dict[str, Any]


class Saved(NamedTuple):
    """What a folder holds, loaded, but for the vision transformer."""

    features: Features
    members: list[RegionEncoder]
    blocks: list[int]
    regions: Parcellation
    correlations: Float[np.ndarray, "m n"]
    sharpness: float
    provenance: dict[str, Any]


def load(
    folder: str | Path,
    backbone: str | Path | None = None,
    allow_other: Collection[str] = (),
    revision: str | None = None,
) -> Saved:
    """Read a folder written by `save_brain_encoder`; see `BrainEncoder.from_pretrained`."""
    folder = _find(folder, revision)
    settings = read_json(folder / _CONFIG, "a brain encoder's settings", _Settings)
    regions = Parcellation.load(folder / _REGIONS)
    if regions.fingerprint() != settings["regions_fingerprint"]:
        raise InputError(
            f"{folder / _REGIONS}: not the regions that {_CONFIG} beside it names; copy the "
            "folder again."
        )
    given = {"backbone": str(backbone)} if backbone else {}
    features = as_type(Features, settings["features"] | given, folder / _CONFIG)
    if FINGERPRINT in settings and "backbone" not in allow_other:
        found = dinov2_identity(features.backbone)[FINGERPRINT]
        require_same_backbone(folder / _CONFIG, settings, features.backbone, found)
    config = as_type(RegionEncoderConfig, settings["encoder"], folder / _CONFIG)
    with reading(folder / _CONFIG, "sizes that a brain encoder can have"):
        abstract = abstract_network(lambda rngs: RegionEncoder(config, rngs=rngs))
    members = []
    for i in range(len(settings["blocks"])):
        path = folder / _WEIGHTS.format(i)
        members.append(from_tensors(abstract, load_safetensors(path), str(path), jnp.float32))
    stored = read_npz(folder / _VALIDATION, "correlations per vertex", {"correlation": "f2"})
    correlations, shape = stored["correlation"], (len(members), sum(regions.num_vertices))
    if correlations.shape != shape:
        raise InputError(
            f"{folder / _VALIDATION}: correlation is {correlations.dtype} of shape "
            f"{correlations.shape}; expected numbers of shape {shape}, one per encoder and "
            "vertex; copy the folder again."
        )
    return Saved(
        features,
        members,
        settings["blocks"],
        regions,
        correlations.astype(np.float32),
        settings["sharpness"],
        settings["provenance"],
    )


def _find(folder: str | Path, revision: str | None) -> Path:
    """The folder, the one that ships under this name or the Hub's; its files are there."""
    here = here_or_shipped(folder)
    if here is None and is_hub_id(folder):
        what = "a folder of `neuroadapter train-encoder` or an encoder of `neuroadapter publish`"
        here = published_folder(folder, ENCODER.patterns, what, revision)
        require_not_other_kind(here, ENCODER, f"the Hub's {folder}")
    else:
        local_name(folder, revision)
    here = here or Path(folder)
    for name in (_CONFIG, _REGIONS, _VALIDATION):
        if not (here / name).is_file():
            raise MissingFileError(
                f"{here / name}: not found; expected a folder of `neuroadapter train-encoder`."
            )
    return here


def save_brain_encoder(
    folder: str | Path,
    features: Features,
    members: Sequence[RegionEncoder],
    blocks: Sequence[int],
    regions: Parcellation,
    correlations: Float[np.ndarray, "m n"],
    *,
    sharpness: float = 20.0,
    provenance: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    dtype: Any = np.float32,
) -> None:
    """Write the folder that `BrainEncoder.from_pretrained` reads; the backbone is only named.

    Args:
        folder: to write.
        features: what the encoders are given.
        members: the encoders.
        blocks: which features each reads: 0 the patch tokens, k the queries of the k-th block from
            the end.
        regions: the parcellation they were trained with.
        correlations: of each on validation images, per vertex [m, n]; stored as float16.
        sharpness: of the softmax over members, see `ensemble_weights`.
        provenance: what they were trained on, as JSON values.
        backbone: what `dinov2_identity` says of the vision transformer; None where nobody knows.
        dtype: of the stored weights.

    Raises:
        ExistingFileError: the folder holds another encoder, or files that this one's would replace.
    """
    refuse_other_encoder(folder, provenance or {})
    with whole_folder(folder) as place:
        for i, member in enumerate(members):
            write_safetensors(place / _WEIGHTS.format(i), to_tensors(member, dtype))
        regions.save(place / _REGIONS)
        correlation = np.asarray(correlations, np.float16)
        write_npz(place / _VALIDATION, compress=True, correlation=correlation)
        write_json(
            place / _CONFIG,
            {
                "features": dataclasses.asdict(features),
                "encoder": dataclasses.asdict(members[0].config),
                "blocks": list(blocks),
                "sharpness": sharpness,
                "regions_fingerprint": regions.fingerprint(),
                "provenance": provenance or {},
                **(backbone or {}),
            },
        )


def refuse_other_encoder(folder: str | Path, provenance: dict[str, Any]) -> None:
    """Refuse to write an encoder over what is no encoder of the same training; writes nothing.

    Raises:
        ExistingFileError: the folder holds another encoder, or files that this one's would replace.
    """
    try:
        found = read_json(Path(folder) / _CONFIG, "a brain encoder's settings")
        same = bool(provenance) and found.get("provenance") == json_values(provenance)
    except InputError:
        same = False
    refuse_foreign(folder, (_CONFIG, _REGIONS, _VALIDATION, _WEIGHTS.format(0)), ours=same)
