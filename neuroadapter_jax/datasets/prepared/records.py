"""Random access to prepared records, without TensorFlow.

TFDS writes each record as a `tf.train.Example`. Reading one through TFDS would import TensorFlow
wherever it is installed, so the message is declared here and the arrays are taken from its bytes.
"""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax import fingerprints
from neuroadapter_jax.cortex.label_files import read_parcellation
from neuroadapter_jax.cortex.parcellation import Parcellation, Parcels
from neuroadapter_jax.datasets.belonging import Origin
from neuroadapter_jax.errors import InputError, MissingFileError, NotFiniteError, reading
from neuroadapter_jax.files import here_or_shipped, inside
from neuroadapter_jax.readers import read_json, read_npz

SPLITS = ("train", "validation", "test")  # of NSD, and of what else can be trained on
PROVENANCE = "provenance.json"
CORTEX = "cortex.npz"
INDEX = "index.npz"
STIMULI = "stimuli.npz"
REGIONS = "regions.npz"
IDS_OF_SPLITS = "the image ids of each split"  # what the file INDEX is expected to be
_RECORDS = "records of `neuroadapter prepare`"
SIMULATION = "simulation"  # in provenance.json: the configuration of a simulated subject
CHECKSUMS = "SHA256SUMS"  # beside the record files
# Arrays are stored as raw little-endian bytes; integers as int64. Shapes: provenance.json.
ARRAYS: dict[str, np.dtype] = {
    "image": np.dtype("uint8"),
    "betas": np.dtype("<f2"),
    "latent_mean": np.dtype("<f2"),
    "latent_std": np.dtype("<f2"),
}
_FINITE = {"betas": "responses", "latent_mean": "latents", "latent_std": "latents"}
# By name: the integers as scalars, the arrays as arrays.
Record = dict[str, np.ndarray | np.generic]
INTEGERS: dict[str, type[np.signedinteger]] = {"image_id": np.int64, "subject": np.int32}


