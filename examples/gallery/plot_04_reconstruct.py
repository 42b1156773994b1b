"""Reconstruct images from responses
=================================

The adapter's tokens steer a frozen image model from noise to an image. Four responses become
images here, three times each, and once with all tokens silenced.
"""

import matplotlib.pyplot as plt
import numpy as np

from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.figures.image_figures import grid_figure

NUM_IMAGES = 4
SEED = 0  # change me

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
fmri, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli(NUM_IMAGES)

# %%
# From three starts
# -----------------
# Every image starts from random noise, so there is no one reconstruction: place and kind of the
# objects come from the response and stay, details come from the start and vary. What all three
# share can be trusted more than what one of them shows. Try other values of ``num_steps`` and
# ``guidance_scale``, which says how hard the tokens pull; 1 is no guidance.

sampling = pipe.sampling.replace(sampler="dpmsolver++", num_steps=12, guidance_scale=4.0)
images = pipe(fmri, sampling, num_candidates=3, seed=SEED)  # uint8 [images, candidates, y, x, 3]
rows = {"stimulus": stimuli} | {f"start {j + 1}": images[:, j] for j in range(3)}
figure = grid_figure(rows, title=f"The first {NUM_IMAGES} test images, three starts each")

# %%
# Without the brain
# -----------------
# With all tokens silenced the image model knows nothing of the response. What it makes up from
# the same starts looks like a scene too. A picture that looks good is no evidence by itself; it
# has to be compared with its stimulus.

nothing = np.zeros((NUM_IMAGES, len(pipe.regions)), bool)  # no token is kept
made_up = pipe(fmri, sampling, num_candidates=3, seed=SEED, keep=nothing)
rows = {"stimulus": stimuli, "with tokens": images[:, 0], "without": made_up[:, 0]}
figure = grid_figure(rows, title="The same start with and without the tokens")
plt.show()
