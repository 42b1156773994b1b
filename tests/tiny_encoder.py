"""A cortex of four regions, for the tests of the brain encoder."""

import numpy as np

from neuroadapter_jax.cortex.parcellation import Parcellation


def parcellation() -> Parcellation:
    """Regions of 5, 11, 3 and 7 vertices; three of each hemisphere are in none."""
    rng = np.random.default_rng(0)
    left = np.split(rng.permutation(19)[:16], [5])
    right = np.split(rng.permutation(13)[:10], [3])
    vertices = tuple(np.sort(members).astype(np.int32) for members in (*left, *right))
    return Parcellation(("a", "b", "c", "d"), ("lh", "lh", "rh", "rh"), vertices, (19, 13))
