"""TFDS builder of prepared records: one record per image, as ArrayRecord files.

The only code of the project that needs TensorFlow; reading the records needs none.
"""

import contextlib
import io
import tempfile
from pathlib import Path

import tensorflow_datasets as tfds

from neuroadapter_jax.datasets.prepare import RecordSource
from neuroadapter_jax.datasets.records import ARRAYS, INTEGERS

_KEY_BITS = 128


class Builder(tfds.core.GeneratorBasedBuilder):
    """Writes the records of a `RecordSource`; a written folder opens without this class."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: RecordSource, **kwargs):
        self._source = source
        self.name = source.name  # it names the folder
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            key: tfds.features.Tensor(
                shape=self._source.shapes[key],
                dtype=dtype,
                # Without an encoding TFDS would widen float16 to float32 and uint8 to int64.
                encoding=tfds.features.Encoding.BYTES,
            )
            for key, dtype in ARRAYS.items()
        }
        features |= {key: tfds.features.Scalar(dtype) for key, dtype in INTEGERS.items()}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self._source.image_ids}

    def _generate_examples(self, split: str):
        count = len(self._source.image_ids[split])
        # TFDS sorts by key in 1,000 buckets that divide the range of 128-bit keys. Keys spread
        # over it keep the order of the images and let no bucket outgrow memory.
        for position, record in enumerate(self._source.records(split)):
            yield (position << _KEY_BITS) // count, record


def write_records(
    source: RecordSource, folder: Path, builder_class: type[Builder] = Builder
) -> Path:
    """Writes all splits below `folder`; returns the folder with the record files."""
    tfds.disable_progress_bar()
    builder = builder_class(source=source, data_dir=folder)
    # TFDS would announce a download, which this is not, and keep an empty folder for it.
    with tempfile.TemporaryDirectory() as empty, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=empty)
    return Path(builder.data_dir)
