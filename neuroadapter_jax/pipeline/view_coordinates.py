"""What the samples and the regions of views are: their images, hemispheres and noise ceilings."""

from typing import Any

import numpy as np
import xarray
from jaxtyping import Float

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.datasets.prepared.records import PreparedDataset


def regions_snr(dataset: PreparedDataset, regions: Parcellation) -> Float[np.ndarray, " p"] | None:
    """Mean noise-ceiling SNR of each region's vertices; NaN where none has any, None without."""
    ncsnr = getattr(dataset, "ncsnr", None)
    if ncsnr is None:
        return None
    found = [ncsnr[regions.cortex_indices(i)] for i in range(len(regions))]
    known = [values[np.isfinite(values)] for values in found]
    return np.array([x.mean() if len(x) else np.nan for x in known], np.float32)


def with_coordinates(
    views: xarray.Dataset, snr: Float[np.ndarray, " p"] | None = None
) -> xarray.Dataset:
    """Views that say of each sample its image, and of each region its hemisphere and its SNR.

    Args:
        views: see `views_dataset`.
        snr: see `regions_snr`.
    """
    sides = [str(name).partition(" ")[0] for name in views["region"].values]
    found: dict[str, Any] = {
        "image_id": ("sample", views["sample"].values, {"long_name": "image_id of the stimulus"}),
        "hemisphere": ("region", sides, {"long_name": "hemisphere, lh or rh"}),
    }
    if snr is not None:
        about = {"long_name": "mean noise-ceiling SNR of the region's vertices", "units": "1"}
        found["noise_ceiling_snr"] = ("region", snr, about)
    # A coordinate is of no sample, so that xarray joins files without repeating it for each.
    return views.set_coords("roi_weight").assign_coords(found)
