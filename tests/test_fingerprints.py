"""Fingerprints tell content, and nothing else, apart."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax import fingerprints


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, and nothing is known yet."""
    monkeypatch.setattr(fingerprints, "_SETTLED", -1.0)
    monkeypatch.setattr(fingerprints, "_KNOWN", {})


@pytest.fixture
def read(monkeypatch):
    """The files that are read from here on."""
    paths, compute = [], fingerprints._of_all
    monkeypatch.setattr(
        fingerprints, "_of_all", lambda path: (paths.append(path), compute(path))[1]
    )
    return paths


def test_it_is_xxh3_of_128_bits(tmp_path):
    """Published check value of no bytes at all, seed 0."""
    (tmp_path / "empty").touch()
    assert fingerprints.of_file(tmp_path / "empty") == "99aa06d3014798d86001c324468d497f"


def test_every_byte_counts_and_the_name_does_not(tmp_path, rng):
    content = bytearray(rng.bytes(1 << 20))
    (tmp_path / "a").write_bytes(content)
    first = fingerprints.of_file(tmp_path / "a")
    (tmp_path / "b.bin").write_bytes(content)
    assert fingerprints.of_file(tmp_path / "b.bin") == first
    for place in (0, 300_001, *rng.integers(0, len(content), 7), len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        (tmp_path / "b.bin").write_bytes(changed)
        assert fingerprints.of_file(tmp_path / "b.bin") != first
    samples = fingerprints.of_samples(tmp_path / "a")
    content[-5] ^= 1
    (tmp_path / "a").write_bytes(content)
    assert fingerprints.of_samples(tmp_path / "a") != samples


def test_a_file_is_read_again_only_when_it_was_written_to(tmp_path, settled, read):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = fingerprints.of_file(path)
    assert fingerprints.of_file(path) == first and read == [path]
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 0))  # the time of change cannot be set back
    assert fingerprints.of_file(path) != first and read == [path, path]


def test_a_file_written_just_now_is_not_trusted(tmp_path, read):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = fingerprints.of_file(path)
    assert fingerprints.of_file(path) == first and read == [path, path]
    assert fingerprints.table_of([path]) == {}


def test_a_table_spares_another_process_the_reading(tmp_path, settled, read):
    import json

    path, table = tmp_path / "a", tmp_path / "table.json"
    path.write_bytes(b"one")
    first = fingerprints.of_file(path)
    table.write_text(json.dumps(fingerprints.table_of([path])))
    fingerprints._KNOWN.clear()
    fingerprints.read_table(table)
    assert fingerprints.of_file(path) == first and read == [path]
    # A damaged table, or none, costs time only.
    for content in ("{", "[1]", '{"x": 1}'):
        table.write_text(content)
        fingerprints._KNOWN.clear()
        fingerprints.read_table(table)
        assert fingerprints.of_file(path) == first
    fingerprints.read_table(tmp_path / "nowhere")


def test_arrays_are_told_apart_by_name_shape_type_and_value():
    x = np.arange(6, dtype=np.float32)
    cases = [
        {"x": x},
        {"y": x},
        {"x": x.reshape(2, 3)},
        {"x": x.astype(np.int32)},
        {"x": np.nextafter(x, 9)},
        {"x": x, "y": x},
        {"x": x.astype(jnp.bfloat16)},
    ]
    assert len({fingerprints.of_arrays(case) for case in cases}) == len(cases)
    assert fingerprints.of_arrays({"x": x[::-1][::-1], "a": 1}) == fingerprints.of_arrays(
        {"a": np.asarray(1), "x": jnp.asarray(x)}
    )
    assert fingerprints.of_tree({"a": {"b": x}}) != fingerprints.of_tree({"a": {"c": x}})


def test_the_order_of_keys_makes_no_difference():
    assert fingerprints.of_values({"a": 1, "b": [2]}) == fingerprints.of_values({"b": [2], "a": 1})
    assert fingerprints.of_values([1, 2]) != fingerprints.of_values([2, 1])
