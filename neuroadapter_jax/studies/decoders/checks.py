"""What a comparison of decoders refuses before it computes or writes anything."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuroadapter_jax.datasets.belonging import Origin, made_for, require_same_root
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.methods import METHODS
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder, check_fits
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, require_same_settings
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.checks import require_same_regions, require_same_surface
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.studies.decoders.settings import LABELS, DecoderSettings

SETTINGS = "settings.json"
_WRITTEN = ("results.json", "table.md", "methods.png", "validation.json", "costs.json", *LABELS)


def require_choices(
    settings: DecoderSettings, root: str | Path | None, wanted: Collection[str]
) -> None:
    """Refuse settings that are to be chosen on validation images where nothing tells which is best.

    Args:
        settings: of the study.
        root: the simulated subject's folder, whose truth tells; None without one.
        wanted: the methods, which do not all need such a setting.

    Raises:
        InputError: a setting is needed and not given, and there is no simulated subject.
    """
    if root is not None:
        return
    lacking = {}
    if settings.strength is None:
        started = [name for name in wanted if name in METHODS and METHODS[name].low_level]
        lacking["strength"] = started
    if settings.linear_guidance_scale is None:
        lacking["linear_guidance_scale"] = [
            name
            for name in wanted
            if name in METHODS
            and METHODS[name].choose_guidance
            and (settings.preset is None or METHODS[name].preset != settings.preset)
        ]
    if told := [f"{key} (for {', '.join(names)})" for key, names in lacking.items() if names]:
        raise InputError(
            "Without the simulated subject's folder (root) nothing tells what a low-level start or "
            f"guidance costs in meaning, so give {' and '.join(told)}, or leave these methods out."
        )


def require_same_data(
    pipeline: NeuroAdapterPipeline,
    encoder: BrainEncoder | None,
    records: PreparedDataset,
    root: str | Path | None,
    allow_other: Sequence[str],
) -> dict[str, Any]:
    """Refuses what is not of the same data; returns what differs and may.

    Raises:
        InputError: model, encoder, records and root differ in subject, surface or regions.
    """
    model = Origin.of("the model", pipeline.provenance)
    found = made_for(model, records.origin, allow_other)
    if encoder is not None:
        other = Origin.of("the encoder", encoder.provenance)
        found |= made_for(other, records.origin, allow_other)
    require_same_surface(records, pipeline.regions)
    require_same_regions(records, pipeline.regions)
    if encoder is not None:
        check_fits(encoder, pipeline.regions, pipeline.provenance)
    if root is not None:
        require_same_root(root, records)
    return found


def require_own_folder(out: Path, settings: Mapping[str, Any]) -> None:
    """Refuses a folder of another run or with someone's files; writes nothing.

    Raises:
        InputError: so it is.
    """
    path = out / SETTINGS
    refuse_foreign(out, _WRITTEN, ours=path.is_file())
    # What a call noted that ended before its first result binds nobody.
    if path.is_file():
        found = read_json(path, "the settings of `neuroadapter decoders`")
        begun = any(p != path and not p.name.startswith(".") for p in out.iterdir())
        if begun or found.keys() - settings.keys():
            require_same_settings(out, found, settings, "decoders")


def digest(captions: Mapping[int, Sequence[str]]) -> str:
    """Of captions by image id."""
    text = json.dumps({str(key): list(captions[key]) for key in sorted(captions)})
    return hashlib.sha256(text.encode()).hexdigest()
