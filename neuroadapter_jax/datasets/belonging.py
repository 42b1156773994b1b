"""Whether a model, an encoder, records and a subject's folder belong together, as far as they say.

Records say in provenance.json what they were made from; models and encoders keep that in their
config.json. What one of two does not say, such as a folder of version 0.1.0 or records that were
written by hand, is not compared.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.cortex.surface_files import read_mgh
from neuroadapter_jax.datasets.nsd.files import betas_folder
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import differing_keys, json_values
from neuroadapter_jax.readers import read_json

if TYPE_CHECKING:
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset

# What has to be the same.
COMPARED = ("dataset", "subject", "space", "beta_version", "normalize", "simulation")
ALLOWABLE = (*COMPARED, "backbone")
_IMAGERY = "nsdimagery"  # how NSD-Imagery's names of the beta versions begin
_SIMULATION = "simulation.json"
_SAME_NCSNR = 0.01


@dataclasses.dataclass(frozen=True)
class Origin:
    """What something was made from.

    Attributes:
        name: for the message, such as "the model".
        data: what its records were prepared from, as provenance.json has it under "request".
    """

    name: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, provenance: Mapping[str, Any]) -> "Origin":
        """The origin of a model or an encoder, by the provenance in its config.json."""
        data = provenance.get("data")
        return cls(name, data if isinstance(data, Mapping) else {})

    @property
    def compared(self) -> dict[str, Any]:
        """Those of `COMPARED` that it says, in one spelling.

        NSD-Imagery calls NSD's versions of betas by its own name in front.
        """
        found = {key: self.data[key] for key in COMPARED if self.data.get(key) is not None}
        if isinstance(version := found.get("beta_version"), str):
            found["beta_version"] = version.removeprefix(_IMAGERY)
        return json_values(found)


def made_for(
    model: Origin, records: Origin, allow_other: Collection[str] | None = ()
) -> dict[str, list[Any]]:
    """Refuses records that are not of the data that a model, an encoder or a run was made from.

    Args:
        model: of the model, the encoder or the run.
        records: of the records, or of what else the model is to work with.
        allow_other: those of `ALLOWABLE` that may differ, such as "dataset" for NSD-Imagery; None
            where the caller has no way to allow any.

    Returns:
        What differs and was allowed: key -> [the model's value, the records' value].

    Raises:
        InputError: something else differs, every difference with both values; or an unknown name
            in `allow_other`.
    """
    allowed = set(allow_other or ())
    if unknown := sorted(allowed - set(ALLOWABLE)):
        raise InputError(
            f"allow_other names {', '.join(unknown)}; expected some of {', '.join(ALLOWABLE)}."
        )
    found = _differences(model, records)
    refused = {k: pair for k, pair in found.items() if k.partition(".")[0] not in allowed}
    if refused:
        pairs = _told(refused, model, records)
        keys = ",".join(sorted({key.partition(".")[0] for key in refused}))
        meant = f", or, if this is what you mean, say so with --allow_other {keys}"
        raise InputError(
            f"{model.name} and {records.name} are of different data: {pairs}; take what belongs "
            f"together{'' if allow_other is None else meant}."
        )
    return {key: list(pair) for key, pair in found.items()}


def _differences(one: Origin, other: Origin) -> dict[str, tuple[Any, Any]]:
    """The keys that both say, nested ones included, and say differently."""
    found = differing_keys(one.compared, other.compared)
    return {key: pair for key, pair in found.items() if "absent" not in pair}


def _told(differences: Mapping[str, tuple[Any, Any]], one: Origin, other: Origin) -> str:
    return "; ".join(
        f"{key} is {a!r} for {one.name}, {b!r} for {other.name}"
        for key, (a, b) in differences.items()
    )


def simulation_of(root: str | Path) -> dict[str, Any] | None:
    """The configuration that a simulated subject's folder holds; None for real files."""
    path = Path(root) / _SIMULATION
    if not path.is_file():
        return None
    found: dict[str, Any] = read_json(path, "the configuration of a simulated subject")
    return found


def require_same_root(root: str | Path, records: "PreparedDataset") -> None:
    """Refuses a subject's folder that the records are not of.

    A simulated subject is known by its configuration; and any by its map of the noise ceiling,
    {lh,rh}.ncsnr.mgh, which the records keep.

    Args:
        root: folder in NSD's layout, or of a simulated subject.
        records: any split.

    Raises:
        InputError: it is another subject's, or a file of it can't be read.
    """
    data, where = records.origin.data, Origin(str(root), {"simulation": simulation_of(root)})
    if found := _differences(where, records.origin):
        raise InputError(
            f"{root} holds another simulated subject than that of the records: "
            f"{_told(found, where, records.origin)}; name the folder that they were prepared from."
        )
    subject, space, version = (data.get(key) for key in ("subject", "space", "beta_version"))
    if not (isinstance(subject, int) and isinstance(space, str) and isinstance(version, str)):
        return
    folder = Path(root) / betas_folder(subject, space, version.removeprefix(_IMAGERY))
    files = [folder / f"{hemisphere}.ncsnr.mgh" for hemisphere in HEMISPHERES]
    if not all(file.is_file() for file in files) or np.isnan(records.ncsnr).all():
        return
    parts = []
    for file in files:
        parts.append(read_mgh(file, "NSD's noise-ceiling SNR of one hemisphere").reshape(-1))
    ncsnr = np.concatenate(parts)
    if ncsnr.shape != records.ncsnr.shape or not np.allclose(
        ncsnr, records.ncsnr, rtol=0, atol=_SAME_NCSNR, equal_nan=True
    ):
        raise InputError(
            f"{folder} is of another subject or another version than {records.path}: its ncsnr.mgh "
            f"are not those that these records keep; name the folder that they were prepared from."
        )