class PreparedDataset:
    """One split of a prepared folder; `dataset[i]` is one image with its responses.

    A record holds image uint8 [y, x, 3], image_id int64, subject int32, betas float16 [k, n]
    (the k repeats, left then right hemisphere), and latent_mean and latent_std float16 [h, w, c]
    (moments of the VAE's posterior, not multiplied by its scaling factor). Records are in
    ascending order of image_id. A stimulus without an image, see `has_image`, has a black one.

    Args:
        prepared: folder written by `prepare_source`, or the name of a shipped one, such as
            "simulated-responses".
        split: a split of the dataset, such as `"train"`, `"validation"` or `"test"`.

    Attributes:
        image_ids: the stimuli, ascending.
        num_vertices: features of the left and the right hemisphere.
        ncsnr: noise-ceiling SNR per feature, at least 0; NaN where it is not known.
        provenance: what the folder was made from, how, and what it holds: its provenance.json.

    Raises:
        MissingFileError: the folder, or the split's records, are not there.
        InputError: an unknown split, or records and index disagree.
        NotFiniteError: an infinite SNR; or, where a record is read, a number that is not finite.

    Examples:
        >>> from neuroadapter_jax import PreparedDataset
        >>> from neuroadapter_jax.diffusion.weights import ASSETS
        >>> dataset = PreparedDataset(ASSETS / "simulated-responses", "test")
        >>> len(dataset), dataset.num_vertices
        (8, (10242, 10242))
        >>> record = dataset[0]
        >>> record["image"].shape, record["betas"].shape  # three presentations of one image
        ((64, 64, 3), (3, 20484))
    """

    def __init__(self, prepared: str | Path, split: str):
        self.path = here_or_shipped(prepared) or Path(prepared)
        self.split = split
        self.provenance = read_provenance(self.path)
        index = read_npz(self.path / INDEX, IDS_OF_SPLITS, {"*": "iu1"})
        if split not in index:
            raise InputError(
                f"{self.path} has no split {split!r}; choose one of {', '.join(index)}."
            )
        self.image_ids: Int64[np.ndarray, " images"] = index[split]
        expected = "the vertices of a prepared folder"
        layouts = {"ncsnr": "f1", "num_vertices": "iu1"}
        cortex = read_npz(self.path / CORTEX, expected, layouts)
        with reading(self.path / CORTEX, expected):
            self.ncsnr: Float32[np.ndarray, " n"] = cortex["ncsnr"]
            lh, rh = cortex["num_vertices"].tolist()
            self.num_vertices: tuple[int, int] = (lh, rh)
        if infinite := int(np.isinf(self.ncsnr).sum()):  # NaN is what is not known
            raise NotFiniteError(
                f"{self.path / CORTEX}: ncsnr is infinite at {infinite} vertices; expected numbers "
                f"from 0 on, so copy the folder again, or delete it and prepare it again."
            )
        self._shapes = {key: tuple(shape) for key, shape in self.provenance["shapes"].items()}
        folder = inside(self.path, self.provenance["records"], self.path / PROVENANCE)
        self._files = files = sorted(folder.glob(f"*-{split}.array_record-*"))
        if not files:
            raise MissingFileError(
                f"{folder} holds no records of split {split!r}; delete {self.path} and prepare it "
                f"again."
            )
        self._shards = []
        for file in files:
            with reading(file, _RECORDS):
                shard = ArrayRecordDataSource([str(file)])
                self._shards.append((file, shard, len(shard)))
        self._ends = np.cumsum([count for _, _, count in self._shards])
        if len(self) != len(self.image_ids):
            raise InputError(
                f"{folder} holds {len(self)} records of split {split!r} but {INDEX} lists "
                f"{len(self.image_ids)} images; delete {self.path} and prepare it again."
            )

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of the stimuli; "" for a stimulus that is known by its number only."""
        return tuple(map(str, self._stimuli("names", "")))

    @functools.cached_property
    def has_image(self) -> Bool[np.ndarray, " images"]:
        """Whether each stimulus has an image."""
        return self._stimuli("has_image", True)

    @functools.cached_property
    def regions(self) -> Parcellation | None:
        """The regions that the dataset brings along; None where it lies on a surface."""
        path = self.path / REGIONS
        return Parcellation.load(path) if path.exists() else None

    @property
    def origin(self) -> Origin:
        """What the records were made from, to compare with a model's or an encoder's data."""
        data = dict(self.provenance["request"])
        if (simulation := self.provenance.get(SIMULATION)) is not None:
            data[SIMULATION] = simulation
        return Origin(f"the records {self.path}", data)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the records' content: another one means that other numbers come out.

        Of the request and the small files in full, of each record file its listed checksum, its
        size, and the bytes at its start, middle and end; a shard of 128 MiB takes about a
        millisecond. What is damaged elsewhere in a shard `neuroadapter prepare --verify` finds.
        """
        folder = self.path / self.provenance["records"]
        sums, ours = folder / CHECKSUMS, f"-{self.split}.array_record-"
        lines = sums.read_text().splitlines() if sums.is_file() else []
        tables = [self.path / name for name in (CORTEX, INDEX, STIMULI, REGIONS)]
        return fingerprints.of_values(
            {
                "request": self.provenance["request"],
                "shapes": self.provenance["shapes"],
                "split": self.split,
                "tables": {p.name: fingerprints.of_file(p) for p in tables if p.is_file()},
                "checksums": [line for line in lines if ours in line],
                "shards": {p.name: fingerprints.of_samples(p) for p in self._files},
            }
        )

    def _stimuli(self, key: str, default: str | bool) -> np.ndarray:
        if not (self.path / STIMULI).exists():  # folders of older versions lack it
            return np.full(len(self.image_ids), default)
        path, expected = self.path / STIMULI, "the stimuli of a prepared folder"
        kind = "b1" if isinstance(default, bool) else "U1"
        stimuli = read_npz(path, expected, {key: kind, "ids": "iu1"})
        with reading(path, expected):
            known = stimuli["ids"]
            if len(lacking := np.setdiff1d(self.image_ids, known)):
                raise InputError(
                    f"{path} lacks {len(lacking)} images of split {self.split!r}, such as image "
                    f"{lacking[0]}; copy {self.path} again or prepare it again."
                )
            return stimuli[key][np.searchsorted(known, self.image_ids)]

    def parcellation(self, files: Sequence[str], parcels: Parcels = "own") -> Parcellation:
        """The regions that the dataset brings along, or those of label files of its surface.

        Args:
            files: of the left and the right hemisphere; not looked at if it brings regions.
            parcels: "own" for each hemisphere's own file; "released" for the left file's vertex
                sets in both hemispheres, as the released code has them.

        Raises:
            MissingFileError: a label file is missing.
            InputError: the dataset brings no regions and there are not two files, or what
                `read_parcellation` refuses in them.
        """
        if self.regions is not None:
            return self.regions
        if len(files) != 2:
            raise InputError(
                f"{self.path} brings no regions along, so a parcellation is needed: name the "
                f"label files of the left and the right hemisphere (data.parcellation)."
            )
        left, right = files
        return read_parcellation(left, right, self.num_vertices, parcels)

    def fmri_and_stimuli(
        self, num_images: int | None = None
    ) -> tuple[Float32[np.ndarray, "b n"], UInt8[np.ndarray, "b y x c"]]:
        """Responses, averaged over repeats, and stimuli, as a pipeline takes and compares them.

        `read_split` gives other arrays of the records, and a part of what would fill the memory.

        Args:
            num_images: the first so many only; all when None.

        Raises:
            InputError: the split, or num_images, holds no image.
        """
        from neuroadapter_jax.datasets.input_pipeline import read_split  # which imports Grain

        found = read_split(self, "betas", "image", num_images=num_images)
        return found["betas"].astype(np.float32), found["image"]

    def require_images(self) -> None:
        """Refuses a split in which a stimulus has no image.

        Raises:
            InputError: such a stimulus.
        """
        if not self.has_image.all():
            first = int(np.argmin(self.has_image))
            raise InputError(
                f"{len(self) - self.has_image.sum()} of {len(self)} stimuli of split "
                f"{self.split!r} of {self.path} have no image, the first being "
                f"{self.names[first] or self.image_ids[first]}; nothing can be trained on them or "
                f"compared with them."
            )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: SupportsIndex) -> Record:
        return self.read(index)

    def read(
        self,
        index: SupportsIndex,
        arrays: Collection[str] = tuple(ARRAYS),
        vertices: Int[np.ndarray, " m"] | None = None,
    ) -> Record:
        """One record, or that part of it that is needed.

        A record at the size of NSD's fsaverage is 2.8 MB, of which a training step takes a fifth.

        Args:
            index: place of the record in the split, from 0.
            arrays: which of "image", "betas", "latent_mean" and "latent_std" are read; all by
                default. The integers always are.
            vertices: of which features of the cortex the betas are given, in this order; of all
                when None.

        Raises:
            IndexError: there is no such record.
            NotFiniteError: a number that is read is not finite.
            InputError: the record is of another image than the index says, or it cannot be read.
        """
        if not 0 <= index.__index__() < len(self):
            raise IndexError(f"There is no record {index} among {len(self)}.")
        shard = int(np.searchsorted(self._ends, index.__index__(), side="right"))
        file, records, count = self._shards[shard]
        with reading(file, _RECORDS):
            message = records[index.__index__() - int(self._ends[shard]) + count]
            features = _example_class().FromString(message).features.feature
            record: Record = {
                key: dtype(features[key].int64_list.value[0]) for key, dtype in INTEGERS.items()
            }
            for key in (key for key in ARRAYS if key in arrays):
                array = np.frombuffer(features[key].bytes_list.value[0], ARRAYS[key])
                array = array.reshape(self._shapes[key])
                if key == "betas" and vertices is not None:
                    array = array.take(vertices, axis=1)
                record[key] = array
        for key in (key for key in _FINITE if key in record):
            if not np.isfinite(record[key]).all():
                raise NotFiniteError(
                    f"{file}: the {_FINITE[key]} ({key}) of image {record['image_id']} hold NaN or "
                    f"infinite numbers; expected finite ones, as `neuroadapter prepare` writes "
                    f"them, so copy {self.path} again or prepare it again."
                )
        listed = self.image_ids[index.__index__()]
        if listed != record["image_id"]:
            raise InputError(
                f"{self.path / INDEX} lists image {listed} at place {index} of split "
                f"{self.split!r}, but the record there is of image {record['image_id']}; index and "
                f"records do not belong together, so prepare them again or copy both."
            )
        return record


