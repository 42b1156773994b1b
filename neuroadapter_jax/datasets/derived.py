"""NSD as others have prepared it: BERG's files, and those that the released code reads.

BERG (github.com/gifale95/BERG) writes `metadata_subject-N.npy` and `{lh,rh}_betas_subject-N.h5`
(key `betas`). The released code of NeuroAdapter and of the brain encoder reads
`metadata_sub-0N.npy` and `betas_sub-0N.h5` (keys `lh_betas`, `rh_betas`), which are not public.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64, UInt8

from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.datasets.hdf5 import hdf5_dataset, open_hdf5
from neuroadapter_jax.datasets.prepared.records import SPLITS
from neuroadapter_jax.datasets.responses import fill_nan_vertices, zscore
from neuroadapter_jax.datasets.safe_pickle import load_dictionary
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.ranges import Count

NORMALIZATIONS = ("as_stored", "session")
_TRIALS_PER_SESSION = 750
_BETAS, _IMAGES = "the betas beside the metadata (HDF5)", "NSD's images (nsd_stimuli.hdf5)"


class DerivedNSD:
    """One subject of NSD from BERG's files or the released code's, as a `Source`.

    The splits are the file's own: training images that only this subject saw, validation and test
    of the shared ones, the latter shown three times to all subjects (9,000 / 485 / 515 for those
    who finished). BERG's responses are z-scored per vertex and session, so `normalize="as_stored"`
    leaves them; whether the released code's are z-scored is not known, and `"session"` z-scores
    them, 750 trials at a time. A vertex that is NaN in a whole session becomes 0 and is counted.

    Args:
        root: folder with the files.
        images: NSD's `nsd_stimuli.hdf5`.
        subject: 1 to 8.
        normalize: `"as_stored"` or `"session"`.
        allow_pickle: the metadata are a pickle, see `load_dictionary`.

    Raises:
        MissingFileError: a file is missing.
        InputError: pickles are not allowed, or the files do not fit together.
    """

    name = "nsd"
    regions = None

    def __init__(
        self,
        root: str | Path,
        images: str | Path,
        subject: Count = 1,
        normalize: str = "as_stored",
        allow_pickle: bool = False,
    ):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self.root, self.subject, self._normalize = Path(root), subject, normalize
        berg = self.root / f"metadata_subject-{subject}.npy"
        released = self.root / f"metadata_sub-{subject:02d}.npy"
        if berg.exists():
            self._layout, self._metadata_file = "berg", berg
            self._betas = {
                h: (self.root / f"{h}_betas_subject-{subject}.h5", "betas") for h in HEMISPHERES
            }
        elif released.exists():
            self._layout, self._metadata_file = "released", released
            self._betas = {
                h: (self.root / f"betas_sub-{subject:02d}.h5", f"{h}_betas") for h in HEMISPHERES
            }
        else:
            raise MissingFileError(
                f"{self.root} holds neither {berg.name} (BERG: github.com/gifale95/BERG) nor "
                f"{released.name} (the released code's, on request from its authors)."
            )
        self._images_file = Path(images)
        metadata = load_dictionary(self._metadata_file, allow_pickle=allow_pickle)
        self._trial_ids = self._ids(metadata, "img_presentation_order")
        parts = ("train_img_num", "val_img_num", "test_img_num")
        self._split_ids = {s: self._ids(metadata, k) for s, k in zip(SPLITS, parts, strict=True)}
        snr = [np.asarray(self._key(metadata, f"{h}_ncsnr")).reshape(-1) for h in HEMISPHERES]
        self.num_vertices = self._check_betas([len(part) for part in snr])
        with reading(self._metadata_file, "numbers as the ncsnr of each vertex"):
            self._ncsnr = np.concatenate(snr).astype(np.float32)
        self._check_images()
        self._metadata = metadata
        count = len(self._trial_ids)
        self.blocks = tuple(range(1, -(-count // _TRIALS_PER_SESSION) + 1))
        self.stimulus_names: dict[int, str] = {}
        self.settings = {
            "space": "fsaverage",
            "layout": self._layout,
            "normalize": normalize,
            "sessions": list(self.blocks),
        }

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        betas = dict.fromkeys(path for path, _ in self._betas.values())
        return [*betas, self._metadata_file, self._images_file]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """Image shown in each trial (0-based 73k id)."""
        return self._trial_ids

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """The trials of each split's images; an image never shown has none."""
        return {
            split: np.flatnonzero(np.isin(self._trial_ids, ids))
            for split, ids in self._split_ids.items()
        }

    def read_block(self, session: int) -> Betas:
        """The responses of one session's trials."""
        first = (session - 1) * _TRIALS_PER_SESSION
        parts, empty, start = [], [], 0
        for path, key in self._betas.values():
            with open_hdf5(path, _BETAS) as file:
                rows = hdf5_dataset(file, key)[first : first + _TRIALS_PER_SESSION]
                with np.errstate(over="ignore"):  # what becomes infinite is refused below
                    part = rows.astype(np.float32)
            empty.append(start + fill_nan_vertices(part, path))
            if self._normalize == "session":
                zscore(part)
            parts.append(part)
            start += part.shape[1]
        return Betas(np.concatenate(parts, axis=1), np.concatenate(empty))

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """The file's own."""
        return self._ncsnr

    def rois(self) -> dict[str, Bool[np.ndarray, " n"]]:
        """Name of functional ROI -> mask over the left, then the right hemisphere."""
        key = "fsaverage_rois" if self._layout == "berg" else "rois"
        masks: dict[str, np.ndarray] = {}
        start = 0
        for hemisphere, count in zip(HEMISPHERES, self.num_vertices, strict=True):
            for name, members in self._key(self._metadata, f"{hemisphere}_{key}").items():
                mask = masks.setdefault(name, np.zeros(sum(self.num_vertices), bool))
                # Index arrays in BERG's files, masks in the released code's.
                mask[start : start + count][np.asarray(members)] = True
            start += count
        return masks

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """Images by 0-based 73k id."""
        with open_hdf5(self._images_file, _IMAGES) as file:
            brick = hdf5_dataset(file, "imgBrick", sparse=True)
            return [brick[int(i)] for i in ids]

    def _key(self, metadata: dict[str, Any], key: str) -> Any:
        if key not in metadata:
            raise InputError(
                f"{self._metadata_file} has no {key!r}; it has {', '.join(map(str, metadata))}."
            )
        return metadata[key]

    def _ids(self, metadata: dict[str, Any], key: str) -> Int64[np.ndarray, " _"]:
        ids = np.asarray(self._key(metadata, key)).reshape(-1)
        if ids.dtype.kind not in "iu" or not len(ids):
            raise InputError(
                f"{self._metadata_file}: {key!r} is an array of {ids.dtype} and shape {ids.shape}; "
                f"expected image ids; get the file again."
            )
        return ids.astype(np.int64)

    def _check_betas(self, expected: list[int]) -> tuple[int, int]:
        for (path, key), count in zip(self._betas.values(), expected, strict=True):
            if not path.exists():
                raise MissingFileError(
                    f"{path} does not exist, although {self._metadata_file.name} beside it does; "
                    f"get it from where that came from."
                )
            with open_hdf5(path, _BETAS) as file:
                shape = hdf5_dataset(file, key).shape if key in file else None
            if shape != (len(self._trial_ids), count):
                raise InputError(
                    f"{path} holds {key!r} of shape {shape}; expected "
                    f"({len(self._trial_ids)}, {count}), the trials and the vertices with an SNR "
                    f"that {self._metadata_file.name} lists."
                )
        return expected[0], expected[1]

    def _check_images(self) -> None:
        if not self._images_file.exists():
            raise MissingFileError(
                f"{self._images_file} does not exist; it is s3://natural-scenes-dataset/"
                f"nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5 (aws s3 cp --no-sign-request)."
            )
        with open_hdf5(self._images_file, _IMAGES) as file:
            held = "imgBrick" in file
            shape = hdf5_dataset(file, "imgBrick", sparse=True).shape if held else None
        if shape is None or len(shape) != 4 or shape[0] <= self._trial_ids.max():
            raise InputError(
                f"{self._images_file} holds imgBrick of shape {shape}; expected more than "
                f"{self._trial_ids.max()} images [image, y, x, 3], so download the whole file."
            )
