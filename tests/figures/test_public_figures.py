"""What every public figure function has in common."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from neuroadapter_jax import figures

WRITERS = {name for name in figures.__all__ if name.startswith(("write_", "save_"))}
DRAWING = sorted(set(figures.__all__) - WRITERS)
SCORE = {"value": 0.5, "interval": [0.25, 0.75]}


def views():
    rng = np.random.default_rng(0)
    brain = rng.random((3, 5, 7))
    pictures = rng.integers(0, 256, (3, 2, 16, 16, 3), np.uint8)
    dims = ("sample", "shown", "row", "column", "channel")
    return xarray.Dataset(
        {
            "stimulus": (("sample", *dims[2:]), pictures[:, 0]),
            "noisy": (dims, pictures),
            "predicted_clean": (dims, pictures),
            "brain_view": (("sample", "step", "region"), brain),
            "image_view": (("sample", "step", "roi", "y", "x"), rng.random((3, 5, 1, 4, 4))),
            "roi_weight": (("roi", "region"), np.eye(1, 7)),
        },
        {"shown": [1, 4], "roi": ["V1"]},
        {"reduction": "attention", "layer_weighting": "queries"},
    )


def arguments(name):
    """Small ones of each function."""
    share, images = np.linspace(0, 1, 2 * 642), np.zeros((3, 11, 13, 3), np.uint8)
    curve = {"curve": [SCORE] * 3, "area_under_curve": SCORE}
    ways = {way: {"pixel_correlation": curve, "recall": curve} for way in ("deletion", "insertion")}
    return {
        "caption_grid": lambda: (images, ["a", "b", "c"]),
        "change_figure": lambda: ({"silence": {"V1": {"regions": 3} | _measures()}}, 5),
        "deletion_figure": lambda: (
            {"curves": {"random": ways}, "shares": [0.1, 0.5, 1.0], "num_images": 5},
        ),
        "grid_figure": lambda: ({"Stimulus": images},),
        "image_grid": lambda: ({"Stimulus": images},),
        "loss_figure": lambda: (
            {
                "silence": {
                    "Face": {"objects": 3, "changed": SCORE, "changed_by_random_sets": SCORE}
                }
            },
            {"silence": 5},
        ),
        "roi_figure": lambda: (np.where(share > 0.5, "V1", ""),),
        "share_figure": lambda: (views(), ["V1"]),
        "steps_figure": lambda: (share[None], ["late"], "share"),
        "timeline": lambda: (views(), 0, ["V1"]),
        "training_figure": lambda: (
            [{"kind": "train", "step": 1, "loss": 2.0}, {"kind": "train", "step": 2, "loss": 1.0}],
        ),
        "value_figure": lambda: (share, "share"),
    }[name]()


def _measures():
    from neuroadapter_jax.evaluation.appearance import MEASURES

    return {measure: SCORE for measure in MEASURES}


@pytest.mark.parametrize("name", DRAWING)
def test_a_figure_function_draws_into_what_it_is_given_and_returns_what_it_drew(name):
    function, own = getattr(figures, name), Figure()
    options = {"views": ("lateral",)} if name in ("roi_figure", "value_figure") else {}
    if "figure" in inspect.signature(function).parameters:
        assert function(*arguments(name), **options, figure=own) is own
        assert own.axes
        new = function(*arguments(name), **options)
        assert isinstance(new, Figure) and new is not own
        plt.close(new)
    else:
        axes = own.add_subplot()
        picture = function(*arguments(name), axes=axes)
        assert isinstance(picture, Image.Image)
        np.testing.assert_array_equal(axes.images[0].get_array(), picture)


def test_every_public_name_is_there_and_documented():
    assert set(figures.__all__) == set(figures._PUBLIC) and len(DRAWING) >= 11
    for name in figures.__all__:
        assert inspect.getdoc(getattr(figures, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        figures.nothing  # noqa: B018


def test_importing_the_figures_leaves_matplotlib_as_the_user_has_it():
    program = """
import importlib, pkgutil, sys, matplotlib
matplotlib.rcParams["lines.linewidth"] = 3.25
import neuroadapter_jax.figures as figures
assert "matplotlib.pyplot" not in sys.modules
import matplotlib.pyplot
before = dict(matplotlib.rcParams)
for module in pkgutil.iter_modules(figures.__path__):
    importlib.import_module(f"neuroadapter_jax.figures.{module.name}")
    changed = {key for key, value in before.items() if matplotlib.rcParams._get(key) != value}
    assert not changed, (module.name, changed)
    assert matplotlib.get_backend() == "svg", module.name
print("left alone")
"""
    environment = os.environ | {"MPLBACKEND": "svg"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "left alone"
