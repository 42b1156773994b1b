"""From the cortical surface to tokens
===================================

NeuroAdapter reads the cortex region by region. A parcellation cuts the surface into regions, each
region's responses become one row of numbers, and a matrix of the region's own turns this row into
one token. The tokens are all that the image model ever hears of the brain.

The responses are those of a simulated subject to eight images, on FreeSurfer's fsaverage5
surface.
"""

import matplotlib.pyplot as plt
import numpy as np
from nilearn.datasets import load_fsaverage

from neuroadapter_jax import NeuroAdapterPipeline, Parcellation, PreparedDataset
from neuroadapter_jax.cortex import make_packing, pack, parcellate_sphere
from neuroadapter_jax.figures.cortex_maps import value_figure

NUM_REGIONS = 50  # of each hemisphere; change me

fmri, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli()
print(f"{fmri.shape[0]} responses of {fmri.shape[1]} vertices, left hemisphere then right")

# %%
# Cut the surface
# ---------------
# Here the regions are made from nothing but the mesh: compact pieces of about equal area.
# :func:`~neuroadapter_jax.read_parcellation` reads an atlas of your own, such as Schaefer's, from
# label files instead. The maps show the mean response of each region to the first image. The
# responses are z-scored per session, so 0 is the vertex's mean over all images.

sphere = load_fsaverage("fsaverage5")["sphere"]
labels = [parcellate_sphere(sphere.parts[h].coordinates, NUM_REGIONS) for h in ("left", "right")]
regions = Parcellation.from_labels(*labels)
means = [fmri[0, regions.cortex_indices(i)].mean() for i in range(len(regions))]
figure = value_figure(
    regions.on_vertices(means),
    "mean response to the first image (z)",
    low=-0.5,
    high=0.5,
    colours="RdBu_r",
)

# %%
# Pack the regions
# ----------------
# Regions differ in size. Packing puts each region's vertices into a row, as long as the largest
# region, and fills the rest with zeros (white).

packing = make_packing(regions)
packed = np.array(pack(fmri, packing))  # [images, regions, vertex slots]
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
shown = np.where(packing.mask, packed[0], np.nan)
image = axis.imshow(shown, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
axis.set(xlabel="vertex slot", ylabel="region", title="One response, packed")
figure.colorbar(image, label="response (z)")

# %%
# Project each region to a token
# ------------------------------
# A trained adapter has a matrix per region. This one knows 80 regions, those of the highest
# signal-to-noise ratio, and gives tokens of 64 numbers. One part of a token is the same for all
# images and says which region speaks; the other part differs between images and is its message.
# The bars show how large the message is.

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
tokens = np.array(pipe.adapter.tokens(pack(fmri, pipe.packing)))  # [images, regions, 64]
message = tokens - tokens.mean(axis=0)
share = (message**2).sum((0, 2)) / (tokens**2).sum((0, 2))
figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
axis.bar(np.arange(len(share)), np.sort(share)[::-1], color="tab:blue")
axis.set(xlabel="region, sorted", ylabel="share of the token", ylim=(0, 1))
axis.set_title(f"How much of each token differs between {len(fmri)} images")
plt.show()
