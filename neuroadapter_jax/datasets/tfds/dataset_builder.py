"""One record per image, in ArrayRecord files, with the description that TFDS reads them by."""

from pathlib import Path

import tensorflow_datasets as tfds

from neuroadapter_jax.datasets.prepared.records import ARRAYS, INTEGERS
from neuroadapter_jax.datasets.prepared.shards import RecordSource, write_shards

VERSION = "1.0.0"


def write_records(source: RecordSource, folder: Path) -> Path:
    """Writes all splits below `folder`, and what TFDS needs to read them.

    TFDS would write every record twice, to sort them, and start again after a kill. So the files
    are written in their order, and TFDS describes them (its "external" datasets).

    Returns:
        The folder with the record files.
    """
    folder = folder / source.name / VERSION
    write_shards(folder, source)
    features = {
        key: tfds.features.Tensor(
            shape=source.shapes[key],
            dtype=dtype,
            # Without an encoding TFDS would widen float16 to float32 and uint8 to int64.
            encoding=tfds.features.Encoding.BYTES,
        )
        for key, dtype in ARRAYS.items()
    }
    features |= {key: tfds.features.Scalar(dtype) for key, dtype in INTEGERS.items()}
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=source.name, filetype_suffix="array_record"
    )
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=[stop - start for start, stop in spans],
            num_bytes=sum(
                p.stat().st_size for p in folder.glob(f"{source.name}-{split}.array_record-*")
            ),
            filename_template=template,
        )
        for split, spans in source.bounds.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=tfds.features.FeaturesDict(features),
        split_infos=splits,
        version=VERSION,
        filename_template=template,
        check_data=False,
    )
    return folder
