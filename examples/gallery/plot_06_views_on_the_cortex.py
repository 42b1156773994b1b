"""Which region drives what
========================

While an image is made from noise, each point of it attends to the regions' tokens. This attention
is read in two directions: how much each region is attended (the brain view), and where in the
image a region of interest is attended (the image view). Both are measured at every step.

Attention shows where the model looks, not yet what it would do without: that is what silencing a
region tests, in the next example.
"""

import json

import matplotlib.pyplot as plt
import numpy as np

from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.figures.cortex_maps import steps_figure, value_figure
from neuroadapter_jax.figures.image_figures import grid_figure
from neuroadapter_jax.figures.pictures import roi_colours
from neuroadapter_jax.figures.timelines import overlay
from neuroadapter_jax.ibbi.roi import assign_by_name

SHOWN_ROI = "Scene"  # or V1, V2, V4, Face, Body, Word, LO, VTC-food, VTC-animal; change me

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
dataset = PreparedDataset("simulated-responses", "test")
fmri, stimuli = dataset.fmri_and_stimuli(4)
rois = assign_by_name(pipe.regions, json.loads((dataset.path / "rois.json").read_text()))
sampling = pipe.sampling.replace(sampler="dpmsolver++", num_steps=12)
found = pipe.interpret(fmri, rois.weights, sampling, shown=(2, 5, 11))
brain = found.views.brain  # [step, image, region]
places = found.views.image  # [step, image, ROI, y, x]

# %%
# The brain view
# --------------
# Each region's share of the attention, mean over steps and four images. Shares sum to 1, so with
# 80 regions the uniform share is 1/80; the map shows multiples of it. A region at 1 is attended
# as much as any other, one at 2 twice as much.

times_uniform = brain * len(pipe.regions)
outlines = {
    name: pipe.regions.on_vertices(members) == 1
    for name, members in zip(rois.names, rois.members, strict=True)
    if name in ("V1", "Face", "Scene")
}
figure = value_figure(
    pipe.regions.on_vertices(times_uniform.mean((0, 1))),
    "share of the attention / uniform share",
    high=2,
    views=("medial", "ventral", "flat"),
    outlines=outlines,
)

# %%
# Step by step
# ------------
# From noise to image, on the flattened cortex.

steps = (0, 5, 11)
figure = steps_figure(
    np.stack([pipe.regions.on_vertices(times_uniform[step].mean(0)) for step in steps]),
    [f"step {step + 1} of {len(brain)}" for step in steps],
    "share of the attention / uniform share",
    high=2,
)

# %%
# Region of interest by region of interest
# ----------------------------------------
# The same as the mean of the regions of each region of interest (ROI), those outlined above in the
# same colours. The shaded bands span the four images.

colours = dict(zip(outlines, roi_colours(len(outlines)), strict=True))
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for name, members in zip(rois.names, rois.members, strict=True):
    share = times_uniform[..., members].mean(-1)  # [step, image]
    steps = np.arange(1, len(share) + 1)
    if name in colours:
        axis.fill_between(steps, share.min(1), share.max(1), color=colours[name], alpha=0.1)
    label = name if name in colours else None
    axis.plot(steps, share.mean(1), color=colours.get(name, "lightgrey"), label=label)
axis.plot([], [], color="lightgrey", label="other ROIs")
axis.axhline(1, color="grey", ls="--", lw=1)
axis.set(xlabel="denoising step, from noise to image", ylabel="share / uniform share")
axis.set_title(f"Attention to each ROI, mean and range of {len(fmri)} images")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)

# %%
# The image view
# --------------
# Where in the image the ROI is attended, in orange over the image that the model expects at the
# step. The simulated subject's Scene regions were written to respond to the place around the
# objects, and that is where they are attended. Look at the Face regions next.

row = list(rois.names).index(SHOWN_ROI)
rows = {"stimulus": stimuli}
for step, expected in zip(found.shown, found.predicted_clean, strict=True):
    views = places[step, :, row]
    rows[f"step {step + 1}"] = np.stack(
        [overlay(*pair) for pair in zip(expected, views, strict=True)]
    )
figure = grid_figure(rows, title=f"Attention to {SHOWN_ROI}")
plt.show()
