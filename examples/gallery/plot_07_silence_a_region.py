"""Silence a region
================

Attention only suggests which regions matter. Silencing tests it: the tokens of a region of
interest (ROI) are dropped, everything else stays the same, the start from noise included, and
what changes in the image was due to them.

Dropping tokens changes the image whichever they are. So the change is compared with that of other
sets outside the ROI, of as many regions in the same hemispheres, of similar size and of similar
signal-to-noise ratio (SNR).
"""

import json

import matplotlib.pyplot as plt
import numpy as np

from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.figures.image_figures import grid_figure
from neuroadapter_jax.ibbi.matching import RegionTraits, match_sets
from neuroadapter_jax.ibbi.perturbation import silence
from neuroadapter_jax.ibbi.roi import assign_by_name
from neuroadapter_jax.metrics.statistics import bootstrap_interval

SILENCED = "Scene"  # or V1, V2, V4, Face, Body, Word, LO, VTC-food, VTC-animal; change me
NUM_CONTROLS = 4

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
dataset = PreparedDataset("simulated-responses", "test")
fmri, stimuli = dataset.fmri_and_stimuli()
sampling = pipe.sampling.replace(sampler="dpmsolver++", num_steps=8)

# %%
# The set and its controls
# ------------------------

rois = assign_by_name(pipe.regions, json.loads((dataset.path / "rois.json").read_text()))
members = rois.members[rois.names.index(SILENCED)]
traits = RegionTraits.of(pipe.regions, dataset.ncsnr)
# Where no set outside the ROI is like it, `require` says so instead of comparing unlike sets.
controls = match_sets(members, traits, NUM_CONTROLS, seed=0).require(SILENCED)
snr = traits.snr
print(f"{SILENCED}: {members.sum()} of {len(members)} regions, mean SNR {snr[members].mean():.2f}")
print("controls: mean SNR", ", ".join(f"{snr[own].mean():.2f}" for own in controls))


def reconstruct(silenced):
    return pipe(fmri, sampling, keep=silence(silenced, len(fmri)))[:, 0]


whole = reconstruct(np.zeros(len(members), bool))
without = reconstruct(members)
without_controls = [reconstruct(own) for own in controls]

# %%
# What changes
# ------------
# The simulated subject's Scene regions were written to respond to the place in the background,
# its Face regions to faces, and so on. Silence another ROI, and do not expect its category to go:
# an object is also in what V1 to V4 tell, and the Face regions alone change these eight images no
# more than their controls do. Whole sets, and 200 images, are in
# :doc:`/does-attention-tell-the-truth`.

rows = {
    "stimulus": stimuli,
    "all tokens": whole,
    f"without {SILENCED}": without,
    "without a control": without_controls[0],
}
figure = grid_figure(rows, title=f"{members.sum()} of {len(members)} tokens silenced")

# %%
# How much
# --------
# The mean absolute change of a pixel, image by image. The controls are averaged, so that each
# image counts once; the interval is a bootstrap over images. For the Scene regions it is wide and
# holds 0: one image loses its tent, but eight are too few to tell whether these regions matter
# more than others do.


def change(images):
    return np.abs(images.astype(float) - whole).mean((1, 2, 3))


own, others = change(without), np.mean([change(images) for images in without_controls], axis=0)
found = bootstrap_interval(own - others)
low, high = found["interval"]
print(f"{SILENCED} less controls: {found['value']:.1f} grey levels [{low:.1f}, {high:.1f}]")
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
axis.plot([0, 1], [others, own], "o-", color="tab:blue", alpha=0.5)
axis.set_xticks([0, 1], ["controls", SILENCED])
axis.set(xlim=(-0.4, 1.4), ylim=(0, None), ylabel="mean change of a pixel (grey levels of 255)")
axis.set_title(f"{len(own)} images: difference {found['value']:.1f} [{low:.1f}, {high:.1f}]")
plt.show()
