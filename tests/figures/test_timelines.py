import numpy as np
import pytest
import xarray
from matplotlib import pyplot as plt
from PIL import Image

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.figures import timelines

S, T, P, SIDE, PIXELS = 3, 5, 7, 4, 16


@pytest.fixture
def views(rng):
    def images(*shape):
        return rng.integers(0, 256, (*shape, PIXELS, PIXELS, 3), np.uint8)

    pixels = ("row", "column", "channel")
    weights = np.zeros((3, P), np.float32)
    weights[0, :2], weights[1, 4:] = 0.5, 1 / 3
    maps = rng.random((S, T, 3, SIDE, SIDE)).astype(np.float32)
    maps[:, :, 2] = np.nan
    brain = rng.random((S, T, P)).astype(np.float32)
    return xarray.Dataset(
        {
            "stimulus": (("sample", *pixels), images(S)),
            "noisy": (("sample", "shown", *pixels), images(S, 2)),
            "predicted_clean": (("sample", "shown", *pixels), images(S, 2)),
            "brain_view": (
                ("sample", "step", "region"),
                brain / brain.sum(-1, keepdims=True),
            ),
            "image_view": (("sample", "step", "roi", "y", "x"), maps),
            "roi_weight": (("roi", "region"), weights),
        },
        {"shown": [1, 4], "roi": ["V1", "Face", "none"]},
        {"reduction": "attention", "layer_weighting": "queries"},
    )


def test_an_overlay_is_orange_where_the_view_is_highest():
    image = np.zeros((16, 16, 3), np.uint8)
    view = np.zeros((4, 4))
    view[1, 2] = 0.25
    found = timelines.overlay(image, view)
    # Pixel (6, 10) lies 0.125 of a view pixel off the centre of (1, 2), in rows and columns.
    opacity = 0.9 * (0.875 * 0.875) ** 2
    np.testing.assert_array_equal(found[6, 10], np.round(opacity * np.array([251, 113, 24])))
    assert not found[:, :4].any()
    np.testing.assert_array_equal(timelines.overlay(image, np.full((4, 4), np.nan)), image)


def test_a_timeline_has_a_column_per_shown_step(views):
    picture = np.asarray(timelines.timeline(views, 1, ["V1"], scale=1))
    for name, count in (("stimulus", 1), ("noisy", 2), ("predicted_clean", 2)):
        tiles = views[name].values[1].reshape(count, PIXELS, PIXELS, 3)
        for tile in tiles:
            rows, columns = picture.shape[0] - PIXELS + 1, picture.shape[1] - PIXELS + 1
            places = [
                (y, x)
                for y in range(rows)
                for x in range(columns)
                if np.array_equal(picture[y, x], tile[0, 0])
                and np.array_equal(picture[y : y + PIXELS, x : x + PIXELS], tile)
            ]
            assert len(places) == 1  # the stimulus as well


def test_an_animation_has_a_frame_per_shown_step(views, tmp_path):
    timelines.write_animation(tmp_path / "a.gif", views, 0, ["V1", "none"])
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.gif"]


def test_curves_of_shares(views):
    own = timelines.Figure()
    figure = timelines.share_figure(views, ["V1", "Face", "none"], figure=own)
    assert figure is own
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines[:2]] == ["V1", "Face"] and len(lines) == 3
    share = views["brain_view"].values[..., 4:].sum(-1).mean(0) / (3 / 7)
    np.testing.assert_allclose(lines[1].get_ydata(), share, rtol=1e-5)
    plt.close(figure)


def test_shares_on_vertices():
    regions = Parcellation(
        ("a", "b"), ("lh", "rh"), (np.array([0, 2], np.int32), np.array([1], np.int32)), (3, 2)
    )
    found = timelines.on_vertices(np.array([0.25, 0.75]), regions)
    np.testing.assert_array_equal(found, [0.25, np.nan, 0.25, np.nan, 0.75])
