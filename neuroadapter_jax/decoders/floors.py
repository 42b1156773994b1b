"""Two floors: a random training image, and the mean image. They do not look at the responses."""

import numpy as np
from jaxtyping import Int, UInt8

from neuroadapter_jax.decoders.retrieval import Gallery


def random_rows(gallery: Gallery, count: int, seed: int = 0) -> Int[np.ndarray, " b"]:
    """Rows of a gallery drawn at random, with replacement: the floor "a random image".

    Args:
        gallery: the images to choose from.
        count: how many rows.
        seed: of the draws, at least 0.
    """
    return np.random.default_rng(seed).integers(len(gallery), size=count)


def mean_image(gallery: Gallery, chunk: int = 256) -> UInt8[np.ndarray, "y x c"]:
    """The mean over all images of a gallery, rounded: the floor "the mean image".

    Args:
        gallery: the images.
        chunk: images read at once.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.decoders.floors import mean_image
        >>> from neuroadapter_jax.decoders.retrieval import Gallery
        >>> images = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (0, 100, 200)])
        >>> gallery = Gallery("greys", ("a", "b", "c"), read=lambda rows: images[rows])
        >>> mean_image(gallery)[0, 0].tolist()
        [100, 100, 100]
    """
    parts = np.array_split(np.arange(len(gallery)), -(-len(gallery) // chunk))
    total = sum(gallery.read(part).sum(axis=0, dtype=np.float64) for part in parts)
    return np.rint(total / len(gallery)).astype(np.uint8)
