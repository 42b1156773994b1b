"""One training step, looked into
==============================

Training is one step repeated thousands of times: noise the image, let the frozen image model
predict the noise with the brain's tokens in view, and change what the adapter does so that the
prediction gets better. Here a new adapter takes a single step, by hand, on eight responses.

The eight responses belong to test images, which a real training never sees: this is for looking
only.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

from neuroadapter_jax import NeuroAdapter, NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.adapter.token_dropout import keep_mask
from neuroadapter_jax.cortex import pack
from neuroadapter_jax.figures.cortex_maps import value_figure
from neuroadapter_jax.figures.image_figures import grid_figure
from neuroadapter_jax.training.loss import denoising_losses, min_snr_weights, sample_noise

DROP_RATE = "uniform"  # or a number from 0 to 1, such as 0.1; change me
LEARNING_RATE = 1e-3  # or 1e-2, which is too much for a first step

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
schedule, unet = pipe.backbone.schedule, pipe.backbone.unet
fmri, stimuli = PreparedDataset("simulated-responses", "test").fmri_and_stimuli()
key = jax.random.key(0)

# %%
# Noise
# -----
# Each image gets noise of a random timestep, from hardly any to nothing but noise. The model
# works on latents, a smaller version of the image; they are shown decoded.

latents = jnp.asarray(pipe.encode(stimuli))
noise, timesteps = sample_noise(key, latents, schedule)
noisy = schedule.add_noise(latents, noise, timesteps)
figure = grid_figure(
    {"stimulus": stimuli, "noisy": pipe.decode(np.asarray(noisy))},
    [f"t = {t}" for t in timesteps],
)

# %%
# Weights
# -------
# Faint noise is hard to predict, and predicting it teaches little about the image. So timesteps
# of little noise count less: the Min-SNR weight is ``min(SNR, gamma) / SNR``, with the
# signal-to-noise ratio of the noisy latents and gamma 5 in the paper.

every = jnp.arange(schedule.num_train_timesteps)
figure, axis = plt.subplots(figsize=(8, 3), layout="constrained")
for gamma in (1.0, 5.0, 20.0):
    axis.plot(every, min_snr_weights(schedule, every, gamma), label=f"gamma = {gamma:g}")
axis.plot(timesteps, min_snr_weights(schedule, timesteps, 5.0), "ko", label="this batch")
axis.set(xlabel="timestep, from image to noise", ylabel="weight", title="Min-SNR weights")
axis.legend(frameon=False)

# %%
# Token dropout
# -------------
# Each image loses a random share of its tokens (white), so that no region can rely on the others,
# and so that silencing a region later is nothing the model has never met.

keep = keep_mask(key, (len(fmri), len(pipe.regions)), DROP_RATE)
figure, axis = plt.subplots(figsize=(8, 2.2), layout="constrained")
axis.imshow(keep, cmap="Blues", aspect="auto", vmin=0, vmax=1, interpolation="nearest")
axis.set(xlabel="region", ylabel="image", title=f"Tokens kept (blue): {float(keep.mean()):.0%}")

# %%
# Loss and gradient
# -----------------
# The loss is the weighted squared error of the predicted noise. Only the adapter has a gradient;
# the image model is frozen. The map shows how strongly the step pulls at each region's matrix.

packed, text = pack(fmri, pipe.packing), pipe.networks.text  # the text side sees an empty prompt
adapter = NeuroAdapter.for_unet(unet, *pipe.packing.index.shape, rngs=nnx.Rngs(0))
weights = min_snr_weights(schedule, timesteps, 5.0)


@nnx.jit
def loss_and_gradient(adapter):
    def loss(adapter):
        prediction = unet(noisy, timesteps, [text, adapter(packed, keep)])
        return denoising_losses(prediction, noise, weights).mean()

    return nnx.value_and_grad(loss)(adapter)


before, gradient = loss_and_gradient(adapter)
for part in ("region_projection", "token_norm", "attention"):
    print(f"gradient norm of {part:18}{float(optax.tree.norm(gradient[part])):.4f}")
pull = jnp.sqrt((gradient["region_projection"]["weights"][...] ** 2).sum((1, 2)))
figure = value_figure(
    pipe.regions.on_vertices(pull),
    "gradient norm of each region's matrix",
    high=float(pull.max()),
    views=("lateral", "ventral"),
)

# %%
# One step
# --------
# AdamW takes the step, and the loss on the same noise tells whether it went too far. Whether the
# adapter has learned anything, only other images can tell.

optimizer = nnx.Optimizer(adapter, optax.adamw(LEARNING_RATE), wrt=nnx.Param)
optimizer.update(adapter, gradient)
after, _ = loss_and_gradient(adapter)
print(f"loss {float(before):.4f} before the step, {float(after):.4f} after it, on the same noise")
plt.show()
