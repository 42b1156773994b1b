"""A source is the same if every byte of its files is."""

import hashlib
from types import SimpleNamespace

import pytest

from neuroadapter_jax import fingerprints
from neuroadapter_jax.datasets.prepared.source_files import TABLE, fingerprint_source, write_table


@pytest.fixture
def source(tmp_path, rng, as_user):
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    files = [root / "deep" / "a.mgh", root / "b.csv", tmp_path / "images.hdf5"]
    for file in files:
        file.write_bytes(rng.bytes(1_000_003))
    return SimpleNamespace(root=root, files=files)


def test_a_change_anywhere_in_a_file_is_told(source):
    first = fingerprint_source(source, [])
    assert first.startswith("xxh3:")
    content = bytearray(source.files[0].read_bytes())
    content[300_001] ^= 1  # neither at its start nor at its middle nor at its end
    source.files[0].write_bytes(content)
    assert fingerprint_source(source, []) != first
    content[300_001] ^= 1
    source.files[0].write_bytes(content)
    assert fingerprint_source(source, []) == first


def test_a_root_may_move_and_files_may_not_change_places(source, tmp_path):
    first = fingerprint_source(source, [])
    moved = source.root.rename(tmp_path / "moved")
    files = [moved / "deep" / "a.mgh", moved / "b.csv", source.files[2]]
    assert fingerprint_source(SimpleNamespace(root=moved, files=files), []) == first
    (moved / "b.csv").rename(moved / "c")
    files[0].rename(moved / "b.csv")
    (moved / "c").rename(files[0])
    assert fingerprint_source(SimpleNamespace(root=moved, files=files), []) != first


def test_a_folder_of_version_0_1_0_is_compared_as_that_version_did(source):
    digest = hashlib.sha256()
    for file, place in zip(source.files, ("deep/a.mgh", "b.csv", "images.hdf5"), strict=True):
        content, size = file.read_bytes(), 1_000_003
        digest.update(f"{place}\0{size}\0".encode())
        for start in (0, size // 2, size - 65536):
            digest.update(content[start : start + 65536])
    made = digest.hexdigest()
    assert fingerprint_source(source, [], made) == made
    source.files[1].write_bytes(b"other")
    assert fingerprint_source(source, [], made) != made


def test_files_that_nobody_wrote_to_are_not_read_again(source, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_SETTLED", -1.0)
    monkeypatch.setattr(fingerprints, "_KNOWN", {})
    first, folder = fingerprint_source(source, []), tmp_path / "prepared"
    write_table(source, folder)
    fingerprints._KNOWN.clear()
    read, compute = [], fingerprints._of_all
    monkeypatch.setattr(fingerprints, "_of_all", lambda path: (read.append(path), compute(path))[1])
    assert fingerprint_source(source, [folder]) == first and read == []
    source.files[1].touch()
    assert fingerprint_source(source, [folder]) == first and read == [source.files[1]]
    # Where the table cannot be written the next call reads the files again, no more.
    (tmp_path / "file").touch()
    write_table(source, tmp_path / "file")
    assert (folder / TABLE).is_file()
