"""Accuracy of predicted responses, as the field reports it."""

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from neuroadapter_jax.cortex.noise_ceiling import explainable_variance
from neuroadapter_jax.metrics.pixels import standardise


def vertex_correlation(
    predicted: Float[np.ndarray, "i n"], measured: Float[np.ndarray, "i n"]
) -> Float[np.ndarray, " n"]:
    """Pearson's r of each vertex over images; 0 where either side is constant or not finite.

    Args:
        predicted: responses to i images, any unit.
        measured: responses to the same images.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.accuracy import vertex_correlation
        >>> measured = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, np.nan]])
        >>> vertex_correlation(measured + 3.0, measured).round(4).tolist()
        [1.0, 0.0]
    """
    total = np.zeros(measured.shape[1])
    for first in range(0, measured.shape[1], 8192):  # float64 copies of a part at a time
        part = np.s_[:, first : first + 8192]
        a, b = (np.where(np.isfinite(x[part]), x[part], np.nan) for x in (predicted, measured))
        whole = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
        a, b = (standardise(np.where(whole, x, 0.0).T) for x in (a, b))
        total[first : first + 8192] = (a * b).sum(axis=1)
    return total.astype(np.float32)


def noise_ceiling(ncsnr: Float[np.ndarray, " n"], num_trials: int) -> Float[np.ndarray, " n"]:
    """Highest correlation that any model can reach with the mean of some trials.

    ::

        r = sqrt(ncsnr^2 / (ncsnr^2 + 1 / num_trials))

    which is the root of `explainable_variance` (Allen et al. 2022, Methods, whose noise ceiling is
    100 r^2).

    Args:
        ncsnr: noise-ceiling SNR, at least 0; NaN gives 0.
        num_trials: trials averaged, at least 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.accuracy import noise_ceiling
        >>> ceiling = noise_ceiling(np.array([0.0, 1.0, np.nan]), num_trials=3)
        >>> [round(float(r), 3) for r in ceiling]
        [0.0, 0.866, 0.0]
    """
    explainable = explainable_variance(np.nan_to_num(ncsnr), np.array([num_trials]))
    return np.sqrt(explainable).astype(np.float32)


def normalised_accuracy(
    correlation: Float[np.ndarray, " n"], ceiling: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Share of the explainable variance: min(1, max(r, 0)^2 / ceiling^2); NaN where it is 0.

    Args:
        correlation: Pearson's r per vertex, -1 to 1.
        ceiling: the highest r that any model can reach, 0 to 1, from `noise_ceiling`.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.encoder.accuracy import normalised_accuracy
        >>> normalised_accuracy(np.array([0.25, -0.1, 0.2]), np.array([0.5, 0.5, 0.0])).tolist()
        [0.25, 0.0, nan]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.square(np.maximum(correlation, 0)) / np.square(ceiling)
    return np.where(ceiling > 0, np.minimum(share, 1.0), np.nan)


def encoding_accuracy(
    predicted: Float[np.ndarray, "i n"],
    measured: Float[np.ndarray, "i n"],
    ncsnr: Float[np.ndarray, " n"],
    num_trials: int,
    roi: Shaped[np.ndarray, " n"],
    least_ceiling: float = 0.3,
) -> tuple[dict[str, Any], Float[np.ndarray, " n"]]:
    """Correlation per vertex, and its summary per ROI.

    Args:
        predicted: responses to test images.
        measured: means over `num_trials` trials of each image.
        ncsnr: noise-ceiling SNR.
        num_trials: trials averaged in `measured`, at least 1.
        roi: name of the ROI of each vertex, "" for none.
        least_ceiling: vertices with a ceiling above it are summarised as "predictable".

    Returns:
        Medians as JSON values: of r, of the ceiling, of r / ceiling and of the share of the
        explainable variance, over predictable vertices, per ROI, and of r over the vertices
        without an ROI; and r per vertex.
    """
    correlation = vertex_correlation(predicted, measured)
    ceiling = noise_ceiling(ncsnr, num_trials)
    share = normalised_accuracy(correlation, ceiling)

    def summary(chosen: np.ndarray) -> dict[str, Any]:
        if not chosen.any():
            return {"num_vertices": 0}
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(ceiling > 0, correlation / ceiling, np.nan)[chosen]
        return {
            "num_vertices": int(chosen.sum()),
            "correlation": float(np.median(correlation[chosen])),
            "ceiling": float(np.median(ceiling[chosen])),
            "correlation_over_ceiling": float(np.nanmedian(relative)),
            "explained_share": float(np.nanmedian(share[chosen])),
        }

    names = sorted(set(np.unique(roi).tolist()) - {""})
    result = {
        "num_images": len(measured),
        "num_trials": num_trials,
        "least_ceiling": least_ceiling,
        "predictable": summary(ceiling > least_ceiling),
        "rois": {name: summary(roi == name) for name in names},
        "median_correlation_without_roi": float(np.median(correlation[roi == ""])),
    }
    return result, correlation
