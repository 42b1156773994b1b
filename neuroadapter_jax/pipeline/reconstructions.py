"""What a folder of reconstructions holds, and how it is read: of this version or of 0.1.0."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field, FiniteFloat
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import inside
from neuroadapter_jax.readers import JSONObject, as_type, read_json, read_picture

INDEX, UNFINISHED = "index.json", "unfinished.json"
_EXPECTED = "a folder of `neuroadapter reconstruct`, or one in its layout"


class _Index(TypedDict):
    images: list[JSONObject]
    settings: NotRequired[JSONObject]


class _Entry(TypedDict):
    image_id: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    stimulus: str | None
    candidates: list[str]
    name: NotRequired[str]
    chosen: NotRequired[int]
    scores: NotRequired[list[FiniteFloat]]


@dataclass(frozen=True)
class Reconstructions:
    """What a folder of reconstructions holds.

    Attributes:
        image_ids: one per stimulus.
        stimuli: [b, y, x, 3], 0..255; black where there is no image.
        candidates: all images of each response, [b, s, y, x, 3], 0..255.
        settings: how they were made.
        chosen: which of `candidates` counts as the reconstruction; the first without an encoder.
        has_target: whether a stimulus has an image.
        names: of the stimuli; "" where a number says all.
        scores: the encoder's, of all candidates; None without one.
    """

    image_ids: Int[np.ndarray, " b"]
    stimuli: UInt8[np.ndarray, "b y x c"]
    candidates: UInt8[np.ndarray, "b s y x c"]
    settings: dict[str, Any]
    chosen: Int[np.ndarray, " b"]
    has_target: Bool[np.ndarray, " b"]
    names: tuple[str, ...]
    scores: Float[np.ndarray, "b _s"] | None = None

    @property
    def best(self) -> UInt8[np.ndarray, "b y x c"]:
        """The reconstructions: the chosen candidates."""
        return self.candidates[np.arange(len(self.candidates)), self.chosen]


def as_reconstructions(
    files: list[dict[str, Any]],
    stimuli: UInt8[np.ndarray, "b y x c"],
    candidates: UInt8[np.ndarray, "b s y x c"],
    settings: dict[str, Any],
) -> Reconstructions:
    """The entries of an index together with the images that they name."""
    scored = all("scores" in entry for entry in files)
    several = candidates.shape[1] > 1
    return Reconstructions(
        np.array([entry["image_id"] for entry in files]),
        stimuli,
        candidates,
        settings,
        np.array([entry.get("chosen", 0) if several else 0 for entry in files]),
        np.array([entry["stimulus"] is not None for entry in files]),
        tuple(entry.get("name", "") for entry in files),
        np.array([entry["scores"] for entry in files], np.float64) if scored else None,
    )


def read_candidates(folder: Path, names: list[str]) -> UInt8[np.ndarray, "s y x c"] | None:
    """An image's candidates, if an earlier call has made them all."""
    if not all((folder / name).is_file() for name in names):
        return None
    return np.stack([_read_png(folder / name) for name in names])


def _read_png(path: Path) -> UInt8[np.ndarray, "y x c"]:
    image = read_picture(path)
    if image.mode != "RGB":
        raise InputError(
            f"{path}: found an image of mode {image.mode}; expected RGB, 8 bits per channel, "
            "so convert it first."
        )
    return np.asarray(image)


