"""A few prepared records as a folder of their own, to ship or to pass on."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.datasets.prepared.records import (
    CHECKSUMS,
    CORTEX,
    INDEX,
    PROVENANCE,
    REGIONS,
    STIMULI,
    PreparedDataset,
    encode_record,
)
from neuroadapter_jax.datasets.prepared.shards import write_shard
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import refuse_foreign, whole_folder, write_json, write_npz, write_text


def write_excerpt(prepared: str | Path, split: str, count: int, out: str | Path) -> None:
    """Write the first records of one split as a prepared folder, which has no other split.

    Args:
        prepared: the folder to take them from.
        split: such as "test".
        count: how many, at least 1.
        out: the folder to write; it must not exist.

    Raises:
        InputError: `prepared` is no prepared folder, `out` is there, or the split has fewer.
    """
    dataset, out = PreparedDataset(prepared, split), Path(out)
    if not 1 <= count <= len(dataset):
        raise InputError(
            f"count is {count}; expected 1 to {len(dataset)}, the images of split {split!r} of "
            f"{prepared}."
        )
    refuse_foreign(out.parent, [out.name])
    made = dataset.provenance
    with whole_folder(out) as folder:
        records = folder / made["records"]
        records.mkdir(parents=True)
        name = f"{made['request'].get('dataset', 'nsd')}-{split}.array_record-00000-of-00001"
        found = [dataset[i] for i in range(count)]
        written = write_shard(records / name, [encode_record(record) for record in found])
        write_text(records / CHECKSUMS, f"{written['sha256']}  {name}\n")
        index: dict[str, Any] = {split: dataset.image_ids[:count]}
        write_npz(folder / INDEX, **index)
        for table in (CORTEX, STIMULI, REGIONS):
            if (dataset.path / table).is_file():
                shutil.copy(dataset.path / table, folder)
        excerpt = {
            "images": {split: count},
            "trials": sum(len(np.asarray(record["betas"])) for record in found),
            "checks": [],  # those of all records are not the excerpt's
            "excerpt_of": dataset.fingerprint,
        }
        write_json(folder / PROVENANCE, made | excerpt)
