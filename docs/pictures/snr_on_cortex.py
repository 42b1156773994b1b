"""The SNR of the noisy subject's vertices on the cortex: docs/images/noisy_snr.png.

python docs/pictures/snr_on_cortex.py runs/nsd_like/subj01/prepared docs/images/noisy_snr.png
"""

import sys

import matplotlib

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.figures.cortex_maps import value_figure
from neuroadapter_jax.simulation.cohort import visual_mask

if __name__ == "__main__":
    matplotlib.use("agg")
    prepared, picture = sys.argv[1:]
    ncsnr = PreparedDataset(prepared, "test").ncsnr
    figure = value_figure(
        ncsnr,
        "SNR of one trial (ncsnr), simulated subject 1, nsd_like",
        high=2.0,
        outlines={"nsdgeneral": visual_mask()},
    )
    figure.savefig(picture, dpi=110, bbox_inches="tight")
