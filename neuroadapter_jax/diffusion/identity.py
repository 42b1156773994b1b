"""Which backbone it was: fingerprints of its networks' files, and the commit of the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuroadapter_jax import fingerprints
from neuroadapter_jax.diffusion.weights import (
    COMPONENTS,
    backbone_folder,
    find_weights,
    is_random,
    list_shards,
)
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.hub.snapshots import commit_of
from neuroadapter_jax.readers import read_json

_VERSIONS = ("transformers_version",)
# Keys of a config.json that names a backbone.
FINGERPRINT, COMMIT = "backbone_fingerprint", "backbone_commit"


def backbone_identity(name: str | Path) -> dict[str, Any]:
    """What config.json says of a backbone beside its name, as JSON values.

    "backbone_fingerprint" is one per network, of its config.json and of every byte of its weights:
    0.6 s for the 4.3 GB of Stable Diffusion 1.5 that have just been read. "backbone_commit" is the
    Hub's, where it came from there.

    Args:
        name: see `backbone_folder`.

    Raises:
        MissingFileError: it is not there.
    """
    folder, random = backbone_folder(name), is_random(name)
    found = {
        part: of_network(
            folder / part / "config.json", None if random else find_weights(folder, part)
        )
        for part in COMPONENTS
    }
    found["scheduler"] = of_network(folder / "scheduler" / "scheduler_config.json")
    return with_commit(found, folder)


def with_commit(fingerprint: Any, folder: Path) -> dict[str, Any]:
    """The keys of a config.json for a fingerprint and the folder that it is of."""
    commit = commit_of(folder)
    return {FINGERPRINT: fingerprint} | ({} if commit is None else {COMMIT: commit})


def of_network(config: Path, weights: Path | None = None) -> str:
    """The fingerprint of a network's configuration and of its safetensors file, or its shards.

    Keys that tell which version of a library wrote the configuration do not count.
    """
    values = read_json(config, "the configuration of a network")
    kept = {k: x for k, x in values.items() if not k.startswith("_") and k not in _VERSIONS}
    files = [] if weights is None else [weights]
    if weights is not None and weights.suffix == ".json":
        files = list_shards(weights)
    return fingerprints.of_values({"config": kept, "weights": list(fingerprints.of_files(files))})


def require_same_backbone(path: Path, settings: Mapping[str, Any], name: str, found: Any) -> None:
    """Refuse another backbone than the one that a config.json names.

    Args:
        path: of the config.json.
        settings: what it holds; one of version 0.1.0 has no fingerprint, and nothing is compared.
        name: of the backbone that is there.
        found: its fingerprint.

    Raises:
        InputError: it is another; the networks that differ are named.
    """
    known = settings.get(FINGERPRINT)
    if known is None or known == found:
        return
    parts = ""
    if isinstance(known, Mapping) and isinstance(found, Mapping):
        differing = sorted(k for k in known.keys() | found.keys() if known.get(k) != found.get(k))
        parts = f" ({', '.join(differing)})"
    commit = f" of commit {settings[COMMIT]}" if COMMIT in settings else ""
    raise InputError(
        f"{path}: the backbone {name} holds other weights{parts} than the one{commit} that this "
        "was trained with, so the numbers would be others; name the folder of that one or its "
        "revision (owner/model@commit), or, if this is what you mean, say so with --allow_other "
        "backbone."
    )
