"""The Algonauts 2023 challenge: NSD's visual cortex, averaged over repeats, as it was given out.

Gifford et al. 2023 (arXiv 2301.03198), github.com/gifale95/algonauts_2023.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.label_formats import read_surface_values
from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.datasets.responses import fill_nan_vertices
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.ranges import Count, Seed
from neuroadapter_jax.readers import read_npy, read_rgb

_RESPONSES = "the responses of the challenge (.npy)"
_BLOCK = 500  # images read at once; 0.7 GB over the whole surface
_WHERE = "the challenge's data (algonauts.csail.mit.edu/braindata.html)"


class Algonauts2023:
    """One subject of the challenge, as a `Source` over the whole of fsaverage.

    The challenge's vertices go back to their places on fsaverage; all others are 0, so a
    parcellation of fsaverage applies, and regions outside visual cortex hold nothing. A trial is
    an image, since the repeats were averaged, after z-scoring per vertex and session; nothing is
    normalised again. `validation` is sampled from the training images by `seed`. The split `test`
    exists where the responses to the test images do (`test_split/test_fmri`): the challenge
    withheld them.

    Args:
        root: folder with `subj01` ... `subj08`.
        subject: 1 to 8.
        ncsnr: NSD's lh.ncsnr.mgh and rh.ncsnr.mgh on fsaverage; without them the SNR is unknown,
            and regions cannot be ranked.
        num_validation: number of validation images.
        seed: determines which.

    Raises:
        MissingFileError: a file is missing.
        InputError: the files do not fit together.
    """

    name = "nsd"
    regions = None

    def __init__(
        self,
        root: str | Path,
        subject: Count = 1,
        ncsnr: Sequence[str | Path] | None = None,
        num_validation: Count = 485,
        seed: Seed = 0,
    ):
        self.root, self.subject = Path(root), subject
        self._folder = self.root / f"subj{subject:02d}"
        self._num_validation, self._seed = num_validation, seed
        self._mask_files = [
            _require(self._folder / "roi_masks" / f"{h}.all-vertices_fsaverage_space.npy")
            for h in HEMISPHERES
        ]
        # 1 or 2: the file is the sum of two masks.
        masks = [_read_mask(path) for path in self._mask_files]
        self.num_vertices = (len(masks[0]), len(masks[1]))
        self._places = [np.flatnonzero(mask) for mask in masks]
        self._ncsnr_files = [Path(path) for path in ncsnr or ()]
        for path, count in zip(self._ncsnr_files, self.num_vertices, strict=False):
            if (found := len(read_surface_values(path))) != count:
                raise InputError(
                    f"{path} has {found} vertices, the masks of the challenge {count}; give NSD's "
                    f"ncsnr on fsaverage."
                )
        self._responses = {"training": self._response_files("training")}
        if (self._folder / "test_split" / "test_fmri").is_dir():
            self._responses["test"] = self._response_files("test")
        self._images = {part: self._image_files(part) for part in self._responses}
        self._check_responses()
        self._rows = {
            f"{part} {first + 1} on": (part, first)
            for part, images in self._images.items()
            for first in range(0, len(images), _BLOCK)
        }
        self.blocks = tuple(self._rows)
        self.stimulus_names: dict[int, str] = {}
        self.settings = {
            "space": "fsaverage",
            "layout": "algonauts2023",
            "normalize": "session",
            "ncsnr": bool(self._ncsnr_files),
            "num_validation": num_validation,
            "seed": seed,
        }

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        responses = [path for files in self._responses.values() for path in files]
        images = [path for files in self._images.values() for path in files.values()]
        return [*responses, *self._mask_files, *self._ncsnr_files, *images]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """Image of each row (0-based 73k id), training images first."""
        return np.array([image for files in self._images.values() for image in files], np.int64)

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """Training images in two splits; test images where their responses are."""
        count = len(self._images["training"])
        if not 0 < self._num_validation < count:
            raise InputError(
                f"num_validation is {self._num_validation}, but {self._folder} has {count} "
                f"training images; it must be at least 1 and leave images for training."
            )
        order = np.random.default_rng(self._seed).permutation(count)
        splits = {
            "train": np.sort(order[self._num_validation :]),
            "validation": np.sort(order[: self._num_validation]),
        }
        if "test" in self._images:
            splits["test"] = count + np.arange(len(self._images["test"]))
        return splits

    def read_block(self, block: str) -> Betas:
        """The responses of some of the training or of the test images."""
        part, first = self._rows[block]
        sides, empty, start = [], [], 0
        for path, places, count in zip(
            self._responses[part], self._places, self.num_vertices, strict=True
        ):
            rows = read_npy(path, _RESPONSES, mapped=True)
            with np.errstate(over="ignore"):  # what becomes infinite is refused below
                values = rows[first : first + _BLOCK].astype(np.float32)
            nan = fill_nan_vertices(values, path)
            side = np.zeros((len(values), count), np.float32)
            side[:, places] = values
            sides.append(side)
            empty.append(start + places[nan])
            start += count
        return Betas(np.concatenate(sides, axis=1), np.concatenate(empty))

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """NSD's, within the challenge's vertices; NaN outside, or where it was not given."""
        result = np.full(sum(self.num_vertices), np.nan, np.float32)
        start = 0
        for path, places, count in zip(
            self._ncsnr_files, self._places, self.num_vertices, strict=False
        ):
            result[start + places] = read_surface_values(path)[places]
            start += count
        return result

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """Images by 0-based 73k id."""
        known = {image: path for files in self._images.values() for image, path in files.items()}
        return [read_rgb(known[int(i)]) for i in ids]

    def _response_files(self, part: str) -> list[Path]:
        folder = self._folder / f"{part}_split" / f"{part}_fmri"
        return [_require(folder / f"{h}_{part}_fmri.npy") for h in HEMISPHERES]

    def _image_files(self, part: str) -> dict[int, Path]:
        """0-based 73k id -> file, in the order of the rows: train-0001_nsd-00013.png is the first.

        Row and id are both in the name, so nothing depends on how a folder is listed.
        """
        folder = _require(self._folder / f"{part}_split" / f"{part}_images")
        prefix = {"training": "train", "test": "test"}[part]
        rows = {}
        for path in folder.iterdir():
            if match := re.fullmatch(prefix + r"-(\d+)_nsd-(\d+)\.(png|jpe?g)", path.name):
                rows[int(match[1])] = int(match[2]), path
        if sorted(rows) != list(range(1, len(rows) + 1)):
            raise InputError(
                f"{folder} holds {len(rows)} images {prefix}-NNNN_nsd-NNNNN.png, not numbered from "
                f"1 without a gap; unpack {_WHERE} again."
            )
        return dict(rows[row] for row in sorted(rows))

    def _check_responses(self) -> None:
        for part, files in self._responses.items():
            for path, places in zip(files, self._places, strict=True):
                expected = (len(self._images[part]), len(places))
                found = read_npy(path, _RESPONSES, mapped=True)
                if found.shape != expected or found.dtype.kind not in "fiu":
                    raise InputError(
                        f"{path} has shape {found.shape} of {found.dtype}; expected numbers of "
                        f"shape {expected}, the images of the part and the vertices of the mask, "
                        f"so unpack {_WHERE} again."
                    )


def _read_mask(path: Path) -> Bool[np.ndarray, " n"]:
    mask = read_npy(path, "a mask of the challenge's vertices")
    if mask.ndim != 1 or mask.dtype.kind not in "fiub":
        raise InputError(
            f"{path} holds {mask.dtype} of shape {mask.shape}; expected one number per vertex, so "
            f"unpack {_WHERE} again."
        )
    return mask != 0


def _require(path: Path) -> Path:
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist; check the root and the subject, or get {_WHERE}."
        )
    return path
