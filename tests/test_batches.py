import numpy as np
import pytest

from neuroadapter_jax.batches import filled_batches, map_batches


@pytest.mark.parametrize(("count", "size"), [(7, 3), (6, 3), (2, 5), (1, 1)])
def test_batches_have_one_size_and_every_row_once(count, size):
    batches = list(filled_batches(count, size))
    assert {len(rows) for rows, _ in batches} == {size}
    rows = np.concatenate([rows[:valid] for rows, valid in batches])
    np.testing.assert_array_equal(rows, np.arange(count))
    for rows, valid in batches:
        assert (rows[valid:] == rows[valid - 1]).all()


def test_results_of_all_batches_stand_in_order(rng):
    values, sizes = rng.standard_normal((11, 2)), []

    def double(rows):
        sizes.append(len(rows))
        return 2 * values[rows]

    np.testing.assert_array_equal(map_batches(double, 11, 4), 2 * values)
    assert sizes == [4, 4, 4]
