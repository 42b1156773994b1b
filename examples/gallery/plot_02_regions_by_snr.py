"""Which regions to keep
=====================

Most of the cortex does not respond to images, and a token of noise only distracts. So the adapter
keeps the regions whose responses can be relied on: those of the highest noise-ceiling
signal-to-noise ratio (SNR), which is measured from repeated presentations of the same image.
"""

import matplotlib.pyplot as plt
import numpy as np
from nilearn.datasets import load_fsaverage

from neuroadapter_jax import NeuroAdapterPipeline, Parcellation, PreparedDataset
from neuroadapter_jax.cortex import match_regions, parcellate_sphere, region_snr, select_regions
from neuroadapter_jax.cortex.medial_wall import medial_walls
from neuroadapter_jax.figures.cortex_maps import value_figure

KEPT = 80  # regions of both hemispheres; change me

ncsnr = PreparedDataset("simulated-responses", "test").ncsnr  # one number per vertex

# %%
# The SNR of every vertex
# -----------------------
# The simulated subject has visual areas at the back of the brain and category areas below it. All
# other vertices are noise, and their SNR is close to 0.

figure = value_figure(ncsnr, "noise-ceiling SNR", low=0, high=1.5)

# %%
# The regions of the highest SNR
# ------------------------------
# The parcellation cuts each hemisphere into 320 regions and leaves the medial wall out. Half of
# the regions that are kept come from each hemisphere, so that neither is deaf.

sphere, walls = load_fsaverage("fsaverage5")["sphere"], medial_walls()
labels = [
    parcellate_sphere(sphere.parts[side].coordinates, 320, ~wall, seed=1)
    for side, wall in zip(("left", "right"), walls, strict=True)
]
parcellation = Parcellation.from_labels(*labels)
chosen = select_regions(parcellation, ncsnr, KEPT)
figure = value_figure(
    chosen.on_vertices(region_snr(chosen, ncsnr)), "SNR of the kept regions", low=0, high=1.5
)

# %%
# How many are enough
# -------------------
# The curve falls to a floor: regions on the floor respond to nothing, and their tokens would add
# noise. The line marks ``KEPT``. Try another number, or ``per_hemisphere=False``, which takes the
# best of both hemispheres together.

snr = region_snr(parcellation, ncsnr)
figure, axis = plt.subplots(figsize=(8, 3.5), layout="constrained")
axis.plot(np.sort(snr)[::-1], lw=2)
axis.axvline(KEPT, color="tab:orange", ls="--", label=f"{KEPT} regions")
axis.set(xlabel="region, sorted by SNR", ylabel="mean SNR of its vertices", ylim=(0, None))
axis.set_title(f"{len(parcellation)} regions of fsaverage5")
axis.legend(frameon=False)
plt.show()

# %%
# The same regions as the shipped adapter's
# -----------------------------------------
# The adapter that comes with the package was trained on these regions. Regions are matched by
# their vertices, never by their names, since atlases rename and reorder the same parcels.

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
places = match_regions(pipe.regions, parcellation)
shared = np.isin(places, match_regions(chosen, parcellation)).sum()
print(f"{shared} of the adapter's {len(pipe.regions)} regions are among the {KEPT} chosen here")
