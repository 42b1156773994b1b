import json

import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.evaluation import simulated
from neuroadapter_jax.evaluation.scene_reader import SceneReader, SceneReaderConfig
from neuroadapter_jax.metrics.identification import two_way_pixels
from neuroadapter_jax.metrics.pixels import pixel_correlation, ssim
from neuroadapter_jax.metrics.recall import derangement, semantic_precision, semantic_recall
from neuroadapter_jax.simulation.scenes import CATEGORIES, sample_scenes

NAMES = ("face", "body", "animal")
READER = SceneReader(
    SceneReaderConfig(NAMES, ((8, 8), (8, 24), (24, 16)), 32, 12, (2, 3, 5), 7), nnx.Rngs(0)
)


def marked(categories, seed, noise):
    """Images with their categories in their first pixels, and more or less noise elsewhere."""
    base = np.random.default_rng(0).integers(0, 256, (len(categories), 32, 32, 3))
    other = np.random.default_rng(seed).integers(0, 256, base.shape)
    images = np.rint((1 - noise) * base + noise * other).astype(np.uint8)
    images[:, 0, :3] = (categories + 1)[..., None]
    return images


@pytest.fixture
def world(monkeypatch):
    """103 scenes; every seventh object of the images is wrong, and the reader cannot err."""
    monkeypatch.setattr(
        simulated, "read_scenes", lambda reader, images: images[:, 0, :3, 0].astype(np.int8) - 1
    )
    truth = np.random.default_rng(1).integers(-1, 3, (103, 3)).astype(np.int8)
    read = truth.copy()
    read.flat[::7] = (read.flat[::7] + 2) % 4 - 1
    return truth, read, marked(truth, 2, 0.0), marked(read, 3, 0.6)


def test_every_score_is_the_metrics_own(world):
    truth, read, images, reconstructions = world
    readout = np.where(np.arange(103)[:, None] % 3, truth, -1).astype(np.int8)
    order = derangement(103, seed=1)
    result, per_image = simulated.evaluate_simulated(
        reconstructions,
        images,
        truth,
        READER,
        category_names=NAMES,
        readout=readout,
        permuted_reconstructions=reconstructions[order],
        seed=4,
    )
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    expected = {
        "two_way_pixels": two_way_pixels(images, reconstructions).mean(),
        "pixel_correlation": pixel_correlation(images, reconstructions).mean(),
        "ssim": ssim(images, reconstructions).mean(),
        "semantic_recall": semantic_recall(read, truth),
        "semantic_precision": semantic_precision(read, truth),
    }
    for name, value in expected.items():
        low, high = result[name]["interval"]
        assert result[name]["value"] == pytest.approx(value)
        assert low <= value <= high
    assert result["num_images"] == 103
    assert result["num_objects"] == (truth >= 0).sum()
    assert result["objects_read"] == (read >= 0).sum()
    assert result["recall_by_category"]["animal"]["value"] == pytest.approx(
        (read[truth == 2] == 2).mean()
    )
    assert result["reader_on_stimuli"]["semantic_recall"]["value"] == 1
    assert result["linear_readout"]["semantic_recall"]["value"] == semantic_recall(readout, truth)
    assert result["recall_relative_to_readout"]["value"] == pytest.approx(
        semantic_recall(read, truth) / semantic_recall(readout, truth)
    )
    control = result["permuted_responses"]
    identified = two_way_pixels(images, reconstructions[order]).mean()
    assert control["two_way_pixels"]["value"] == pytest.approx(identified)
    assert control["semantic_recall"]["value"] == semantic_recall(read[order], truth)
    assert control["at_chance"] == {"two_way_pixels": True, "semantic_recall": True}

    np.testing.assert_array_equal(
        per_image["two_way_pixels"], two_way_pixels(images, reconstructions)
    )
    np.testing.assert_array_equal(per_image["ssim_own_size"], ssim(images, reconstructions))
    np.testing.assert_array_equal(per_image["objects_shown"], (truth >= 0).sum(axis=1))
    hits = ((truth >= 0) & (read == truth)).sum(axis=1)
    np.testing.assert_array_equal(per_image["objects_read_rightly"], hits)


def test_a_control_that_is_not_at_chance_is_called_so(world):
    truth, _, images, reconstructions = world
    result, _ = simulated.evaluate_simulated(
        reconstructions,
        images,
        truth,
        READER,
        category_names=NAMES,
        permuted_reconstructions=reconstructions,
    )
    assert result["permuted_responses"]["at_chance"] == {
        "two_way_pixels": False,
        "semantic_recall": False,
    }
    assert "linear_readout" not in result


@pytest.mark.slow
def test_objects_are_identified_in_reconstructions_readout_and_control(monkeypatch):
    """61 scenes: the first 20 are shown as one another, the others as they were."""
    batch = sample_scenes(61, seed=3)
    monkeypatch.setattr(simulated, "read_scenes", lambda reader, images: batch.categories)
    reconstructions = np.concatenate([np.roll(batch.images[:20], 1, axis=0), batch.images[20:]])
    object_readout = np.where(batch.objects % 5 == 0, 0, batch.objects)
    result, per_image = simulated.evaluate_simulated(
        reconstructions,
        batch.images,
        batch.categories,
        READER,
        category_names=CATEGORIES,
        scenes=batch.scenes,
        readout=batch.categories,
        object_readout=object_readout,
        permuted_reconstructions=np.roll(batch.images, 1, axis=0),
    )
    shown = batch.objects >= 0
    found = result["object_identity"]
    identified = per_image["objects_identified"]
    np.testing.assert_array_equal(identified[20:], shown[20:].sum(axis=1))
    assert found["value"] == pytest.approx(identified.sum() / shown.sum())
    low, high = found["interval"]
    assert found["chance"] == 1 / 48
    assert found["value"] == pytest.approx(shown[20:].sum() / shown.sum(), abs=0.06)
    assert low <= found["value"] <= high
    assert result["reader_on_stimuli"]["object_identity"]["value"] == 1
    assert result["linear_readout"]["object_identity"]["value"] == pytest.approx(
        (object_readout == batch.objects)[shown].mean()
    )
    assert result["permuted_responses"]["object_identity"]["value"] < 0.1


def test_blank_reconstructions_have_scores(world):
    """Nothing is read in them: no precision, no recall, and no error."""
    truth, _, images, _ = world
    result, _ = simulated.evaluate_simulated(
        np.zeros_like(images), images, truth, READER, category_names=NAMES
    )
    assert result["semantic_precision"] == {"value": None, "interval": None}
    assert result["semantic_recall"]["value"] == result["semantic_recall"]["chance"] == 0
    assert result["pixel_correlation"]["value"] == result["two_way_pixels"]["value"] == 0
