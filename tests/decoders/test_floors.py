import numpy as np
from scipy import stats

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.decoders.contract import NoiseKeys
from neuroadapter_jax.decoders.floors import RandomImage, mean_image
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.retrieval import Gallery

COUNT, SIDE = 29, 16


def test_floors(rng):
    images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    keys = tuple(map(str, range(COUNT)))
    gallery = Gallery("images", keys, lambda rows: images[rows], np.arange(COUNT))
    expected = np.rint(images.astype(float).mean(axis=0))
    np.testing.assert_array_equal(mean_image(gallery, chunk=5), expected)

    regions = Parcellation(("a",), ("lh",), (np.array([1], np.int32),), (2, 2))

    class Bare(Material):
        """Of a material all that a floor asks for."""

        fitted_on = dict

    Bare.regions, Bare.mean_response = regions, np.zeros(4, np.float32)
    floor, fmri = RandomImage(gallery, object.__new__(Bare)), np.zeros((1009, 4), np.float32)
    first = floor.reconstruct(fmri, NoiseKeys(np.arange(1009), seed=2))
    rows = np.array([np.flatnonzero((images == i[0]).all(axis=(1, 2, 3)))[0] for i in first])
    assert stats.chisquare(np.bincount(rows, minlength=COUNT)).pvalue > 1e-3
    # Which image it is depends on the key alone, not on what else is in the batch.
    some = floor.reconstruct(fmri[:5], NoiseKeys(np.arange(7, 12), seed=2))
    np.testing.assert_array_equal(some, first[7:12])
    other = floor.reconstruct(fmri, NoiseKeys(np.arange(1009), seed=3))
    assert (other != first).any()
