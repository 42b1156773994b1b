"""Let a brain encoder choose
==========================

Reconstructions vary with their start from noise. A brain encoder works the other way round: it
predicts the response of the cortex to an image. Of several candidates, the one whose predicted
response is most similar to the measured one is kept. The stimulus is not used.

The encoder that comes with the package was trained on the training images of the same simulated
subject, and predicts the 80 regions that the adapter reads.
"""

import matplotlib.pyplot as plt
import numpy as np

from neuroadapter_jax import BrainEncoder, NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.figures.image_figures import grid_figure
from neuroadapter_jax.metrics.pixels import pixel_correlation

NUM_CANDIDATES = 6  # change me

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
encoder = BrainEncoder.from_pretrained("brain-encoder-simulated")
fmri, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli()

# %%
# Does the encoder know the images apart?
# ---------------------------------------
# First a test with the stimuli themselves. Each row is a measured response, each column a
# stimulus; the colour is the correlation of the measured with the predicted response. The
# diagonal has to win.

pairs = np.repeat(stimuli[None], len(fmri), axis=0)  # every stimulus for every response
table = encoder.rank(pairs, fmri, pipe.regions)
figure, axis = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
image = axis.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
axis.set(xlabel="stimulus", ylabel="measured response to image")
axis.set_title(f"Own stimulus first for {(table.argmax(1) == np.arange(len(fmri))).sum()} of 8")
figure.colorbar(image, label="correlation over vertices")

# %%
# Rank the candidates
# -------------------
# The candidates of an image differ little, so their scores do, too; they differ more after few
# denoising steps, as here.

sampling = pipe.sampling.replace(sampler="dpmsolver++", num_steps=6)
found = pipe.candidates(fmri, encoder, sampling, num_candidates=NUM_CANDIDATES, seed=0)
rows = np.arange(len(fmri))
ranges = zip(found.scores.min(axis=1), found.scores.max(axis=1), strict=True)
figure = grid_figure(
    {
        "stimulus": stimuli,
        "chosen": found.best,
        "last": found.images[rows, found.scores.argmin(axis=1)],
    },
    [f"{low:.2f} to {high:.2f}" for low, high in ranges],
    title=f"Best and worst of {NUM_CANDIDATES}; above: the range of their scores",
)

# %%
# Was the choice right?
# ---------------------
# With the stimulus at hand the choice can be checked. Each line is one image: its candidates,
# from the one the encoder likes least to the one it likes best. A choice that helps makes lines
# rise. The gain is the chosen candidate's pixel correlation less the mean of all, which is what a
# random choice gets. Over eight images it is small, and some of them lose by it.

flat = found.images.reshape(-1, *stimuli.shape[1:])
truth = pixel_correlation(np.repeat(stimuli, NUM_CANDIDATES, axis=0), flat)
truth = truth.reshape(found.scores.shape)
figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for score, own in zip(found.scores, truth, strict=True):
    order = np.argsort(score)
    axis.plot(score[order], own[order], "o-", alpha=0.6)
gain = truth[rows, found.chosen] - truth.mean(axis=1)
axis.set(
    xlabel="correlation of predicted and measured response",
    ylabel="pixel correlation with the stimulus",
    title=f"Mean gain of the choice: {gain.mean():+.3f} (n = {len(gain)} images)",
)
print("gain per image:", ", ".join(f"{each:+.3f}" for each in gain))
plt.show()
