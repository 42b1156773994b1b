"""Prepared records of a few simulated scenes, with the truth that stands beside NSD's files."""

import json
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tiny_pipeline import LH, RH

from neuroadapter_jax.datasets.prepared import records
from neuroadapter_jax.simulation.nsd_writer import STIMULUS_SEED_OFFSET
from neuroadapter_jax.simulation.scenes import sample_scenes

SPLITS = {"train": [0, 2, 3, 7, 8, 9, 11, 12, 13], "validation": [1, 5, 10], "test": [4, 6, 14]}
LATENT = (16, 16, 4)


def write_prepared(folder: Path, root: Path, seed: int = 5) -> dict[int, np.ndarray]:
    """Writes both folders; responses are random. Returns the images by id."""
    rng = np.random.default_rng(seed)
    count = 1 + max(i for ids in SPLITS.values() for i in ids)
    scenes = sample_scenes(count, seed + STIMULUS_SEED_OFFSET)
    root.mkdir(parents=True)
    (root / "simulation.json").write_text(json.dumps({"seed": seed}))
    masks = np.packbits(scenes.masks.reshape(*scenes.masks.shape[:2], -1), axis=-1)
    np.savez(
        root / "truth.npz",
        categories=scenes.categories,
        captions=np.array(scenes.captions),
        image_size=np.array(64),
        masks_packed=masks,
    )
    (folder / "records").mkdir(parents=True)
    example = records._example_class()
    for split, ids in SPLITS.items():
        path = folder / "records" / f"nsd-{split}.array_record-00000-of-00001"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for i in ids:
            message = example()
            feature = message.features.feature
            feature["image_id"].int64_list.value.append(i)
            feature["subject"].int64_list.value.append(1)
            arrays = {
                "image": scenes.images[i],
                "betas": rng.standard_normal((3, LH + RH)).astype("<f2"),
                "latent_mean": rng.standard_normal(LATENT).astype("<f2"),
                "latent_std": np.ones(LATENT, "<f2"),
            }
            for key, array in arrays.items():
                feature[key].bytes_list.value.append(array.tobytes())
            writer.write(message.SerializeToString())
        writer.close()
    np.savez(folder / "index.npz", **{key: np.array(ids) for key, ids in SPLITS.items()})
    np.savez(
        folder / "cortex.npz",
        ncsnr=np.ones(LH + RH, np.float32),
        num_vertices=np.array([LH, RH]),
    )
    provenance = {
        "request": {"subject": 1, "seed": seed},
        "records": "records",
        "shapes": {
            "image": [64, 64, 3],
            "betas": [-1, LH + RH],
            "latent_mean": list(LATENT),
            "latent_std": list(LATENT),
        },
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return {i: scenes.images[i] for ids in SPLITS.values() for i in ids}
