import dataclasses

import numpy as np
import pytest

from neuroadapter_jax.evaluation.object_identity import identify_objects, objects_shown
from neuroadapter_jax.simulation.scenes import OBJECTS, render, sample_scenes

BATCH = sample_scenes(23, seed=7)


def exchanged(scene, shift):
    """The same scene with other objects: each moved on by `shift` in OBJECTS."""
    objects = tuple(
        dataclasses.replace(
            item, scene_object=OBJECTS[(OBJECTS.index(item.scene_object) + shift) % len(OBJECTS)]
        )
        for item in scene.objects
    )
    return dataclasses.replace(scene, objects=objects)


@pytest.mark.parametrize("shift", [0, 1, 17])
def test_what_is_drawn_is_named_and_not_what_was_shown(shift, rng):
    reconstructions = np.stack([render(exchanged(scene, shift))[0] for scene in BATCH.scenes])
    noisy = np.clip(reconstructions + rng.normal(0, 20, reconstructions.shape), 0, 255).astype(
        np.uint8
    )
    expected = np.where(BATCH.objects >= 0, (BATCH.objects + shift) % len(OBJECTS), -1)
    np.testing.assert_array_equal(identify_objects(noisy, BATCH.scenes), expected)


def test_only_the_things_own_squares_count(rng):
    reconstructions = rng.integers(0, 256, BATCH.images.shape, dtype=np.uint8)
    for image, stimulus, scene in zip(reconstructions, BATCH.images, BATCH.scenes, strict=True):
        for item in scene.objects:
            top, left = round(item.y - item.size / 2), round(item.x - item.size / 2)
            window = np.s_[top : top + item.size, left : left + item.size]
            image[window] = stimulus[window]
    np.testing.assert_array_equal(identify_objects(reconstructions, BATCH.scenes), BATCH.objects)


@pytest.mark.slow
def test_an_image_of_nothing_is_right_by_chance():
    """397 objects; three standard deviations of a binomial with 1/48 are 2.1 points."""
    scenes = sample_scenes(199, seed=8)
    grey = np.full_like(scenes.images, 128)
    shown = scenes.objects >= 0
    right = (identify_objects(grey, scenes.scenes) == scenes.objects)[shown]
    assert right.mean() == pytest.approx(1 / 48, abs=3 * np.sqrt(47 / 48**2 / shown.sum()))


def test_things_shown_are_the_batchs_own():
    np.testing.assert_array_equal(objects_shown(BATCH.scenes), BATCH.objects)


def test_wrong_counts_are_answered(as_user):
    with pytest.raises(ValueError, match="found 22 images and 23 scenes"):
        identify_objects(BATCH.images[1:], BATCH.scenes)
