"""A folder of reconstructions as a BIDS-derivatives dataset, with a table of all images.

The Brain Imaging Data Structure (https://bids-specification.readthedocs.io, version 1.11) fixes
dataset_description.json, descriptions.tsv, the order and the spelling of entities in names, and how
tables and their JSON files look. It knows no reconstructed images, so the suffixes `reconstruction`
and `reconstructions` and the columns are ours, and .bidsignore tells validators so.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import neuroadapter_jax
from neuroadapter_jax.encoder.ranking import choose
from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.files import (
    require_same_settings,
    whole_folder,
    without_local_paths,
    write_file,
    write_json,
    write_text,
)
from neuroadapter_jax.pipeline.reconstructions import Reconstructions, load_reconstructions
from neuroadapter_jax.readers import read_json, read_text

BIDS_VERSION = "1.11.1"
DESCRIPTION = "dataset_description.json"
NAME = "neuroadapter-jax"
NOT_AVAILABLE = "n/a"  # BIDS: a value that is missing
_LABEL = re.compile(r"[0-9a-zA-Z+]+")
_SOURCES = {"nsd": "https://naturalscenesdataset.org"}
_IGNORED = ("*_reconstruction.png", "*_reconstruction.json", "*_reconstructions.*")
COLUMNS: dict[str, dict[str, Any]] = {
    "image_id": {"Description": "Number of the stimulus in its dataset."},
    "stimulus": {"Description": "Name of the stimulus, where it has one beside its number."},
    "filename": {"Description": "The reconstruction, relative to the root of this dataset."},
    "candidate": {"Description": "Number of the candidate among those of its stimulus, from 0."},
    "chosen": {
        "Description": "Whether this candidate is the reconstruction that counts.",
        "Levels": {"true": "it counts", "false": "it is one of several, and another one counts"},
    },
    "score": {
        "Description": "Pearson correlation of the response that a brain encoder predicts for the "
        "candidate with the measured one; n/a without an encoder.",
    },
    "responses": {
        "Description": "Whose responses the image was reconstructed from.",
        "Levels": {
            "own": "the responses to this stimulus",
            "permuted": "a control: the responses to another stimulus",
        },
    },
    "seed": {"Description": "Of the noise that sampling began from."},
    "sampler": {"Description": "Sampler of the diffusion model."},
    "num_steps": {"Description": "Denoising steps."},
    "guidance_scale": {"Description": "Of classifier-free guidance; 1 is none."},
}


def labels_of(settings: Mapping[str, Any], task: str | None = None) -> tuple[str, str]:
    """The labels of the entities `sub` and `task`.

    Args:
        settings: of a folder of reconstructions.
        task: as the raw dataset has it; the dataset's name, letters and digits alone, when None.

    Raises:
        InputError: the settings do not say whose responses they were, or a label has other
            characters than letters, digits and "+".
    """
    data = settings.get("data") or settings.get("model", {}).get("data") or {}
    subject = data.get("subject")
    if subject is None:
        raise InputError(
            "the reconstructions do not record whose responses they come from (settings: data: "
            "subject in index.json); add it there, since names in BIDS begin with the subject."
        )
    label = f"{subject:02d}" if isinstance(subject, int) else str(subject).removeprefix("sub-")
    if task is None:
        task = re.sub(r"[^0-9a-zA-Z]", "", str(data.get("dataset", ""))) or "reconstruction"
    for name, value in (("subject", label), ("task", task)):
        if not _LABEL.fullmatch(value):
            raise InputError(f"{name} is {value!r}; expected letters, digits and '+', as in BIDS.")
    return label, task


def require_derivatives_place(out: str | Path) -> None:
    """Refuse a folder that holds something else than derivatives of this program; writes nothing.

    Raises:
        ExistingFileError: so it does.
    """
    out = Path(out)
    if not out.is_dir() or not any(out.iterdir()):
        return
    made = read_json(out / DESCRIPTION, "a BIDS dataset") if (out / DESCRIPTION).is_file() else {}
    makers = made.get("GeneratedBy")
    if not isinstance(makers, list) or not any(
        isinstance(maker, Mapping) and maker.get("Name") == NAME for maker in makers
    ):
        raise ExistingFileError(
            f"{out} is not empty and holds no derivatives of {NAME} ({DESCRIPTION} would say so); "
            "name another folder, such as one below the raw dataset's derivatives/."
        )


def write_derivatives(folder: str | Path, out: str | Path, *, task: str | None = None) -> Path:
    """Write the reconstructions of a folder as BIDS derivatives.

        out/dataset_description.json, README.md, .bidsignore
        out/sub-01/sub-01_descriptions.tsv, .json
        out/sub-01/func/sub-01_task-nsd_desc-image000073candidate0_reconstruction.png, ...
        out/sub-01/func/sub-01_task-nsd_reconstruction.json      how they were made
        out/sub-01/func/sub-01_task-nsd_reconstructions.tsv      a row per image, see `COLUMNS`
        out/sub-01/func/sub-01_task-nsd_reconstructions.json     what the columns are

    Several subjects and tasks share one folder. Stimuli are not copied.

    Args:
        folder: of `neuroadapter reconstruct`.
        out: the dataset to write, or to add to.
        task: see `labels_of`.

    Returns:
        The table.

    Raises:
        MissingFileError, InputError: see `load_reconstructions` and `labels_of`; or a number of a
            stimulus is negative.
        ExistingFileError: the folder holds something else.
        InputError: it holds other reconstructions of this subject and task.
    """
    found = load_reconstructions(folder, require_targets=False)
    subject, task = labels_of(found.settings, task)
    if (lowest := int(found.image_ids.min())) < 0:
        raise InputError(f"{folder}: image_id is {lowest}; expected 0 or more, as names hold them.")
    require_derivatives_place(out)
    stem = f"sub-{subject}/func/sub-{subject}_task-{task}"
    settings = without_local_paths(found.settings)
    sidecar = Path(out) / f"{stem}_reconstruction.json"
    if sidecar.is_file():
        made = read_json(sidecar, "how reconstructions were made").get("Settings", {})
        require_same_settings(sidecar, made, settings, "reconstructions", "name another folder")
    with whole_folder(out) as place:
        rows, descriptions = [], {}
        for row in _rows(found):
            label = f"desc-image{row['image_id']:06d}candidate{row['candidate']}"
            row["filename"] = f"{stem}_{label}_reconstruction.png"
            descriptions[label] = (
                f"candidate {row['candidate']} of the reconstructions of stimulus {row['image_id']}"
            )
            _write_png(place / row["filename"], row.pop("image"))
            rows.append([_cell(row[column]) for column in COLUMNS])
        write_json(place / f"{stem}_reconstruction.json", _sidecar(settings))
        write_json(place / f"{stem}_reconstructions.json", COLUMNS)
        _write_tsv(place / f"{stem}_reconstructions.tsv", list(COLUMNS), rows)
        _add_descriptions(place / f"sub-{subject}/sub-{subject}_descriptions.tsv", descriptions)
        write_json(
            place / f"sub-{subject}/sub-{subject}_descriptions.json",
            {"Description": "Which stimulus and candidate the label of each reconstruction means."},
        )
        write_text(place / ".bidsignore", "".join(f"{name}\n" for name in _IGNORED))
        write_text(place / "README.md", _README)
        if not (place / DESCRIPTION).is_file():
            write_json(place / DESCRIPTION, _description(found.settings))
    return Path(out) / f"{stem}_reconstructions.tsv"


def _rows(found: Reconstructions) -> list[dict[str, Any]]:
    """A row per image, with the image itself."""
    settings, count = found.settings, found.candidates.shape[1]
    sampling = settings.get("sampling", {})
    same = {
        "responses": "own" if settings.get("own_responses", True) else "permuted",
        "seed": settings.get("seed"),
        **{key: sampling.get(key) for key in ("sampler", "num_steps", "guidance_scale")},
    }
    rows = []
    for i, image_id in enumerate(found.image_ids.tolist()):
        scores = None if found.scores is None else found.scores[i]
        for j in range(count):
            # Where the chosen candidate alone was kept, its number is the encoder's choice.
            alone = count == 1 and scores is not None
            number = int(choose(scores[None])[0]) if alone and scores is not None else j
            rows.append(
                {
                    "image": found.candidates[i, j],
                    "image_id": image_id,
                    "stimulus": found.names[i] or None,
                    "candidate": number,
                    "chosen": j == int(found.chosen[i]),
                    "score": None if scores is None else float(scores[number]),
                    **same,
                }
            )
    return rows


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return NOT_AVAILABLE
    if isinstance(value, bool):
        return str(value).lower()
    return re.sub(r"\s+", " ", str(value))


def _write_tsv(path: Path, head: list[str], rows: list[list[str]]) -> None:
    write_text(path, "".join("\t".join(row) + "\n" for row in [head, *rows]))


def _write_png(path: Path, image: np.ndarray) -> None:
    write_file(path, lambda partial: Image.fromarray(image).save(partial, format="PNG"))


def _add_descriptions(path: Path, descriptions: Mapping[str, str]) -> None:
    """A subject's descriptions.tsv, in which those of its other tasks stay."""
    found = {}
    if path.is_file():
        for line in read_text(path, "a descriptions.tsv of BIDS").splitlines()[1:]:
            label, _, text = line.partition("\t")
            found[label] = text
    found |= descriptions
    _write_tsv(path, ["desc_id", "description"], [[k, x] for k, x in sorted(found.items())])


