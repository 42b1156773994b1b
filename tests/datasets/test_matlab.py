"""MATLAB files against SciPy, and those that SciPy alone must not be given."""

import numpy as np
import pytest
import scipy.io

from neuroadapter_jax.datasets.matlab import read_matlab
from neuroadapter_jax.errors import InputError

NAMES = ("order", "ids", "one")


def write(path, **options):
    arrays = {"order": np.arange(42.0)[None], "ids": np.arange(28).reshape(2, 14).astype(np.uint16)}
    others = {"one": np.float32([[3]]), "text": "abc", "table": {"a": 1.0}}
    scipy.io.savemat(path, arrays | others, **options)


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_numbers_are_those_of_scipy(tmp_path, compressed):
    path = tmp_path / "a.mat"
    write(path, do_compression=compressed)
    found, expected = read_matlab(path, NAMES, "numbers", "-"), scipy.io.loadmat(path)
    for name in NAMES:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])
    with pytest.raises(InputError, match="has no numbers 'text'; it holds ids, one, order"):
        read_matlab(path, ("text",), "numbers", "-")


def test_a_changed_byte_that_ends_a_process_with_scipy_alone_is_one_sentence(tmp_path):
    path = tmp_path / "a.mat"
    write(path)
    content = bytearray(path.read_bytes())
    content[128 + 17] ^= 8  # the array says that it is complex, and has no imaginary part
    with pytest.raises(InputError, match=r"a.mat: is damaged"):
        path.write_bytes(content)
        read_matlab(path, NAMES, "numbers", "-")


@pytest.mark.parametrize("keep", [0, 100, 128, 131, 200, -8])
def test_a_file_cut_short_is_one_sentence(tmp_path, keep):
    path = tmp_path / "a.mat"
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"a.mat"):
        read_matlab(path, NAMES, "numbers", "-")
