"""Maps for other programs
=======================

What is known of regions can be looked at wherever you look at your brains: as ``.mgh`` files for
FreeSurfer's freeview, as GIFTI files for Connectome Workbench and nilearn. Here a map is written,
read back with nibabel, and compared vertex by vertex.
"""

import tempfile

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from nilearn.datasets import load_fsaverage, load_fsaverage_data
from nilearn.plotting import plot_surf_stat_map

from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset
from neuroadapter_jax.cortex import region_snr
from neuroadapter_jax.cortex.surface_files import write_surface_maps

pipe = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")
dataset = PreparedDataset("simulated-responses", "test")
folder = tempfile.mkdtemp()  # change me: a folder that you keep

# %%
# Write
# -----
# A number per region, here its signal-to-noise ratio, is spread over the region's vertices.
# Vertices in no region are not a number; in the files they are 0, which FreeSurfer does not
# paint.

snr = region_snr(pipe.regions, dataset.ncsnr)
cortex = pipe.regions.on_vertices(snr)
files = write_surface_maps(folder, "region_snr", cortex, pipe.regions.num_vertices)
print("\n".join(file.name for file in files))

# %%
# Read back
# ---------
# Both formats hold the same numbers, rounded to float32, in the order of fsaverage5's vertices.

left, right = np.split(np.nan_to_num(cortex), [pipe.regions.num_vertices[0]])
for side, letter, own in (("lh", "L", left), ("rh", "R", right)):
    mgh = nib.load(f"{folder}/{side}.region_snr.mgh").get_fdata().ravel()
    gifti = nib.load(f"{folder}/region_snr_hemi-{letter}.shape.gii").agg_data()
    print(f"{side}: {len(mgh)} vertices, {(mgh > 0).sum()} in a region,", end=" ")
    print(f"largest difference {max(abs(mgh - own).max(), abs(gifti - own).max()):.1e}")

# %%
# Show with another program
# -------------------------
# nilearn shows the GIFTI file on its own fsaverage5. ``freeview -f
# lh.inflated:overlay=lh.region_snr.mgh`` does so with the other.

meshes, sulci = load_fsaverage("fsaverage5"), load_fsaverage_data("fsaverage5", data_type="sulcal")
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), subplot_kw={"projection": "3d"})
for axis, side, letter in zip(axes, ("left", "right"), "LR", strict=True):
    values = nib.load(f"{folder}/region_snr_hemi-{letter}.shape.gii").agg_data()
    plot_surf_stat_map(
        meshes["inflated"].parts[side],
        np.where(values > 0, values, np.nan),
        bg_map=sulci.data.parts[side],
        hemi=side,
        view="medial",
        vmin=0,
        vmax=1.5,
        cmap="viridis",
        symmetric_cbar=False,
        axes=axis,
    )
    axis.set_box_aspect(None, zoom=1.3)
    axis.set_title(f"{side}, medial")
figure.suptitle("Noise-ceiling SNR of each region, from the GIFTI files")
plt.show()
