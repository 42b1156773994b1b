"""ROIs that thresholds make of a map of measurements, such as eccentricity or a localizer's t."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from neuroadapter_jax.errors import InputError


@dataclass(frozen=True)
class MapROI:
    """The vertices where low <= value < high.

    A value of 0 or NaN is no measurement, as retinotopic templates have outside of visual cortex,
    and belongs to no ROI.

    Attributes:
        name: of the ROI.
        file: of the map, without hemisphere and suffix, such as "benson14_eccen.v4_0".
        low: in the map's unit; -inf where there is no lower bound.
        high: in the map's unit, above `low`; inf where there is no upper bound.

    Raises:
        InputError: bounds that leave nothing.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex.map_rois import MapROI
        >>> fovea = MapROI.parse("fovea=benson14_eccen.v4_0::2")  # below 2 degrees
        >>> fovea.mask(np.array([0.0, 0.5, 1.9, 2.0, np.nan])).tolist()
        [False, True, True, False, False]
    """

    name: str
    file: str
    low: float
    high: float

    def __post_init__(self):
        if not self.low < self.high:
            raise InputError(
                f"The ROI {self.name!r} takes {self.low:g} <= value < {self.high:g} of the map "
                f"{self.file}, which leaves nothing; give a lower bound below the upper one."
            )

    @classmethod
    def parse(cls, text: str) -> MapROI:
        """Reads "NAME=FILE:LOW:HIGH"; LOW or HIGH may be left empty.

        Raises:
            InputError: other text.
        """
        try:
            name, rest = text.split("=")
            file, low, high = rest.split(":")
            bounds = float(low or "-inf"), float(high or "inf")
        except ValueError:
            name = file = ""
            bounds = 0.0, 1.0
        if not name.strip() or not file.strip():
            raise InputError(
                f"The ROI of a map is given as {text!r}; expected NAME=FILE:LOW:HIGH, such as "
                f"fovea=benson14_eccen.v4_0:0:4, where LOW or HIGH may be empty."
            )
        return cls(name.strip(), file.strip(), *bounds)

    def mask(self, values: Shaped[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Which vertices of a map belong to the ROI."""
        measured = np.isfinite(values) & (values != 0)
        return measured & (values >= self.low) & (values < self.high)
