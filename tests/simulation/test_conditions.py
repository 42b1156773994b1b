"""The pictures that steer a spatial adapter, against the scenes they are of."""

import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.simulation.conditions import condition_pictures, depth_maps, palette_pictures
from neuroadapter_jax.simulation.scenes import BLANK, Scene, render_scenes, sample_scenes


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(3, seed=5)


def test_objects_are_nearest_then_the_ground_then_the_place_and_the_sky_has_none(scenes):
    maps = depth_maps(scenes)
    for i in range(3):
        shown = scenes.masks[i].any(axis=0)
        assert (maps[i][shown] == 1).all() and (maps[i][~shown] < 1).all()
        if not shown[0, 0]:
            assert maps[i][0, 0] == 0
        bottom = maps[i][63][~shown[63]]
        np.testing.assert_allclose(bottom, 0.8, rtol=1e-6)
    assert {0.0, 0.35} <= {round(float(x), 6) for x in np.unique(maps)}


def test_a_place_stands_before_sky_and_ground():
    empty = Scene("castle", "grass", "day", ())
    batch, without = (render_scenes([s]) for s in (empty, Scene("tent", "grass", "day", ())))
    depth = depth_maps(batch)[0]
    # Where two places differ, one of them is seen; faint differences are edges half covered.
    differ = np.abs(batch.images[0].astype(int) - without.images[0]).max(axis=-1) > 100
    assert (np.isclose(depth, 0.35) | np.isclose(depth_maps(without)[0], 0.35))[
        differ
    ].mean() > 0.97


def test_a_blank_scene_has_no_depth():
    assert not depth_maps(render_scenes([Scene(BLANK, BLANK, BLANK, ())])).any()


def test_a_palette_is_pillows_bicubic_thumbnail_in_blocks(scenes):
    pictures = palette_pictures(scenes.images)
    for image, picture in zip(scenes.images, pictures, strict=True):
        small = Image.fromarray(image).resize((8, 8), Image.Resampling.BICUBIC)
        large = np.asarray(small.resize((64, 64), Image.Resampling.NEAREST))
        assert np.array_equal(np.rint(picture * 255), large)


def test_both_have_three_channels_from_0_to_1(scenes):
    for name in ("palette", "depth"):
        pictures = condition_pictures(name, scenes)
        assert pictures.shape == (3, 64, 64, 3) and 0 <= pictures.min() < pictures.max() <= 1
