import numpy as np
from scipy import stats

from neuroadapter_jax.decoders.floors import mean_image, random_rows
from neuroadapter_jax.decoders.retrieval import Gallery

COUNT, SIDE = 29, 16


def test_floors(rng):
    images = rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8)
    keys = tuple(map(str, range(COUNT)))
    gallery = Gallery("images", keys, lambda rows: images[rows], np.arange(COUNT))
    expected = np.rint(images.astype(float).mean(axis=0))
    np.testing.assert_array_equal(mean_image(gallery, chunk=5), expected)
    rows = random_rows(gallery, 1009, seed=2)
    assert rows.min() == 0 and rows.max() == COUNT - 1
    counts = np.bincount(rows, minlength=COUNT)
    assert stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_array_equal(random_rows(gallery, 1009, seed=2), rows)
    assert (random_rows(gallery, 1009, seed=3) != rows).any()