def _sidecar(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Description": "Images reconstructed from the responses of the visual cortex. The columns "
        "of the table of this name say which stimulus and candidate each file is.",
        "Settings": settings,
    }


def _description(settings: Mapping[str, Any]) -> dict[str, Any]:
    data = settings.get("data") or {}
    name = data.get("dataset")
    simulated = bool(data.get("simulation"))
    source = _SOURCES.get(str(name))
    return {
        "Name": "Reconstructions of stimuli from responses of the visual cortex"
        + (f" ({'simulated, in the layout of ' if simulated else ''}{name})" if name else ""),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": NAME,
                "Version": neuroadapter_jax.__version__,
                "Description": "Diffusion model with adapters to cortical regions (NeuroAdapter).",
            }
        ],
        **({"SourceDatasets": [{"URL": source}]} if source and not simulated else {}),
    }


_README = """# Reconstructions of stimuli from responses of the visual cortex

Each subject's `func/` holds one image per stimulus and candidate, a table of them
(`*_reconstructions.tsv`, whose columns the JSON file beside it describes) and how they were made
(`*_reconstruction.json`). A candidate whose `chosen` is true is the reconstruction that counts. The
stimuli are not here; `image_id` is their number in the dataset that they come from.

The suffixes `reconstruction` and `reconstructions` are no part of BIDS, and .bidsignore lists them;
names, entities and tables otherwise follow the standard.
"""
