"""Responses of your own
=====================

Your data need a class that says where the responses and the images are; some 40 lines do.
``examples/own_dataset.py`` is such a class, for responses in two arrays and trials in a table.
Here it reads a made-up experiment: six images, each shown eight times, to a tiny cortex of 2 x 60
vertices.

The class is in a checkout of the repository, not in the installed package.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

import neuroadapter_jax
from neuroadapter_jax import PreparedDataset
from neuroadapter_jax.cortex import NoiseCeiling
from neuroadapter_jax.datasets.prepared.image_encoder import load_image_encoder
from neuroadapter_jax.datasets.prepared.prepare import PreparationSettings, prepare_source

sys.path.append(str(Path(neuroadapter_jax.__file__).parents[1] / "examples"))  # of a checkout
from own_dataset import OwnDataset

NOISE = 1.5  # standard deviation of the noise, that of the signal being about 1; change me
REPEATS = 8

# %%
# The experiment on disk
# ----------------------
# Responses of both hemispheres [trials, vertices], one row of a table per trial, and the images.
# Half of the vertices respond to the mean colour of an image, the other half is noise.

rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())
(folder / "images").mkdir()
_, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli(6)
names = [f"image{i}" for i in range(len(stimuli))]
for name, image in zip(names, stimuli, strict=True):
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
shown = np.concatenate([rng.permutation(len(stimuli)) for _ in range(REPEATS)])
pd.DataFrame(
    {
        "stimulus": [names[i] for i in shown],
        "split": ["validation" if i == 5 else "train" for i in shown],
        "run": np.arange(len(shown)) // (2 * len(stimuli)),
    }
).to_csv(folder / "trials.csv", index=False)
colour = stimuli.mean((1, 2)) - stimuli.mean((0, 1, 2))
colour = colour / colour.std(axis=0)
for side in ("lh", "rh"):
    tuning = rng.normal(size=(3, 60)) / np.sqrt(3) * (np.arange(60) < 30)
    noise = NOISE * rng.normal(size=(len(shown), 60))
    np.save(folder / f"{side}.npy", (colour[shown] @ tuning + noise).astype(np.float32))

# %%
# Prepare it
# ----------
# This reads the class, encodes the images with the image model's autoencoder, and writes records.
# The class z-scores each run; every trial of an image becomes one of the repeats in its record.

source = OwnDataset(folder)
settings = PreparationSettings(image_size=64, progress=False)
prepared = prepare_source(source, folder / "prepared", load_image_encoder("tiny-sd"), settings)
records = PreparedDataset(prepared, "train")
print(f"{len(records)} training images of {sum(records.num_vertices)} vertices")
for name, record in zip(records.names, records, strict=True):
    print(f"  {name}: {len(record['betas'])} repeats, image {record['image'].shape}")

# %%
# Which vertices can be relied on
# -------------------------------
# The repeats tell how much of a response is noise. The signal-to-noise ratio (SNR) ranks regions
# for training; the class does not know it, so it is computed here, run by run. The first 30
# vertices of each hemisphere carry the planted signal; noise alone gets an SNR above 0, too, with
# so few trials. Raise ``NOISE``, or take fewer ``REPEATS``, and the two halves can no longer be
# told apart.

ceiling = NoiseCeiling(source.trial_image_ids(), 120, num_repeats=REPEATS)
for run in source.blocks:
    ceiling.add(source.read_block(run).betas)
figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
planted = np.arange(120) % 60 < 30
for own, colour, label in ((planted, "tab:blue", "signal"), (~planted, "lightgrey", "noise only")):
    axis.bar(np.flatnonzero(own), ceiling.ncsnr()[own], color=colour, width=1, label=label)
axis.set(xlabel="vertex, left then right hemisphere", ylabel="noise-ceiling SNR")
axis.set_title(f"{len(stimuli)} images, {REPEATS} repeats")
axis.legend(frameon=False)
plt.show()

# %%
# Train on it
# -----------
# With the label files of a parcellation of your surface, training is one command: ``neuroadapter
# train`` with a config whose ``data.prepared`` and ``data.parcellation`` name your files, as
# ``configs/nsd.py`` names NSD's. Six images on 120 vertices are for looking only.