def load_reconstructions(folder: str | Path, *, require_targets: bool = True) -> Reconstructions:
    """Read a folder written by `reconstruct_split`, or by anyone in its layout.

    index.json holds "settings", any dictionary, and "images", a list of {"image_id", "stimulus",
    "candidates"}: the stimulus' file and those of its candidates, relative to the folder. "chosen"
    and "scores" are the encoder's, where one chose. "stimulus" is null for a stimulus without an
    image, "name" the stimulus' name where it has one. Folders of version 0.1.0, whose index says
    "seen" and "drawn", are read as well.

    Args:
        folder: the folder.
        require_targets: refuse a stimulus without an image, with which nothing can be compared.

    Raises:
        MissingFileError: no index.json, or an image that it lists is not there.
        InputError: an image is no RGB image or of another size than the others, an image_id
            occurs twice, there are more candidates of one stimulus than of another, a
            stimulus has no image, or a name leads out of the folder.

    Examples:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from PIL import Image
        >>> from neuroadapter_jax.pipeline import load_reconstructions
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("stimulus.png", "mine.png"):
        ...     Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(folder / name)
        >>> entry = {"image_id": 7, "stimulus": "stimulus.png", "candidates": ["mine.png"]}
        >>> index = {"settings": {"method": "mine"}, "images": [entry]}
        >>> _ = (folder / "index.json").write_text(json.dumps(index))
        >>> found = load_reconstructions(folder)
        >>> found.image_ids.tolist(), found.best.shape
        ([7], (1, 64, 64, 3))
    """
    folder = Path(folder)
    if not (folder / INDEX).is_file():
        raise MissingFileError(
            f"{folder / INDEX}: not found; expected a finished folder of "
            "`neuroadapter reconstruct`."
        )
    index = read_json(folder / INDEX, _EXPECTED, _Index)
    entries = [_current_entry(entry) for entry in index["images"]]
    as_type(list[_Entry], entries, folder / INDEX, _EXPECTED)
    ids = [entry["image_id"] for entry in entries]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise InputError(
            f"{folder / INDEX} lists image {twice} more than once; expected one entry per stimulus."
        )
    counts = [len(entry["candidates"]) for entry in entries]
    if len(set(counts)) != 1 or 0 in counts:
        raise InputError(
            f"{folder / INDEX} lists {min(counts, default=0)} to {max(counts, default=0)} "
            "candidates per stimulus; expected one number, at least 1, for all."
        )
    if require_targets and (lacking := [e for e in entries if e["stimulus"] is None]):
        raise InputError(
            f"{folder}: {len(lacking)} of {len(entries)} stimuli have no image, the first being "
            f"{lacking[0].get('name', lacking[0]['image_id'])}, so their reconstructions "
            "cannot be compared with the stimuli; evaluate a split whose stimuli all have one."
        )
    images: dict[str, np.ndarray] = {}
    for name in (n for entry in entries for n in (entry["stimulus"], *entry["candidates"]) if n):
        path = inside(folder, name, folder / INDEX)
        if not path.is_file():
            raise MissingFileError(
                f"{path}: listed in {INDEX} but not found; copy it again, or take it out of the "
                "list."
            )
        images[name] = image = _read_png(path)
        first = next(iter(images.values())).shape
        if image.shape != first:
            raise InputError(
                f"{folder / name} is {image.shape[0]} x {image.shape[1]} pixels, the images before "
                f"it are {first[0]} x {first[1]}; expected one size for all, so resize first."
            )
    # Where one candidate is left of several, "chosen" is its number among those.
    if counts[0] > 1 and (wrong := [e for e in entries if not 0 <= e.get("chosen", 0) < counts[0]]):
        raise InputError(
            f"{folder / INDEX} says that candidate {wrong[0]['chosen']} of image "
            f"{wrong[0]['image_id']} was chosen, of {counts[0]}; expected 0 to {counts[0] - 1}."
        )
    if len({len(e.get("scores", ())) for e in entries}) > 1:
        raise InputError(
            f"{folder / INDEX} lists another number of scores for one image than for another; "
            "expected one number for all."
        )
    none = np.zeros_like(images[entries[0]["candidates"][0]])
    return as_reconstructions(
        entries,
        np.stack([images[entry["stimulus"]] if entry["stimulus"] else none for entry in entries]),
        np.stack([np.stack([images[name] for name in entry["candidates"]]) for entry in entries]),
        current_settings(index.get("settings", {}), folder / INDEX),
    )


def _current_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of an index in today's words."""
    if "drawn" not in entry:
        return entry
    former = {"seen": "stimulus", "drawn": "candidates", "stimulus": "name"}
    return {former.get(key, key): value for key, value in entry.items()}


def current_settings(settings: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The settings of an index with the sampling's in one place, where version 0.1.0 had them."""
    former = ("sampler", "start", "num_steps", "guidance_scale")
    if "sampling" in settings or not set(former) <= settings.keys():
        return settings
    values = {key: settings[key] for key in former} | {"spacing": "leading"}
    sampling = as_type(Sampling, values, path)
    return {k: v for k, v in settings.items() if k not in former} | {"sampling": sampling.to_dict()}
