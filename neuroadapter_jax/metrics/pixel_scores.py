"""The three scores that need pixels alone, one value per image, once for the whole project."""

import numpy as np
from jaxtyping import Float, UInt8

from neuroadapter_jax.metrics.identification import two_way_pixels
from neuroadapter_jax.metrics.pixels import pixel_correlation, ssim


def pixel_scores(
    stimuli: UInt8[np.ndarray, "b y x c"], reconstructions: UInt8[np.ndarray, "b y x c"]
) -> dict[str, Float[np.ndarray, " b"]]:
    """Two-way identification by pixels, pixel correlation and SSIM at the images' own size.

    Published tables resize to 425 x 425 pixels first; see `evaluation.protocol.score_images`.

    Args:
        stimuli: 0..255.
        reconstructions: 0..255, same order.

    Returns:
        "two_way_pixels" in [0, 1] with chance 0.5, "pixel_correlation" and "ssim" in [-1, 1].

    Raises:
        InputError: the stacks are no uint8 RGB images of one shape, or hold fewer than two.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixel_scores import pixel_scores
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
        >>> scores = pixel_scores(images, images)
        >>> {name: round(float(values.mean()), 3) for name, values in scores.items()}
        {'two_way_pixels': 1.0, 'pixel_correlation': 1.0, 'ssim': 1.0}
    """
    return {
        "two_way_pixels": two_way_pixels(stimuli, reconstructions),
        "pixel_correlation": pixel_correlation(stimuli, reconstructions),
        "ssim": ssim(stimuli, reconstructions),
    }
