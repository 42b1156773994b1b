import numpy as np
import pytest
from tiny_pipeline import LH, RH, make_pipeline, make_regions
from tiny_prepared import SPLITS, write_prepared

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.contract import NoiseKeys, replace_regions
from neuroadapter_jax.decoders.floors import MeanImage, RandomImage
from neuroadapter_jax.decoders.linear_two_stage import LinearLatents, LinearTwoStage
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.decoders.neuroadapter import NeuroAdapterDecoder
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.simulation.nsd_writer import load_truth

ONE_STEP = Sampling("ddim", num_steps=1)
KEYS = NoiseKeys(np.array([4, 9]), seed=2)


@pytest.fixture(scope="module")
def material(random_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("contract")
    write_prepared(folder / "prepared", folder / "nsd")
    captions = {i: [text] for i, text in enumerate(load_truth(folder / "nsd")["captions"])}
    return Material(
        prepared=folder / "prepared",
        pipeline=make_pipeline(random_backbone),
        shared=folder / "shared",
        captions=captions,
        progress=False,
    )


@pytest.fixture(scope="module")
def fmri():
    return np.random.default_rng(3).standard_normal((2, LH + RH)).astype(np.float32)


@pytest.fixture(scope="module")
def decoders(material, tmp_path_factory):
    out = tmp_path_factory.mktemp("fitted")
    kinds = (LinearTwoStage, LinearLatents, NeuroAdapterDecoder, MeanImage, RandomImage)
    return {kind: kind.fit(material, out / kind.__name__) for kind in kinds}


def test_the_mean_response_is_that_of_the_training_images(material):
    train = PreparedDataset(material.prepared, "train")
    betas = [train[i]["betas"].astype(float).mean(axis=0) for i in range(len(SPLITS["train"]))]
    np.testing.assert_allclose(material.mean_response, np.mean(betas, axis=0), atol=1e-6)


def test_regions_are_replaced_and_nothing_else_is(fmri):
    regions, other = make_regions(), np.arange(2 * (LH + RH), dtype=np.float32).reshape(2, -1)
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    expected = fmri.copy()
    expected[0, 7] = other[0, 7]
    for vertex in (0, 3, 5, LH + 4, LH + 6):
        expected[1, vertex] = other[1, vertex]
    np.testing.assert_array_equal(replace_regions(fmri, regions, keep, other), expected)


@pytest.mark.parametrize("kind", [LinearTwoStage, LinearLatents])
def test_a_region_that_vectors_lack_has_its_training_mean(decoders, material, fmri, kind):
    keep = np.array([[True, False, True, True]] * 2)
    by_hand = fmri.copy()
    by_hand[:, 7] = material.mean_response[7]
    found = decoders[kind].reconstruct(fmri, KEYS, keep=keep, sampling=ONE_STEP)
    expected = decoders[kind].reconstruct(by_hand, KEYS, sampling=ONE_STEP)
    np.testing.assert_array_equal(found, expected)
    assert (found != decoders[kind].reconstruct(fmri, KEYS, sampling=ONE_STEP)).any()


def test_a_region_that_neuroadapter_lacks_is_a_dropped_token(decoders, material, fmri):
    keep = np.array([[True, False, True, True], [True, True, False, True]])
    found = decoders[NeuroAdapterDecoder].reconstruct(fmri, KEYS, keep=keep, sampling=ONE_STEP)
    expected = material.pipeline(fmri, ONE_STEP, seed=2, sample_ids=np.array([4, 9]), keep=keep)
    np.testing.assert_array_equal(found, expected)


def test_another_trials_responses_replace_a_region_in_every_decoder(decoders, fmri):
    keep = np.array([[True, False, True, True]] * 2)
    for decoder in decoders.values():
        swapped = decoder.reconstruct(fmri, KEYS, keep=keep, replace=fmri[::-1], sampling=ONE_STEP)
        by_hand = fmri.copy()
        by_hand[:, 7] = fmri[::-1, 7]
        expected = decoder.reconstruct(by_hand, KEYS, sampling=ONE_STEP)
        np.testing.assert_array_equal(swapped, expected)


def test_a_decoder_that_predicts_no_embedding_says_none(decoders, fmri):
    assert all(decoder.embed(fmri) is None for decoder in decoders.values())


def test_what_a_call_cannot_mean_is_refused(decoders, fmri):
    linear, floor = decoders[LinearTwoStage], decoders[MeanImage]
    latents = np.zeros((2, 16, 16, 4), np.float32)
    keep = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match=r"keep is bool of shape \(2, 3\); expected bool of .* 4"):
        linear.reconstruct(fmri, KEYS, keep=keep)
    with pytest.raises(ValueError, match="replace needs keep"):
        linear.reconstruct(fmri, KEYS, replace=fmri)
    with pytest.raises(ValueError, match=r"replace is of shape .* a finite response"):
        linear.reconstruct(fmri, KEYS, keep=np.ones((2, 4), bool), replace=fmri * np.nan)
    with pytest.raises(ValueError, match="MeanImage does not denoise"):
        floor.reconstruct(fmri, KEYS, start=latents, strength=0.5)
    with pytest.raises(ValueError, match="start needs strength"):
        linear.reconstruct(fmri, KEYS, start=latents)
    with pytest.raises(ValueError, match="LinearTwoStage has none of its own"):
        linear.reconstruct(fmri, KEYS, strength=0.5)
    with pytest.raises(ValueError, match="expected 2 whole numbers, one per response"):
        linear.reconstruct(fmri, NoiseKeys(np.arange(3)))
