"""Scenes with and without what training must not have shown: objects, and objects at places.

Subjects as noisy as NSD's see `known` scenes in the main experiment. Its test images are known
scenes as well; the other kinds here are for test sets that ask for more.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from neuroadapter_jax.simulation.scenes import (
    BLANK,
    CATEGORIES,
    GROUNDS,
    MAX_OBJECTS,
    OBJECTS,
    PLACES,
    SKIES,
    SLOTS,
    PlacedObject,
    Scene,
    SceneBatch,
    SceneObject,
    render_scenes,
    sample_scene,
)
from neuroadapter_jax.simulation.streams import stream

CALIBRATION_SCENES = 600

# The last of each category: 6 of 48.
HELD_OUT_OBJECTS: tuple[SceneObject, ...] = tuple(
    [item for item in OBJECTS if item.category == category][-1] for category in CATEGORIES
)
KNOWN_OBJECTS: tuple[SceneObject, ...] = tuple(x for x in OBJECTS if x not in HELD_OUT_OBJECTS)


def is_held_out_pair(item: SceneObject, place: str) -> bool:
    """Whether known scenes never show an object before a place: each object at one of the eight."""
    return (OBJECTS.index(item) + PLACES.index(place)) % len(PLACES) == 0


def known_scene(rng: np.random.Generator) -> Scene:
    """A scene of the main experiment: no held-out object, and none before its held-out place."""
    scene = sample_scene(rng)
    return _with_objects(
        scene,
        rng,
        lambda item: item not in HELD_OUT_OBJECTS and not is_held_out_pair(item, scene.place),
    )


def known_scene_of_sequence(seed: int, index: int) -> Scene:
    """Known scene `index` of the endless random sequence of a simulation's images."""
    return known_scene(stream(seed, "known scenes", index))


def calibration_scenes(seed: int) -> SceneBatch:
    """Known scenes that no subject sees: what drives and signals are standardised over."""
    return _calibration_scenes(seed, CALIBRATION_SCENES)


@functools.cache
def _calibration_scenes(seed: int, num: int) -> SceneBatch:
    return render_scenes([known_scene(stream(seed, "calibration scenes", i)) for i in range(num)])


def changed_scenes(seed: int) -> tuple[SceneBatch, SceneBatch, SceneBatch]:
    """The calibration scenes with one thing changed.

    In the first, a known object of another category stands for one of theirs; in the second, one of
    the same category; in the third, place, ground or sky is another one.
    """
    return _changed_scenes(seed, CALIBRATION_SCENES)


@functools.cache
def _changed_scenes(seed: int, num: int) -> tuple[SceneBatch, SceneBatch, SceneBatch]:
    other: list[Scene] = []
    same: list[Scene] = []
    setting: list[Scene] = []
    for i, scene in enumerate(_calibration_scenes(seed, num).scenes):
        rng = stream(seed, "changed scenes", i)
        k = int(rng.integers(len(scene.objects)))
        old = scene.objects[k].scene_object
        for scenes, in_category in ((other, False), (same, True)):
            choices = [
                x for x in KNOWN_OBJECTS if x != old and (x.category == old.category) == in_category
            ]
            placed = list(scene.objects)
            new = choices[rng.integers(len(choices))]
            placed[k] = dataclasses.replace(placed[k], scene_object=new)
            scenes.append(dataclasses.replace(scene, objects=tuple(placed)))
        key, names = (("place", PLACES), ("ground", GROUNDS), ("sky", SKIES))[rng.integers(3)]
        rest = [name for name in names if name != getattr(scene, key)]
        changed: dict[str, Any] = {key: rest[rng.integers(len(rest))]}
        setting.append(dataclasses.replace(scene, **changed))
    return render_scenes(other), render_scenes(same), render_scenes(setting)


def unseen_objects_scene(rng: np.random.Generator) -> Scene:
    """All objects are held-out ones, of the categories that training showed."""
    return _with_objects(sample_scene(rng), rng, lambda item: item in HELD_OUT_OBJECTS)


def new_combination_scene(rng: np.random.Generator) -> Scene:
    """Known objects, all before the place where training never showed them."""
    while True:  # a place has no known partner in some categories
        scene = sample_scene(rng)
        partners = [x for x in KNOWN_OBJECTS if is_held_out_pair(x, scene.place)]
        if {item.scene_object.category for item in scene.objects} <= {x.category for x in partners}:
            return _with_objects(scene, rng, partners.__contains__)


def same_category_scene(rng: np.random.Generator) -> Scene:
    """Two different known objects of one category, and perhaps one of another."""
    while True:
        scene = known_scene(rng)
        categories = [item.scene_object.category for item in scene.objects]
        names = {item.scene_object.name for item in scene.objects}
        repeated = len(categories) - len(set(categories))
        if repeated == 1 and len(names) == len(categories):
            return scene


def single_object_scene(
    rng: np.random.Generator, scene_object: SceneObject, slot: int | None = None
) -> Scene:
    """One object on grey, as in a localizer.

    Args:
        rng: source of randomness; advanced.
        scene_object: which.
        slot: where; anywhere when None.
    """
    while True:
        scene = sample_scene(rng)
        fitting = [x for x in scene.objects if slot is None or x.slot == slot]
        if fitting:
            item = dataclasses.replace(fitting[0], scene_object=scene_object)
            return Scene(BLANK, BLANK, BLANK, (item,))


def localizer_scenes(num: int, rng: np.random.Generator) -> list[Scene]:
    """Single objects on grey, every object in turn, slots balanced."""
    objects = [OBJECTS[i % len(OBJECTS)] for i in range(num)]
    slots = rng.permutation(np.arange(num) % len(SLOTS))
    return [
        single_object_scene(rng, item, int(slot)) for item, slot in zip(objects, slots, strict=True)
    ]


def scene_key(scene: Scene) -> tuple[object, ...]:
    """What tells scenes apart that show the same things, wherever within a slot they stand."""
    things = tuple(sorted((item.slot, item.scene_object.name) for item in scene.objects))
    return (scene.place, scene.ground, scene.sky, things)


def _with_objects(
    scene: Scene, rng: np.random.Generator, allowed: Callable[[SceneObject], bool]
) -> Scene:
    """The scene; objects that are not allowed give way to allowed ones of their category."""

    def replaced(item: PlacedObject) -> PlacedObject:
        if allowed(item.scene_object):
            return item
        category = item.scene_object.category
        choices = [x for x in OBJECTS if x.category == category and allowed(x)]
        return dataclasses.replace(item, scene_object=choices[rng.integers(len(choices))])

    assert len(scene.objects) <= MAX_OBJECTS
    return dataclasses.replace(scene, objects=tuple(replaced(item) for item in scene.objects))
