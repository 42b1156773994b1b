"""Image features that an earlier call stored are taken if they are of the same content."""

import json
import shutil

import numpy as np
import pytest
from prepared_records import write_prepared
from tiny_backbone import random_network

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.encoder.features import Features
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.encoder.weights import save_dinov2
from neuroadapter_jax.training import image_features

VIT = Dinov2Config(20, 2, 5, 4, image_size=15, patch_size=3)
IDS = {"train": [0, 3], "validation": [1], "test": [2, 5]}


def test_stored_features_are_those_of_the_same_records_and_backbone(tmp_path, monkeypatch):
    vit = tmp_path / "vit"
    save_dinov2(vit, random_network(lambda rngs: Dinov2Model(VIT, rngs=rngs), 5))
    records = write_prepared(tmp_path / "records", 1, IDS, (5, 7))
    made = []

    def read(features, block):
        made.append(block)
        return lambda images: np.full((len(images), 2, 3), len(made), np.float32)

    monkeypatch.setattr(image_features, "_reader", read)
    path = tmp_path / "run" / "features" / "test_block0.npy"

    def compute(folder, size=13):
        features = Features(str(vit), size, 15)
        split = PreparedDataset(folder, "test")
        return image_features.compute_features(split, features, 0, path, progress=False)

    np.testing.assert_array_equal(compute(records), 1)
    moved = shutil.copytree(records, tmp_path / "moved")
    np.testing.assert_array_equal(compute(moved), 1)
    with pytest.raises(ValueError, match="image_size is 13 there, 12 here; delete both files"):
        compute(moved, size=12)
    other = write_prepared(tmp_path / "other", 2, IDS, (5, 7))
    with pytest.raises(ValueError, match="image features made with other input: the content of pr"):
        compute(other)
    # Version 0.1.0 noted nothing; a file that lacks its note is taken as it is.
    path.with_suffix(".json").unlink()
    np.testing.assert_array_equal(compute(other), 1)
    path.unlink()
    np.testing.assert_array_equal(compute(other), 2)
    assert json.loads(path.with_suffix(".json").read_text())["block"] == 0
