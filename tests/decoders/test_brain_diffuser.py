"""Brain-Diffuser on a few scenes: its maps, both rescalings, its paths, and what it never reads."""

import shutil

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut as LeaveOneOutSplits
from sklearn.model_selection import cross_val_predict
from tiny_backbone import random_network
from tiny_pipeline import LH, RH, make_pipeline
from tiny_prepared import SPLITS, write_prepared

from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
from neuroadapter_jax.adapter.image_adapter_files import save_image_adapter
from neuroadapter_jax.decoders.brain_diffuser import BrainDiffuser, BrainDiffuserSettings, Rescaled
from neuroadapter_jax.decoders.contract import NoiseKeys
from neuroadapter_jax.decoders.linear_map import LeaveOneOut, fit_linear_map
from neuroadapter_jax.decoders.material import Material
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder
from neuroadapter_jax.simulation.nsd_writer import load_truth

TWO_STEPS = Sampling("ddim", num_steps=2)


@pytest.fixture(scope="module")
def world(random_backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("brain_diffuser")
    write_prepared(folder / "prepared", folder / "nsd")
    pipeline = make_pipeline(random_backbone)
    unet = pipeline.backbone.unet
    widths, heads = map(tuple, cross_attention_shapes(unet))
    config = ResamplerConfig(192, 8, 1, 2, 4, 3, 8)
    adapter = random_network(lambda rngs: ImageAdapter(config, widths, heads, rngs=rngs), 6)
    embedder = ImageEmbedder.load("tiny-vit")
    save_image_adapter(
        folder / "adapter", adapter, unet, embedder="tiny-vit", kind="pooled",
        embedder_fingerprint=embedder.fingerprint,
    )  # fmt: skip
    return folder, pipeline


def material(world, prepared="prepared", shared="shared", drop=()):
    folder, pipeline = world
    texts = load_truth(folder / "nsd")["captions"]
    return Material(
        prepared=folder / prepared,
        pipeline=pipeline,
        shared=folder / shared,
        captions={i: [text] for i, text in enumerate(texts) if i not in drop},
        image_adapter=folder / "adapter",
        progress=False,
    )


@pytest.fixture(scope="module")
def fmri():
    return np.random.default_rng(3).standard_normal((5, LH + RH)).astype(np.float32)


def test_leave_one_out_predictions_are_those_of_refitting(rng):
    x, y = rng.standard_normal((13, 5)), rng.standard_normal((13, 3)).astype(np.float32) + 2
    alphas = np.array([0.1, 10.0, 1e7])
    found = LeaveOneOut(x).deviations(y, alphas)
    for k, alpha in enumerate(alphas):
        expected = cross_val_predict(Ridge(alpha=alpha), x, y[:, k], cv=LeaveOneOutSplits())
        np.testing.assert_allclose(found[:, k] + y[:, k].mean(), expected, atol=1e-5)
    map = fit_linear_map(x.astype(np.float32), y, np.arange(13), np.arange(5), alphas=(0.1, 10.0))
    left_out = LeaveOneOut(x).deviations(y, map.alphas)
    expected = [y.mean(0), y.std(0), left_out.mean(0), left_out.std(0)]
    np.testing.assert_allclose(map.statistics, expected, atol=1e-5)


def test_predictions_get_the_spread_of_the_training_targets(rng):
    """At a small penalty and at one so large that predictions hardly differ from the mean."""
    x = rng.standard_normal((17, 6)).astype(np.float32)
    y = (x @ rng.standard_normal((6, 4)) + 5 + rng.standard_normal((17, 4))).astype(np.float32)
    fmri = rng.standard_normal((7, 6)).astype(np.float32)
    for alpha in (0.5, 1e7):
        map = fit_linear_map(x, y, np.arange(17), np.arange(6), alphas=(alpha,))
        found = Rescaled(map).of_test(fmri)(fmri)
        np.testing.assert_allclose(found.mean(axis=0), y.mean(axis=0), rtol=1e-4)
        np.testing.assert_allclose(found.std(axis=0), y.std(axis=0), rtol=1e-3)
        x64, y64 = x.astype(float), y.astype(float)
        left_out = cross_val_predict(Ridge(alpha=alpha), x64, y64, cv=LeaveOneOutSplits())
        predicted = Ridge(alpha=alpha).fit(x64, y64).predict(fmri)
        unit = (predicted - left_out.mean(axis=0)) / left_out.std(axis=0)
        expected = unit * y64.std(axis=0) + y64.mean(axis=0)
        np.testing.assert_allclose(Rescaled.of_training(map)(fmri), expected, rtol=1e-3)
    np.testing.assert_array_equal(Rescaled(map)(fmri), map(fmri))


def test_with_training_statistics_one_response_can_be_decoded_with_the_test_sets_not(world, fmri):
    train = BrainDiffuser.fit(material(world), None, BrainDiffuserSettings(rescale="train"))
    np.testing.assert_allclose(train.embed(fmri[:1]), train.embed(fmri)[:1], atol=1e-4)
    test = BrainDiffuser.fit(material(world), None, BrainDiffuserSettings(rescale="test"))
    assert test.adapt(fmri).embed(fmri).shape == (5, 17, 192)
    with pytest.raises(ValueError, match="statistics over the whole test set, so that no image"):
        test.embed(fmri[:1])


def test_each_path_reaches_the_image(world, fmri):
    keys = NoiseKeys(np.arange(2))
    images = {}
    for without in (None, "vision", "text", "low_level"):
        settings = BrainDiffuserSettings(without=without, rescale=None)
        decoder = BrainDiffuser.fit(material(world), None, settings)
        images[without] = decoder.reconstruct(fmri[:2], keys, sampling=TWO_STEPS)
        assert (decoder.embed(fmri) is None) == (without == "vision")
    full = images.pop(None)
    assert all((full != other).any() for other in images.values())


def test_the_streams_have_the_published_weights(world, fmri):
    decoder = BrainDiffuser.fit(material(world), None, BrainDiffuserSettings(rescale=None))
    unet = world[1].backbone.unet
    modules = {"unet": unet, "image_adapter": material(world).image_path[0]}
    conditions = {k: np.asarray(v) for k, v in decoder.conditions(fmri[:2]).items()}
    own, other = decoder.streams(modules, {k: jax_array(v) for k, v in conditions.items()})
    assert [stream.scale for stream in own] == [0.4, 0.6]
    assert [stream.scale for stream in other] == [0.4, 0.6]
    start = decoder.own_start(fmri[:2], None)
    assert start.strength == 0.75 and start.latents.shape == (2, 16, 16, 4)


def jax_array(x):
    import jax.numpy as jnp

    return jnp.asarray(x)


def test_fitting_never_reads_a_validation_or_test_record(world):
    folder, _ = world
    first = BrainDiffuser.fit(material(world), None)
    shutil.copytree(folder / "prepared", folder / "training_only")
    held_out = SPLITS["test"] + SPLITS["validation"]
    for split in ("test", "validation"):
        for path in (folder / "training_only" / "records").glob(f"*-{split}.*"):
            path.unlink()
    alone = material(world, "training_only", "shared2", held_out)
    second = BrainDiffuser.fit(alone, None)
    for name in ("low_level", "text", "vision"):
        np.testing.assert_array_equal(first.maps[name].map.weights, second.maps[name].map.weights)
    with pytest.raises(FileNotFoundError, match="no records of split 'test'"):
        type(alone.train)(alone.prepared, "test")


def test_what_the_material_lacks_is_said(world):
    folder, pipeline = world
    bare = Material(
        prepared=folder / "prepared", pipeline=pipeline, shared=folder / "none", progress=False
    )
    settings = BrainDiffuserSettings(without="low_level")
    with pytest.raises(ValueError, match="text path needs captions of training images"):
        BrainDiffuser.fit(bare, None, settings)
    with pytest.raises(ValueError, match="Image embeddings need an image adapter"):
        _ = bare.image_path
