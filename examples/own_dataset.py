"""Prepare responses of your own.

    python examples/own_dataset.py FOLDER PREPARED [BACKBONE]

FOLDER holds lh.npy and rh.npy [trials, vertices], trials.csv (columns stimulus, split, run; one
row per trial) and images/STIMULUS.png. Splits "train" and "validation" can be trained on.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from neuroadapter_jax.datasets.prepared.image_encoder import load_image_encoder
from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings, prepare_source
from neuroadapter_jax.datasets.source import Betas


class OwnDataset:
    """Fulfils `neuroadapter_jax.datasets.source.Source`."""

    name, subject, regions = "own", 1, None  # None: a parcellation of the surface gives the regions

    def __init__(self, folder):
        self.root = Path(folder)
        self.table = pd.read_csv(self.root / "trials.csv", dtype={"stimulus": str, "split": str})
        self.stimulus_names = dict(enumerate(sorted(set(self.table["stimulus"]))))
        self.sides = [np.load(self.root / f"{h}.npy", mmap_mode="r") for h in ("lh", "rh")]
        self.num_vertices = tuple(side.shape[1] for side in self.sides)
        self.blocks = tuple(self.table["run"].unique())  # trials of a run are consecutive rows
        space = {163_842: "fsaverage", 10_242: "fsaverage5"}.get(self.num_vertices[0], "own")
        self.settings = {"space": space, "normalize": "run"}
        self.files = sorted(path for path in self.root.rglob("*") if path.is_file())

    def trial_image_ids(self):
        return np.searchsorted(list(self.stimulus_names.values()), self.table["stimulus"])

    def splits(self):
        return {name: np.array(rows) for name, rows in self.table.groupby("split").indices.items()}

    def read_block(self, run):
        rows = self.table["run"] == run
        betas = np.concatenate([side[rows] for side in self.sides], axis=1).astype(np.float32)
        return Betas((betas - betas.mean(0)) / betas.std(0), np.zeros(0, np.int64))

    def ncsnr(self):  # unknown here, so regions cannot be ranked: NoiseCeiling computes it
        return np.full(sum(self.num_vertices), np.nan, np.float32)

    def images(self, ids):
        files = [self.root / "images" / f"{self.stimulus_names[int(i)]}.png" for i in ids]
        return [np.asarray(Image.open(f).convert("RGB")) if f.exists() else None for f in files]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    prepare_source(
        OwnDataset(sys.argv[1]),
        sys.argv[2],
        load_image_encoder(sys.argv[3] if len(sys.argv) > 3 else "tiny-sd"),
        PreparationSettings(image_size=64),
    )