class _Provenance(TypedDict):
    request: dict[str, Any]
    shapes: dict[str, list[int]]
    records: str


def read_provenance(prepared: Path) -> dict[str, Any]:
    """What a prepared folder was made from, how, and what it holds."""
    path = prepared / PROVENANCE
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist, so {prepared} is not a prepared folder; run "
            f"`neuroadapter prepare` first."
        )
    expected = "what `neuroadapter prepare` writes of a folder"
    return read_json(path, expected, _Provenance, "prepare the folder again")


def encode_record(record: dict[str, Any]) -> bytes:
    """A record as the bytes that TFDS would write and `PreparedDataset` reads."""
    features: dict[str, dict[str, Any]] = {
        key: {"int64_list": {"value": [int(record[key])]}} for key in INTEGERS
    }
    for key, dtype in ARRAYS.items():
        values = np.ascontiguousarray(record[key], dtype).tobytes()
        features[key] = {"bytes_list": {"value": [values]}}
    message = _example_class()(features={"feature": features})
    # Maps have no order, but the same record is to give the same bytes.
    return message.SerializeToString(deterministic=True)


def describe(prepared: Path) -> list[str]:
    """Lines for people: what a prepared folder holds per split."""
    made = read_provenance(prepared)
    lines = [
        f"dataset {made['request'].get('dataset', 'nsd')}, subject {made['request']['subject']}, "
        f"normalisation {made['request']['normalize']}, {made['trials']} trials"
    ]
    for split in made["images"]:
        dataset = PreparedDataset(prepared, split)
        lacking = len(dataset) - int(dataset.has_image.sum())
        note = f", {lacking} of them without an image" if lacking else ""
        lines.append(f"  {split}: {len(dataset)} stimuli{note}")
    if nan := made["nan_vertices_set_to_0"]:
        lines.append(f"  features that were NaN in a block, and are 0: {nan}")
    return lines


