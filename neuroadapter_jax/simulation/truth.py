"""What no scanner tells of a simulated subject: written beside NSD's files, and read back.

`simulation.json` holds the configuration. `truth.npz` holds ROI, receptive field, tuning, signal
and noise per vertex, and what each image shows where. Folders of version 0.1.0, which gave these
files and some of their arrays other names, are read under today's names.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import require_same_settings, write_json, write_npz
from neuroadapter_jax.fingerprints import of_files, of_values
from neuroadapter_jax.readers import read_json, read_npz
from neuroadapter_jax.simulation.nsd_like import NSDLikeConfig
from neuroadapter_jax.simulation.scenes import (
    CATEGORIES,
    GROUNDS,
    OBJECTS,
    PLACES,
    SKIES,
    Scene,
    SceneBatch,
    scene_of_sequence,
)
from neuroadapter_jax.simulation.subject import (
    CHANNELS,
    STIMULUS_SEED_OFFSET,
    AnySubjectConfig,
    Subject,
)
from neuroadapter_jax.simulation.unseen import EXPERIMENTS
from neuroadapter_jax.simulation.unseen_scenes import known_scene_of_sequence

FORMAT_VERSION = 1
CONFIGURATION, TRUTH = "simulation.json", "truth.npz"
# What version 0.1.0 called them.
_FORMER_CONFIGURATION = "embedded.json"
_FORMER_ARRAYS = {
    "area": "roi",
    "thing_tuning": "object_tuning",
    "thing_names": "object_names",
    "things": "objects",
}


def read_configuration(root: str | os.PathLike) -> dict[str, Any] | None:
    """The configuration of a simulated root; None where a folder holds no simulated subject.

    Args:
        root: any folder.
    """
    for name in (CONFIGURATION, _FORMER_CONFIGURATION):
        if (path := Path(root) / name).is_file():
            return read_json(path, "the configuration of a simulated subject")
    return None


def write_configuration(root: Path, config: AnySubjectConfig, experiment: str = "nsd") -> None:
    """Writes simulation.json; other experiments than the main one are named in it."""
    other = {} if experiment == "nsd" else {"experiment": experiment}
    write_json(root / CONFIGURATION, _identity(config) | other)


def holds_subject(root: Path, config: AnySubjectConfig) -> bool:
    """Whether a root holds the subject of this configuration; an empty folder is removed.

    Raises:
        InputError: it holds something else.
    """
    if (found := read_configuration(root)) is not None:
        require_same_settings(root, found, _identity(config), "a simulated subject")
        return True
    if root.is_dir() and not any(root.iterdir()):
        root.rmdir()
        return False
    raise InputError(
        f"{root} exists and holds no simulated subject (it lacks {CONFIGURATION}); choose another "
        f"folder."
    )


def write_truth(root: Path, subject: Subject, scenes: SceneBatch) -> None:
    """Writes truth.npz; arrays per vertex are over the left, then the right hemisphere."""
    arrays = _of_subject(subject) | _NAMES | _of_scenes(scenes)
    write_npz(root / TRUTH, compress=True, **arrays)


def write_subject_truth(root: Path, subject: Subject, number: int) -> None:
    """Writes what is true of one of several subjects of a root, beside the truth of its scenes."""
    write_npz(root / _of_number(number), compress=True, **_of_subject(subject))


def write_scene_truth(
    root: Path, scenes: SceneBatch, ids: Int[np.ndarray, " b"] | None = None, total: int = 0
) -> None:
    """Writes truth.npz of scenes that several subjects see.

    Args:
        root: the folder.
        scenes: the scenes.
        ids: their image ids; from 0 on when None. Other images have empty slots and no setting.
        total: how many ids there are, where there are some.
    """
    arrays = _of_scenes(scenes)
    if ids is not None:
        for key in _PER_IMAGE:
            outside: Any = {"captions": "", "masks_packed": 0}.get(key, -1)
            whole = np.full((total, *arrays[key].shape[1:]), outside, arrays[key].dtype)
            whole[ids] = arrays[key]
            arrays[key] = whole
    write_npz(root / TRUTH, compress=True, **(_NAMES | arrays))


_NAMES = {
    "channel_names": np.array(CHANNELS),
    "category_names": np.array(CATEGORIES),
    "object_names": np.array([scene_object.name for scene_object in OBJECTS]),
    "place_names": np.array(PLACES),
    "ground_names": np.array(GROUNDS),
    "sky_names": np.array(SKIES),
}
_PER_IMAGE = (
    *("categories", "objects", "place", "ground", "sky", "captions"),
    *("masks_packed", "mask_slots"),
)


def _of_number(number: int) -> str:
    return f"truth-subj{number:02d}.npz"


def _of_subject(subject: Subject) -> dict[str, np.ndarray]:
    def on_cortex(values, outside):
        whole = np.full((sum(subject.num_vertices), *values.shape[1:]), outside, np.float32)
        whole[subject.responsive] = values
        return whole

    return {
        "num_vertices": np.array(subject.num_vertices),
        "roi": subject.roi,
        "channel": on_cortex(subject.channel, -1).astype(np.int8),
        "rf_centre": on_cortex(subject.rf_centre, np.nan),
        "rf_sigma": on_cortex(subject.rf_sigma, np.nan),
        "object_tuning": on_cortex(subject.object_tuning, 0),
        "scene_tuning": on_cortex(subject.scene_tuning, 0),
        "signal_sd": on_cortex(subject.signal_sd, 0),
        "noise_sd": subject.noise_sd.astype(np.float32),
        "baseline": subject.baseline.astype(np.float32),
    }


def _of_scenes(scenes: SceneBatch) -> dict[str, np.ndarray]:
    return {
        "categories": scenes.categories,
        "objects": scenes.objects,
        "place": scenes.place,
        "ground": scenes.ground,
        "sky": scenes.sky,
        "captions": np.array(scenes.captions),
        "image_size": np.array(scenes.images.shape[1]),
        "masks_packed": np.packbits(scenes.masks.reshape(*scenes.masks.shape[:2], -1), axis=-1),
        "mask_slots": scenes.mask_slots,
    }


def truth_fingerprint(root: str | os.PathLike, subject: int | None = None) -> str:
    """The fingerprint of what a simulated root holds beside NSD's files.

    Args:
        root: folder of the simulation.
        subject: whose own truth counts as well, where a root holds several subjects.

    Raises:
        MissingFileError: the folder is not that of a simulated subject.
    """
    _require_truth(root)
    names: tuple[str, ...] = (TRUTH, CONFIGURATION, _FORMER_CONFIGURATION)
    if subject is not None:
        names = (*names, _of_number(subject))
    return of_values(list(of_files(p for name in names if (p := Path(root) / name).is_file())))


def load_truth(root: str | os.PathLike, subject: int | None = None) -> dict[str, np.ndarray]:
    """Reads truth.npz of a simulated root; its `masks` are bool [images, 3, y, x].

    Args:
        root: folder of the simulation.
        subject: whose ROIs, tuning and noise are read as well, where a root holds several; those
            of the only one when None, and of none if there are more.

    Raises:
        MissingFileError: the folder is not that of a simulated subject, or of this one.
    """
    path = _require_truth(root)
    own = sorted(Path(root).glob("truth-subj??.npz"))
    if subject is not None and own:
        own = [Path(root) / _of_number(subject)]
        if not own[0].is_file():
            raise MissingFileError(
                f"{own[0]} does not exist: {root} holds no subject {subject}; simulate it into a "
                f"folder of its own, or name a subject that is there."
            )
    expected = "the truth of a simulated subject"
    file = read_npz(path, expected, {"image_size": "iu0", "masks_packed": "u3"})
    truth = {_FORMER_ARRAYS.get(key, key): values for key, values in file.items()}
    with reading(path, expected):
        size = int(truth["image_size"])
        bits = np.unpackbits(truth.pop("masks_packed"), axis=-1, count=size * size)
        truth["masks"] = bits.reshape(*bits.shape[:-1], size, size).astype(bool)
    if len(own) == 1:
        truth |= read_npz(own[0], expected, {"roi": "U1", "noise_sd": "f1"})
    return truth


def _require_truth(root: str | os.PathLike) -> Path:
    path = Path(root) / TRUTH
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist, so {root} is not a simulated subject's folder and its truth "
            f"is not known; name the one that `neuroadapter prepare --config demo` wrote."
        )
    return path


def load_scenes(root: str | os.PathLike, images: Int[np.ndarray, " b"]) -> list[Scene]:
    """The scenes of a simulated root's images, made again from its seed, not rendered.

    Args:
        root: a folder of `write_nsd`.
        images: 0-based image ids (73k ID - 1).

    Raises:
        MissingFileError: the folder is not that of a simulated subject.
    """
    configuration = read_configuration(root)
    if configuration is None:
        raise MissingFileError(
            f"{root} lacks {CONFIGURATION}, so it is not a simulated subject's folder and its "
            f"scenes are not known; name the one that `neuroadapter prepare --config demo` "
            f"wrote."
        )
    if not isinstance(configuration.get("seed"), int):
        raise InputError(
            f"{Path(root) / CONFIGURATION}: seed is {configuration.get('seed')!r}; expected a "
            f"whole number; copy the folder again."
        )
    if configuration.get("noise") == "nsd_like":
        return _nsd_like_scenes(root, configuration, images)
    seed = configuration["seed"] + STIMULUS_SEED_OFFSET
    return [scene_of_sequence(seed, int(index)) for index in images]


def _nsd_like_scenes(
    root: str | os.PathLike, configuration: dict[str, Any], images: Int[np.ndarray, " b"]
) -> list[Scene]:
    """See `load_scenes`; of the main or of another experiment of an `NSDLikeConfig`."""
    experiment = configuration.get("experiment", "nsd")
    known = {field.name for field in dataclasses.fields(NSDLikeConfig)}
    config = NSDLikeConfig(**{k: v for k, v in configuration.items() if k in known})
    if experiment == "nsd":
        return [known_scene_of_sequence(config.seed, int(index)) for index in images]
    if experiment not in EXPERIMENTS:
        raise InputError(
            f"{Path(root) / CONFIGURATION}: experiment is {experiment!r}; expected nsd or one of "
            f"{', '.join(EXPERIMENTS)}; copy the folder again."
        )
    scenes = EXPERIMENTS[experiment](config)
    return [scenes[int(index)] for index in images]


def _identity(config: AnySubjectConfig) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, **dataclasses.asdict(config)}
