import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.image_figures import grid_figure

ROWS = {
    name: np.random.default_rng(seed).integers(0, 256, (3, 11, 13, 3)).astype(np.uint8)
    for seed, name in enumerate(("Stimulus", "Reconstruction"))
}


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def test_a_figure_of_a_grid_has_its_pixels():
    figure = grid_figure(ROWS, list("abc"), scale=3)
    np.testing.assert_array_equal(pixels(figure), image_grid(ROWS, list("abc"), scale=3))
    plt.close(figure)


def test_a_title_stands_above_the_grid_and_not_on_it():
    grid = np.asarray(image_grid(ROWS, scale=3))
    figure = grid_figure(ROWS, scale=3, title="Three")
    found = pixels(figure)
    above = len(found) - len(grid)
    np.testing.assert_array_equal(found[above:], grid)
    assert (found[:above] < 100).any()
    plt.close(figure)


def test_a_grid_goes_into_the_callers_figure():
    own = Figure()
    assert grid_figure(ROWS, figure=own) is own and len(own.axes) == 1


def test_rows_of_unequal_images_are_refused():
    with pytest.raises(InputError, match="one shape"):
        grid_figure({"a": ROWS["Stimulus"], "b": ROWS["Stimulus"][:, :7]})
