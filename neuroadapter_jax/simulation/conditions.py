"""Pictures that steer a spatial adapter, from the truth of scenes: palette and depth."""

import numpy as np
from jaxtyping import Float32, UInt8

from neuroadapter_jax.metrics.colour import PALETTE_SIDE, colour_palette
from neuroadapter_jax.simulation.scenes import BLANK, HORIZON, IMAGE_SIZE, SceneBatch, place_mask

CONDITIONS = ("palette", "depth")
PLACE_DEPTH, OBJECT_DEPTH = 0.35, 1.0
GROUND_DEPTHS = (0.4, 0.8)  # at the horizon, and in the last row


def palette_pictures(
    images: UInt8[np.ndarray, "b y x c"], side: int = PALETTE_SIDE
) -> Float32[np.ndarray, "b y x c"]:
    """An image's coarse colours at its own size: side x side of them, each a square block.

    DREAM (Xia et al. 2024, arXiv 2310.02265) takes 8 x 8; see `metrics.colour.colour_palette`.

    Args:
        images: 0..255; rows and columns are multiples of `side`.
        side: colours per row and column.

    Returns:
        Floats in 0..1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.simulation.conditions import palette_pictures
        >>> palette_pictures(np.full((1, 64, 64, 3), 255, np.uint8))[0, 5, 9].tolist()
        [1.0, 1.0, 1.0]
    """
    palette = colour_palette(images, side).astype(np.float32) / 255.0
    y, x = (length // side for length in images.shape[1:3])
    return palette.repeat(y, axis=1).repeat(x, axis=2)


def depth_maps(scenes: SceneBatch) -> Float32[np.ndarray, "n y x"]:
    """How near each pixel of a scene is: 0 for the sky, which has no depth, to 1 for objects.

    As MiDaS's relative depth, more is nearer. The place has 0.35; the ground goes from 0.4 at the
    horizon to 0.8 in the last row; an object has 1. A blank scene has objects alone.

    Args:
        scenes: rendered, with their masks.

    Examples:
        >>> from neuroadapter_jax.simulation.conditions import depth_maps
        >>> from neuroadapter_jax.simulation.scenes import sample_scenes
        >>> maps = depth_maps(sample_scenes(2, seed=0))
        >>> maps.shape, float(maps.min()), float(maps.max())
        ((2, 64, 64), 0.0, 1.0)
    """
    rows = np.arange(IMAGE_SIZE - HORIZON) / (IMAGE_SIZE - HORIZON - 1)
    ground = GROUND_DEPTHS[0] + rows * (GROUND_DEPTHS[1] - GROUND_DEPTHS[0])
    maps = np.zeros((len(scenes.images), IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for i, scene in enumerate(scenes.scenes):
        if scene.place != BLANK:
            maps[i, HORIZON:] = ground[:, None]
            maps[i][place_mask(scene.place)] = PLACE_DEPTH
        maps[i][scenes.masks[i].any(axis=0)] = OBJECT_DEPTH
    return maps


def condition_pictures(name: str, scenes: SceneBatch) -> Float32[np.ndarray, "n y x c"]:
    """What an adapter for "palette" or "depth" is shown: three channels in 0..1.

    Args:
        name: one of `CONDITIONS`; a depth map stands in all three channels.
        scenes: rendered, with their masks.
    """
    if name == "palette":
        return palette_pictures(scenes.images)
    return np.repeat(depth_maps(scenes)[..., None], 3, axis=-1)
