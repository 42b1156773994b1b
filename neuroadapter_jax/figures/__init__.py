"""Figures and the HTML pages.

Every function that draws takes `figure=` or `axes=` to draw into, as nilearn's do, and returns what
it drew: a Matplotlib figure that the caller closes, or a picture of Pillow's where it is a grid of
images. Those that begin with write or save write files. The names are imported when they are first
used; none of them changes Matplotlib's backend or settings.
"""

import importlib
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "caption_grid": "grids",
    "change_figure": "causal",
    "deletion_figure": "causal",
    "grid_figure": "image_figures",
    "image_grid": "grids",
    "loss_figure": "causal",
    "roi_figure": "cortex_maps",
    "save_grid": "grids",
    "save_picture": "pictures",
    "share_figure": "timelines",
    "steps_figure": "cortex_maps",
    "timeline": "timelines",
    "training_figure": "report",
    "value_figure": "cortex_maps",
    "write_animation": "timelines",
    "write_interpretation_figures": "interpretation_report",
    "write_interpretation_report": "interpretation_report",
    "write_report": "report",
}
__all__ = [
    "caption_grid",
    "change_figure",
    "deletion_figure",
    "grid_figure",
    "image_grid",
    "loss_figure",
    "roi_figure",
    "save_grid",
    "save_picture",
    "share_figure",
    "steps_figure",
    "timeline",
    "training_figure",
    "value_figure",
    "write_animation",
    "write_interpretation_figures",
    "write_interpretation_report",
    "write_report",
]

if TYPE_CHECKING:
    from neuroadapter_jax.figures.causal import change_figure, deletion_figure, loss_figure
    from neuroadapter_jax.figures.cortex_maps import roi_figure, steps_figure, value_figure
    from neuroadapter_jax.figures.grids import caption_grid, image_grid, save_grid
    from neuroadapter_jax.figures.image_figures import grid_figure
    from neuroadapter_jax.figures.interpretation_report import (
        write_interpretation_figures,
        write_interpretation_report,
    )
    from neuroadapter_jax.figures.pictures import save_picture
    from neuroadapter_jax.figures.report import training_figure, write_report
    from neuroadapter_jax.figures.timelines import share_figure, timeline, write_animation


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
