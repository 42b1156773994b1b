"""Deeprecon: natural images, shapes and letters, viewed and imagined by three subjects.

Shen, Horikawa, Majima and Kamitani 2019 (PLoS Computational Biology 15:e1006633; OpenNeuro
ds001506), as the preprocessed BData files of figshare 7033577 and 21564384, or any BData made from
it, on voxels or on a surface.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64, UInt8

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.bdata import BData
from neuroadapter_jax.datasets.bdata_features import read_features
from neuroadapter_jax.datasets.responses import fill_nan_vertices, zscore
from neuroadapter_jax.datasets.source import Betas
from neuroadapter_jax.datasets.text_table import read_text_table
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.ranges import Count, Seed
from neuroadapter_jax.readers import read_rgb

NORMALIZATIONS = ("train-stats", "run", "none")
# What a file of each part of the experiment has in its name. Split "train" is cut in two.
PARTS = {
    "train": r"(NaturalImage|ImageNet)Training",
    "test": r"(NaturalImage|ImageNet)Test",
    "artificial": r"Artificial(Image|Shapes?)",
    "letters": r"(Alphabet)?Letter(Image|s)?",
    "imagery": r"(?i:imagery)",
}
SOURCES = "figshare 7033577 or 21564384 (doi.org/10.6084/m9.figshare.7033577)"
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}


def stimulus_name(text: str) -> str:
    """The name of an ImageNet image, however the events write it; any other name as it is.

    `1518878.005958` stands for `n01518878_5958`: the WordNet number, then the image's number in
    six decimals. Read as a number such an id loses its trailing zeros, which are put back here.

    Args:
        text: as the events or a table write it.

    Examples:
        >>> from neuroadapter_jax.datasets.deeprecon import stimulus_name
        >>> [stimulus_name(text) for text in ("1518878.005958", "1518878.00596", "letter_A")]
        ['n01518878_5958', 'n01518878_5960', 'letter_A']
    """
    match = re.fullmatch(r"(\d{1,8})\.(\d{1,6})", text.strip())
    if match is None:
        return text.strip()
    return f"n{int(match[1]):08d}_{int(match[2].ljust(6, '0'))}"


class Deeprecon:
    """One subject of Deeprecon, as a `Source`.

    Features are the voxels of the file. If it has rows `ROI_LH_...` and `ROI_RH_...`, the features
    are the voxels of those rows, left hemisphere first, and the regions are those rows. Else all
    voxels are features, and the regions, of hemisphere "both", are the rows `ROI_...` except the
    unions VC, LVC and HVC. Regions may overlap. A surface file (`VertexLeft`, `VertexRight`) has
    the vertices as features, and a parcellation of its surface gives the regions.

    Splits: `train` and `validation` (training images sampled by `seed`), `test` (natural images of
    other categories), and those of `artificial`, `letters` and `imagery` whose files are there. A
    trial is a row of a file; its stimulus is read as text, from `stimulus_name` and its vmap or
    from `image_index` and the table of names of that part.

    With `normalize="train-stats"` z = (x - mean) / std per feature, with the statistics of all
    trials of the training file (divisor N - 1), as the laboratory's own decoders do; with `"run"`
    over the trials of each run; with `"none"` the values stay what they are.

    Args:
        root: folder with the files `sub-0N_..._.h5`, anywhere below it.
        subject: 1 to 3.
        images: folder with the images, anywhere below it, named like the stimuli; None without.
        rois: names of the regions without `ROI_` and hemisphere, in the order of the tokens; None
            for all.
        stimulus_tables: per part (`train`, `test`, ...) the table of two columns, name and number
            from 1, that `image_index` refers to.
        normalize: `"train-stats"`, `"run"` or `"none"`.
        num_validation: images of the training file set aside for validation.
        seed: determines which.

    Raises:
        MissingFileError: a file, or the image of a training stimulus, is missing.
        InputError: a file that is not as described, or an unknown region or normalisation.
    """

    name = "deeprecon"

    def __init__(
        self,
        root: str | Path,
        subject: Count = 1,
        images: str | Path | None = None,
        rois: Sequence[str] | None = None,
        stimulus_tables: Mapping[str, str | Path] | None = None,
        normalize: str = "train-stats",
        num_validation: Count = 60,
        seed: Seed = 0,
    ):
        if normalize not in NORMALIZATIONS:
            raise InputError(
                f"normalize is {normalize!r}; choose one of {', '.join(NORMALIZATIONS)}."
            )
        self.root, self.subject = Path(root), subject
        self._normalize, self._num_validation, self._seed = normalize, num_validation, seed
        self._tables = {part: Path(path) for part, path in (stimulus_tables or {}).items()}
        self._parts = {
            part: BData(path, SOURCES)
            for part, path in _find_files(self.root, subject, self._tables).items()
        }
        self._columns, self.num_vertices, self.regions = self._same_features(rois)

        names = {part: self._stimuli(part) for part in self._parts}
        every = sorted({name for part in names.values() for name in part})
        self.stimulus_names = dict(enumerate(every))
        number = {name: i for i, name in self.stimulus_names.items()}
        self._trial_ids = np.array([number[name] for part in names.values() for name in part])
        self._part_of = np.repeat(list(names), [len(part) for part in names.values()])
        self._blocks = self._find_blocks()
        self.blocks = tuple(self._blocks)
        self._image_files = self._find_images(images)
        self._statistics: tuple[np.ndarray, np.ndarray] | None = None
        self.settings = {
            "space": "voxels" if self.regions is not None else "surface",
            "parts": list(self._parts),
            "rois": list(rois) if rois is not None else None,
            "normalize": normalize,
            "num_validation": num_validation,
            "seed": seed,
        }

    @property
    def files(self) -> list[Path]:
        """Every file this subject is read from."""
        parts = [part.path for part in self._parts.values()]
        return [*parts, *self._tables.values(), *self._image_files.values()]

    def trial_image_ids(self) -> Int64[np.ndarray, " trials"]:
        """The stimulus of each row of the files, as a key of `stimulus_names`."""
        return self._trial_ids

    def splits(self) -> dict[str, Int64[np.ndarray, " _"]]:
        """The rows of each file; those of the training file in two splits, by image."""
        rows = {part: np.flatnonzero(self._part_of == part) for part in self._parts}
        shown = np.unique(self._trial_ids[rows["train"]])
        if not 0 < self._num_validation < len(shown):
            raise InputError(
                f"num_validation is {self._num_validation}, but {self._parts['train'].path} shows "
                f"{len(shown)} images; it must be at least 1 and leave images for training."
            )
        order = np.random.default_rng(self._seed).permutation(shown)
        train = rows.pop("train")
        held_out = np.isin(self._trial_ids[train], order[: self._num_validation])
        return {"train": train[~held_out], "validation": train[held_out], **rows}

    def read_block(self, block: str) -> Betas:
        """The responses of one run of one file, or of the file where it does not mark its runs."""
        betas, nan_features = self._read(block)
        if self._normalize == "run":
            zscore(betas)
        elif self._normalize == "train-stats":
            mean, deviation = self._training_statistics()
            betas = ((betas - mean) / deviation).astype(np.float32)
            betas[:, nan_features] = 0
        return Betas(betas, nan_features)

    def ncsnr(self) -> Float32[np.ndarray, " n"]:
        """SNR from the repeats of the training images, or of the test images if those have none.

        As NSD defines it, see `NoiseCeiling`, z-scored within each run; over the images that were
        shown the most common number of times.
        """
        for part in ("train", "test"):
            shown = self._trial_ids[self._part_of == part]
            repeats = Counter(np.unique(shown, return_counts=True)[1].tolist())
            repeats.pop(1, None)
            if repeats:
                ceiling = NoiseCeiling(
                    shown, sum(self.num_vertices), max(repeats, key=lambda k: (repeats[k], k))
                )
                for block, (owner, _, _) in self._blocks.items():
                    if owner == part:
                        ceiling.add(self._read(block)[0].astype(np.float64))
                return ceiling.ncsnr()
        return np.full(sum(self.num_vertices), np.nan, np.float32)

    def images(self, ids: Int[np.ndarray, " b"]) -> Sequence[UInt8[np.ndarray, "y x 3"] | None]:
        """The images; None where the folder has none of the stimulus's name."""
        files = [self._image_files.get(self.stimulus_names[int(i)]) for i in ids]
        return [None if file is None else read_rgb(file) for file in files]

    def _same_features(
        self, rois: Sequence[str] | None
    ) -> tuple[dict[str, Int64[np.ndarray, " n"]], tuple[int, int], Parcellation | None]:
        """Per part the columns of the features, and what all parts must agree on."""
        found = {part: read_features(data, rois) for part, data in self._parts.items()}
        _, counts, regions = found["train"]
        for part, (_, other_counts, other) in found.items():
            same = regions is None or (other and other.fingerprint() == regions.fingerprint())
            if other_counts != counts or not same:
                raise InputError(
                    f"{self._parts[part].path} holds {other_counts} features (left, right) and "
                    f"{self._parts['train'].path.name} {counts}, or their regions differ; all "
                    f"files of a subject must have the same features, so take them from one "
                    f"release."
                )
        return {part: columns for part, (columns, _, _) in found.items()}, counts, regions

    def _stimuli(self, part: str) -> list[str]:
        data = self._parts[part]
        names = data.labels("stimulus_name")
        if names is None:
            numbers = data.single("image_index")
            if numbers is None:
                raise InputError(
                    f"{data.path} says nowhere what was shown: it has neither stimulus_name with a "
                    f"vmap nor image_index among {', '.join(data.keys)}."
                )
            names = self._names_of_numbers(part, numbers)
        return [stimulus_name(name) for name in names]

    def _names_of_numbers(self, part: str, numbers: Float64[np.ndarray, " trials"]) -> list[str]:
        path = self._tables.get(part)
        if not np.isfinite(numbers).all():
            raise InputError(
                f"{self._parts[part].path} has an image_index that is no number; download it again."
            )
        if path is None:
            return [f"{part}_{int(number):04d}" for number in numbers]
        # As text: a name like 1518878.005950 read as a number loses its last digit.
        table = read_text_table(
            path,
            "a table of names and numbers",
            sep="\t",
            header=None,
            dtype=str,
            keep_default_na=False,
        )
        rows = table[table[1].str.fullmatch(r"\d+")] if table.shape[1] == 2 else table[:0]
        known = {int(number): name for name, number in rows.itertuples(index=False)}
        if unknown := sorted({int(n) for n in numbers} - set(known)):
            raise InputError(
                f"{self._parts[part].path} shows image_index {unknown[0]}, but {path} lists "
                f"{len(known)} names (two columns, name and number from 1); name the table of this "
                f"part."
            )
        return [known[int(number)] for number in numbers]

    def _find_blocks(self) -> dict[str, tuple[str, int, int]]:
        """Name of block -> part, first and last row; a block is a run where the file marks runs."""
        blocks = {}
        for part, data in self._parts.items():
            marks = [m for key in ("Session", "Run") if (m := data.single(key)) is not None]
            if data.single("Run") is None and self._normalize == "run":
                raise InputError(
                    f"{data.path} does not mark its runs (no 'Run' in its metadata), so responses "
                    f"cannot be normalised per run; choose another normalize."
                )
            changes = np.any([np.diff(m) != 0 for m in marks], axis=0) if marks else np.zeros(0)
            edges = [0, *(np.flatnonzero(changes) + 1), data.num_samples]
            for k, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True), start=1):
                blocks[f"{part} {k}"] = (part, int(first), int(last))
        return blocks

    def _find_images(self, folder: str | Path | None) -> dict[str, Path]:
        if folder is None:
            return {}
        if not Path(folder).is_dir():
            raise MissingFileError(
                f"{folder} is no folder of images; they are given on request (see the README of "
                f"github.com/KamitaniLab/DeepImageReconstruction), or set images to None."
            )
        files = {p.stem: p for p in sorted(Path(folder).rglob("*")) if _is_image(p)}
        shown = {self.stimulus_names[i] for i in self._trial_ids[self._part_of == "train"]}
        if missing := sorted(shown - files.keys()):
            raise MissingFileError(
                f"{folder} lacks the images of {len(missing)} of {len(shown)} training stimuli, "
                f"the first being {missing[0]}; it holds {len(files)} images."
            )
        return {name: files[name] for name in self.stimulus_names.values() if name in files}

    def _read(self, block: str) -> tuple[Float32[np.ndarray, "trials n"], Int64[np.ndarray, " m"]]:
        part, first, last = self._blocks[block]
        data = self._parts[part]
        with np.errstate(over="ignore"):  # what becomes infinite is refused below
            betas = data.read(self._columns[part], first, last).astype(np.float32)
        return betas, fill_nan_vertices(betas, data.path)

    def _training_statistics(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
        """Mean and standard deviation (divisor N - 1) of the training trials; 1 where it is 0."""
        if self._statistics is None:
            blocks = [name for name, (part, _, _) in self._blocks.items() if part == "train"]
            count = int(np.sum(self._part_of == "train"))
            mean = sum(self._read(b)[0].sum(axis=0, dtype=np.float64) for b in blocks) / count
            squares = sum(((self._read(b)[0] - mean) ** 2).sum(axis=0) for b in blocks)
            deviation = np.sqrt(squares / max(count - 1, 1))
            self._statistics = mean, np.where(deviation > 1e-12, deviation, 1)
        return self._statistics


def _find_files(root: Path, subject: int, tables: Mapping[str, Path]) -> dict[str, Path]:
    candidates = sorted(root.rglob(f"sub-{subject:02d}_*.h5"))
    found = {}
    for part, pattern in PARTS.items():
        files = [path for path in candidates if re.search(f"_[a-z]*{pattern}_", path.name)]
        if len(files) > 1:
            raise InputError(
                f"{root} holds {len(files)} files of the part {part!r}: "
                f"{', '.join(path.name for path in files)}; leave one, since their features may "
                f"differ."
            )
        if files:
            found[part] = files[0]
    if "train" not in found:
        raise MissingFileError(
            f"{root} holds no file sub-{subject:02d}_perceptionNaturalImageTraining_..._.h5 (nor "
            f"..._ImageNetTraining_...); download it from {SOURCES}."
        )
    if strange := sorted(set(tables) - set(found)):
        raise InputError(
            f"stimulus_tables names the part(s) {strange}, of which there are no files; the parts "
            f"here are {sorted(found)}."
        )
    for path in tables.values():
        if not path.exists():
            raise MissingFileError(
                f"{path} does not exist; it is the table of stimulus names of {SOURCES}."
            )
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _IMAGE_SUFFIXES
