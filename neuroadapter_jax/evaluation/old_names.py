"""Names in result files of version 0.1.0, and what they are called now."""

from collections.abc import Mapping
from typing import Any

NEW_NAMES = {
    "drawn": "reconstructions",
    "thing_identification": "object_identity",
    "things": "objects",
    "num_things": "num_objects",
    "things_read": "objects_read",
    "things_shown": "objects_shown",
    "things_read_rightly": "objects_read_rightly",
    "things_identified": "objects_identified",
    "all areas": "all ROIs",
    "num_areas": "num_rois",
    "category areas (more than half)": "category ROIs (more than half)",
    "category areas (largest share)": "category ROIs (largest share)",
    "category areas (more than half), random": "category ROIs (more than half), random",
    "category areas (largest share), random": "category ROIs (largest share), random",
    "area": "area_under_curve",
}
# What stands under these is the record of a run's settings and keeps the names that it had.
_RECORDS = ("drawn", "reconstructions", "settings", "model", "data", "ablation")


def with_new_names(content: Any) -> Any:
    """The content of a result file with every old key of its dictionaries renamed.

    Records of settings (under "reconstructions", "settings", "model", "data" or "ablation") stay
    as they are. Files of this version come back unchanged.
    """
    if isinstance(content, Mapping):
        return {
            NEW_NAMES.get(key, key): value if key in _RECORDS else with_new_names(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [with_new_names(value) for value in content]
    return content
