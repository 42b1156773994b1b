"""A prepared folder of random records, written without the package's own writer."""

import json

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from neuroadapter_jax.datasets.prepared.records import _example_class

SPLITS = ("train", "validation", "test")


def write_prepared(folder, subject, ids, num_vertices, *, side=64, latent=(16, 16, 4), **request):
    """Records of the images `ids[split]`, their random responses seeded by the subject's number."""
    rng = np.random.default_rng([7, subject])
    (folder / "records").mkdir(parents=True)
    n = sum(num_vertices)
    for split in SPLITS:
        name = f"made-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(folder / "records" / name), "group_size:1")
        for image_id in ids[split]:
            repeats = 1 + int(image_id) % 3
            arrays = {
                "image": rng.integers(0, 256, (side, side, 3), np.uint8),
                "betas": rng.standard_normal((repeats, n)).astype("<f2"),
                "latent_mean": rng.standard_normal(latent).astype("<f2"),
                "latent_std": rng.random(latent).astype("<f2"),
            }
            example = _example_class()()
            for key, array in arrays.items():
                example.features.feature[key].bytes_list.value.append(array.tobytes())
            for key, value in {"image_id": image_id, "subject": subject}.items():
                example.features.feature[key].int64_list.value.append(int(value))
            writer.write(example.SerializeToString())
        writer.close()
    shapes = {"image": (side, side, 3), "betas": (-1, n), "latent_mean": latent}
    provenance = {
        "request": {"subject": subject, "space": "made", "normalize": "session"} | request,
        "records": "records",
        "shapes": shapes | {"latent_std": latent},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    ncsnr = rng.gamma(2.0, 0.2, n).astype(np.float32)
    np.savez(folder / "cortex.npz", ncsnr=ncsnr, num_vertices=np.array(num_vertices))
    np.savez(folder / "index.npz", **{s: np.array(ids[s], np.int64) for s in SPLITS})
    return folder


def change_responses(folder, split, change):
    """Writes a split's records again with change(responses), each image's as one flat array."""
    (path,) = folder.rglob(f"*-{split}.array_record-*")
    reader = ArrayRecordReader(str(path))
    found = [reader.read([i])[0] for i in range(reader.num_records())]
    reader.close()
    path.unlink()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in found:
        example = _example_class().FromString(record)
        values = example.features.feature["betas"].bytes_list.value
        values[0] = change(np.frombuffer(values[0], "<f2").copy()).astype("<f2").tobytes()
        writer.write(example.SerializeToString())
    writer.close()
