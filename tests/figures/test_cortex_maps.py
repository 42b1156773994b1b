import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from nilearn.datasets import load_fsaverage
from PIL import Image

from neuroadapter_jax.figures.cortex_maps import (
    roi_figure,
    steps_figure,
    value_figure,
)
from neuroadapter_jax.figures.pictures import save_picture


@pytest.fixture(scope="module")
def roi():
    """ "front" and "back" on the left hemisphere, "back" alone on the right."""
    parts = load_fsaverage("fsaverage5")["sphere"].parts
    y = np.concatenate([parts[h].coordinates[:, 1] for h in ("left", "right")])
    names = np.full(len(y), "", "U8")
    names[y < -60] = "back"
    names[: len(y) // 2][y[: len(y) // 2] > 60] = "front"
    return names


def test_rois_are_shown_on_their_hemisphere(roi, tmp_path):
    figure = roi_figure(roi, views=("lateral",), order=("front", "back", "unseen"), title="T")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["front", "back", "unseen"]
    front, back, _ = (to_rgb(patch.get_facecolor()) for patch in legend.get_patches())
    left, right = (axis.collections[0].get_facecolors()[:, :3] for axis in figure.axes)

    def share(faces, colour):
        return np.isclose(faces, colour, atol=1e-3).all(axis=1).mean()

    assert 0.05 < share(left, front) < 0.4 and 0.05 < share(left, back) < 0.4
    assert share(right, front) == 0 and 0.05 < share(right, back) < 0.4

    save_picture(tmp_path / "rois.png", figure, dpi=50)
    assert [file.name for file in tmp_path.iterdir()] == ["rois.png"]
    with Image.open(tmp_path / "rois.png") as picture:
        assert min(picture.size) > 100
    assert not plt.fignum_exists(figure.number)


def test_another_mesh_or_order_is_answered(roi, as_user):
    with pytest.raises(
        ValueError, match=r"A map has 100 vertices; expected .*: .* 20484 \(fsaverage5\)"
    ):
        roi_figure(roi[:100])
    with pytest.raises(ValueError, match=r"lacks \['back'\]"):
        roi_figure(roi, order=("front",))


def test_values_are_painted_on_one_scale(roi):
    values = np.select([roi == "back", roi == "front"], [0.25, 0.75], np.nan)
    figure = value_figure(values, "r", low=0.0, high=1.0, views=("lateral",))
    cmap = plt.get_cmap("viridis")
    left, right = (axis.collections[0].get_facecolors()[:, :3] for axis in figure.axes[:2])

    def share(faces, value):
        return np.isclose(faces, cmap(value)[:3], atol=0.01).all(axis=1).mean()

    assert 0.05 < share(left, 0.25) < 0.4 and 0.05 < share(left, 0.75) < 0.4
    assert 0.05 < share(right, 0.25) < 0.4 and share(right, 0.75) == 0
    assert figure.axes[2].get_xlabel() == "r"
    plt.close(figure)


def test_steps_share_one_scale_on_the_flat_cortex(roi):
    values = np.stack([np.where(roi == "back", x, np.nan) for x in (0.25, 0.75)])
    figure = steps_figure(
        values, ["early", "late"], "r", view="flat", outlines={"front": roi == "front"}
    )
    cmap, (legend,) = plt.get_cmap("viridis"), figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["front"]
    colour = to_rgb(legend.get_patches()[0].get_facecolor())
    parts = load_fsaverage("fsaverage5")["flat"].parts
    for i, hemi in enumerate(("left", "right")):
        for j, value in enumerate((0.25, 0.75)):
            axis = figure.axes[2 * i + j]
            assert axis.get_title() == f"{hemi}, {('early', 'late')[j]}"
            faces = axis.collections[0].get_facecolors()[:, :3]
            assert len(faces) == len(parts[hemi].faces)
            painted = np.isclose(faces, cmap(value)[:3], atol=0.01).all(axis=1).mean()
            assert 0.05 < painted < 0.4
            bordered = np.isclose(faces, colour, atol=1e-3).all(axis=1).mean()
            assert (0 < bordered < 0.05) if hemi == "left" else bordered == 0
    plt.close(figure)


def test_an_outline_of_scattered_vertices_is_left_out(roi):
    alone = np.zeros(len(roi), bool)
    alone[[3, 11]] = True
    figure = value_figure(np.zeros(len(roi)), "r", views=("lateral",), outlines={"alone": alone})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["alone"]
    plt.close(figure)


def test_a_figure_of_the_caller_is_drawn_into(roi):
    own = plt.figure()
    assert roi_figure(roi, views=("lateral", "medial"), figure=own) is own
    assert [axis.get_title() for axis in own.axes] == [
        f"{side}, {view}" for side in ("left", "right") for view in ("lateral", "medial")
    ]
    plt.close(own)


def test_a_map_of_a_finer_surface_says_how_it_is_shown(roi):
    fine = np.full(2 * 163_842, "", "U8")
    fine[:10_242], fine[163_842 : 163_842 + 10_242] = np.split(roi, 2)
    coarse, figure = (roi_figure(own, views=("lateral",)) for own in (roi, fine))
    text = " ".join(figure.texts[0].get_text().split())
    assert text.startswith("The data is on fsaverage, 163842 vertices") and "10242" in text
    assert coarse.texts[0].get_text() == ""
    for found, expected in zip(figure.axes, coarse.axes, strict=True):
        mesh, truth = (axis.collections[0].get_facecolors() for axis in (found, expected))
        np.testing.assert_array_equal(mesh, truth)
    plt.close(coarse)
    plt.close(figure)
