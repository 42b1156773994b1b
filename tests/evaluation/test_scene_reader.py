import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from neuroadapter_jax.evaluation.scene_reader import (
    ASSET,
    SceneReader,
    SceneReaderConfig,
    augment,
    load_scene_reader,
    model_card,
    read_scenes,
    reader_accuracy,
    save_scene_reader,
    train_scene_reader,
)
from neuroadapter_jax.simulation import scenes

CONFIG = SceneReaderConfig(
    categories=("red", "blue"),
    slot_centres=((5, 6), (17, 16), (6, 18)),
    image_size=24,
    window=12,
    widths=(3, 5, 7),
    hidden=13,
)


def coloured_squares(num, start):
    """A red or blue square, or nothing, in each slot."""
    rng = np.random.default_rng(start)
    categories = rng.integers(-1, 2, (num, 3)).astype(np.int8)
    images = rng.integers(100, 140, (num, 24, 24, 3)).astype(np.uint8)
    for i, slot in np.ndindex(num, 3):
        y, x = CONFIG.slot_centres[slot]
        if categories[i, slot] >= 0:
            colour = ((220, 30, 30), (30, 30, 220))[categories[i, slot]]
            images[i, y - 3 : y + 3, x - 3 : x + 3] = colour
    return images, categories


@pytest.fixture(scope="module")
def trained():
    return train_scene_reader(
        coloured_squares, CONFIG, num_steps=120, batch_size=32, learning_rate=1e-2, progress=False
    )


@pytest.mark.slow
def test_training_teaches_reading(trained):
    reader, losses = trained
    assert losses[-1] < 0.2 * losses[0]
    images, categories = coloured_squares(211, 10**6)
    accuracy = reader_accuracy(reader, images, categories)
    assert accuracy["num_images"] == 211
    assert min(accuracy["recall"], accuracy["precision"], accuracy["slots"]) > 0.97
    assert "120 steps" in model_card("command", 1.0, losses, accuracy, accuracy)


@pytest.mark.slow
def test_a_slot_is_read_from_its_own_window(trained):
    reader, _ = trained
    images, _ = coloured_squares(7, 3)
    changed = images.copy()
    changed[:, :, 12:] = 0  # slot 0 is read from columns 0 to 11
    np.testing.assert_array_equal(
        read_scenes(reader, changed)[:, 0], read_scenes(reader, images)[:, 0]
    )


@pytest.mark.slow
def test_the_batch_size_does_not_matter(trained):
    reader, _ = trained
    images, _ = coloured_squares(17, 4)
    read = read_scenes(reader, images, batch_size=5)
    assert read.dtype == np.int8 and read.shape == (17, 3)
    np.testing.assert_array_equal(read, read_scenes(reader, images, batch_size=32))


@pytest.mark.slow
def test_saving_and_loading_keeps_the_net(trained, tmp_path):
    reader, _ = trained
    save_scene_reader(tmp_path, reader, "card")
    loaded = load_scene_reader(tmp_path)
    assert loaded.config == CONFIG
    assert (tmp_path / "README.md").read_text() == "card"
    assert not list(tmp_path.glob("*.partial"))
    images = jax.random.uniform(jax.random.key(0), (3, 24, 24, 3), minval=-1)
    np.testing.assert_allclose(loaded(images), reader(images), atol=0.05)
    leaves = jax.tree.leaves(nnx.state(loaded, nnx.Param))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("conv2.bias"), "conv2.bias .*found no such tensor, expected \\(5,\\)"),
        (lambda t: t.update(extra=t["conv2.bias"]), "extra .*expected no such tensor"),
        (
            lambda t: t.update({"linear1.bias": t["conv2.bias"]}),
            "linear1.bias .*found \\(5,\\), expected \\(13,\\)",
        ),
    ],
    ids=["missing", "unknown", "other shape"],
)
def test_loading_is_strict(change, sentence, tmp_path):
    save_scene_reader(tmp_path, SceneReader(CONFIG, nnx.Rngs(0)), "card")
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=sentence):
        load_scene_reader(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing: a scene reader is"):
        load_scene_reader(tmp_path)


@pytest.mark.slow
def test_images_of_another_size_are_refused(trained, as_user):
    with pytest.raises(ValueError, match=r"uint8 images \[b, 24, 24, 3\], found float32 \[2, 8, 8"):
        read_scenes(trained[0], np.zeros((2, 8, 8, 3), np.float32))


@pytest.mark.slow
def test_augmenting_changes_the_look_and_not_the_place():
    images, _ = coloured_squares(64, 5)
    clean = jnp.asarray(images) / 127.5 - 1
    changed = augment(clean, jax.random.key(1))
    assert changed.shape == clean.shape and changed.dtype == clean.dtype
    assert float(jnp.abs(changed).max()) <= 1
    assert 0.05 < float(jnp.abs(changed - clean).mean()) < 0.4
    correlation = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(clean, changed, strict=True)
    ]
    assert np.median(correlation) > 0.7
    np.testing.assert_array_equal(changed, augment(clean, jax.random.key(1)))


def test_the_shipped_reader_reads_scenes():
    """97 % of objects found, and of objects found shown, on scenes that it was not trained on."""
    reader = load_scene_reader()
    assert reader.config.categories == scenes.CATEGORIES
    assert reader.config.slot_centres == scenes.SLOT_CENTRES
    test = scenes.sample_scenes(400, seed=77)
    accuracy = reader_accuracy(reader, test.images, test.categories)
    assert accuracy["recall"] >= 0.97 and accuracy["precision"] >= 0.97
    assert sum(file.stat().st_size for file in ASSET.iterdir()) < 2e6
    assert json.loads((ASSET / "config.json").read_text())["image_size"] == scenes.IMAGE_SIZE
