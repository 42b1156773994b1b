"""How far a depth map is from the true one: the four distances of monocular depth estimation."""

import numpy as np
from jaxtyping import Float, Real

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.finite import require_finite_rows

DEPTH_METRICS = {
    "depth_abs_rel": "AbsRel",
    "depth_sq_rel": "SqRel",
    "depth_rmse": "RMSE",
    "depth_rmse_log": "RMSE log",
}


def depth_errors(
    depth: Real[np.ndarray, "b y x"],
    truth: Real[np.ndarray, "b y x"],
    smallest: float = 1e-3,
) -> dict[str, Float[np.ndarray, " b"]]:
    """AbsRel, SqRel, RMSE and RMSE log of each depth map, over the pixels that have a true depth.

    With d the depth, t the truth and the mean over the pixels where t > 0::

        depth_abs_rel  = mean |d - t| / t
        depth_sq_rel   = mean (d - t)^2 / t
        depth_rmse     = sqrt(mean (d - t)^2)
        depth_rmse_log = sqrt(mean (log d - log t)^2)

    Eigen et al. 2014 (arXiv 1406.2283), section 4; DREAM (Xia et al. 2024, arXiv 2310.02265)
    reports them of MiDaS's maps. Of all four less is better.

    Args:
        depth: of the reconstructions, at least 0, any unit.
        truth: of the stimuli, in the same unit; 0 where there is no depth, such as the sky.
        smallest: d is raised to it before the logarithm, above 0, so that a missed object counts
            as very far off rather than as infinitely so.

    Raises:
        InputError: other shapes, a negative depth, or a map without any true depth.
        NotFiniteError: a map that holds NaN or infinite numbers.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.depth import depth_errors
        >>> errors = depth_errors(np.full((1, 2, 2), 2.0), np.full((1, 2, 2), 1.0))
        >>> {name: round(float(value[0]), 3) for name, value in errors.items()}
        {'depth_abs_rel': 1.0, 'depth_sq_rel': 1.0, 'depth_rmse': 1.0, 'depth_rmse_log': 0.693}
    """
    if depth.shape != truth.shape or depth.ndim != 3 or smallest <= 0:
        raise InputError(
            "Depth errors compare two stacks of maps of one shape [b, y, x], found "
            f"{depth.shape} and {truth.shape}, with a smallest depth above 0, found {smallest}."
        )
    flat = [np.asarray(x, np.float64).reshape(len(x), -1) for x in (depth, truth)]
    for values in flat:
        require_finite_rows(values, "depth maps to compare")
    d, t = flat
    if (d < 0).any() or (t < 0).any():
        raise InputError("A depth is negative; expected maps of at least 0, where 0 is no depth.")
    known = t > 0
    if not known.any(axis=1).all():
        row = int(np.flatnonzero(~known.any(axis=1))[0])
        raise InputError(
            f"The true depth map of image {row} (counted from 0) is 0 everywhere; expected a depth "
            "above 0 at one pixel at least."
        )
    where = np.where(known, t, 1.0)
    error = np.where(known, d - t, 0.0)
    logs = np.where(known, np.log(np.maximum(d, smallest)) - np.log(where), 0.0)
    count = known.sum(axis=1)

    def mean(values: np.ndarray) -> Float[np.ndarray, " b"]:
        return values.sum(axis=1) / count

    return {
        "depth_abs_rel": mean(np.abs(error) / where),
        "depth_sq_rel": mean(error**2 / where),
        "depth_rmse": np.sqrt(mean(error**2)),
        "depth_rmse_log": np.sqrt(mean(logs**2)),
    }
