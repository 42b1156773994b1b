"""Object identity: which of the 48 objects a reconstruction resembles most, place by place."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.recall import EMPTY
from neuroadapter_jax.simulation.scenes import OBJECTS, SLOTS, PlacedObject, Scene, render


def identify_objects(
    reconstructions: UInt8[np.ndarray, "b y x c"], scenes: Sequence[Scene]
) -> Int[np.ndarray, "b slot"]:
    """Names each object of a scene by the reconstruction within its square.

    name = argmin_k sum_{y, x, c} (reconstruction - render(scene with object k there))^2,

    the sum over the object's own square. Position, size and everything around are the scene's, so
    an image that shows nothing of the object is right once in 48 over scenes drawn at random.

    Args:
        reconstructions: images, 0..255, one per scene.
        scenes: what was shown, same order.

    Returns:
        int16 index into `scenes.OBJECTS` at the slots that hold an object, -1 elsewhere.

    Raises:
        InputError: the counts differ.
    """
    if len(reconstructions) != len(scenes):
        raise InputError(
            f"There should be one image per scene, found {len(reconstructions)} images and "
            f"{len(scenes)} scenes; give both in the same order."
        )
    named = np.full((len(scenes), len(SLOTS)), EMPTY, np.int16)
    for image, scene, row in zip(reconstructions, scenes, named, strict=True):
        for item in scene.objects:
            window = _square(image, item).astype(np.int32)
            errors = [
                ((_square(_with_object(scene, item, index), item) - window) ** 2).sum()
                for index in range(len(OBJECTS))
            ]
            row[item.slot] = np.argmin(errors)
    return named


def objects_shown(scenes: Sequence[Scene]) -> Int[np.ndarray, "b slot"]:
    """int16 index into `scenes.OBJECTS` of what stands in each slot, -1 for empty."""
    shown = np.full((len(scenes), len(SLOTS)), EMPTY, np.int16)
    for scene, row in zip(scenes, shown, strict=True):
        for item in scene.objects:
            row[item.slot] = OBJECTS.index(item.scene_object)
    return shown


def _square(
    image: UInt8[np.ndarray, "y x c"], item: PlacedObject
) -> UInt8[np.ndarray, "side side c"]:
    top, left = item.corner
    return image[top : top + item.size, left : left + item.size]


def _with_object(scene: Scene, item: PlacedObject, index: int) -> UInt8[np.ndarray, "y x c"]:
    other = dataclasses.replace(item, scene_object=OBJECTS[index])
    objects = tuple(other if one is item else one for one in scene.objects)
    return render(dataclasses.replace(scene, objects=objects))[0]