@functools.cache
def _example_class() -> Any:  # a type that protobuf makes while it runs
    """The message tf.train.Example, as far as it is used here."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="neuroadapter_jax/example.proto", package="neuroadapter_jax", syntax="proto3"
    )

    def message(parent, name, *fields):
        made = parent.add(name=name)
        for number, field, kind, repeated, of in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            made.field.add(
                name=field,
                number=number,
                type=kind,
                label=label,
                type_name=f".neuroadapter_jax.{of}" if of else None,
            )
        return made

    message(file.message_type, "BytesList", (1, "value", kinds.TYPE_BYTES, True, None))
    message(file.message_type, "Int64List", (1, "value", kinds.TYPE_INT64, True, None))
    message(
        file.message_type,
        "Feature",
        (1, "bytes_list", kinds.TYPE_MESSAGE, False, "BytesList"),
        (3, "int64_list", kinds.TYPE_MESSAGE, False, "Int64List"),
    )
    features = message(
        file.message_type,
        "Features",
        (1, "feature", kinds.TYPE_MESSAGE, True, "Features.FeatureEntry"),
    )
    entry = message(
        features.nested_type,
        "FeatureEntry",
        (1, "key", kinds.TYPE_STRING, False, None),
        (2, "value", kinds.TYPE_MESSAGE, False, "Feature"),
    )
    entry.options.map_entry = True
    message(file.message_type, "Example", (1, "features", kinds.TYPE_MESSAGE, False, "Features"))
    # A separate pool: TensorFlow, where present, declares its Example in the default pool.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("neuroadapter_jax.Example"))
