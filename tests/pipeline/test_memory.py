"""Calls over many images in groups that a device's memory holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.commands.errors import sentence_of
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.pipeline.groups import in_groups
from neuroadapter_jax.pipeline.memory import bytes_per_image, free_bytes, images_that_fit
from neuroadapter_jax.sharding import make_mesh, map_in_turn

FEW = Sampling(sampler="ddim", num_steps=3, guidance_scale=2.5)


@pytest.fixture(scope="module")
def pipeline(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture
def fmri():
    return np.random.default_rng(7).normal(size=(6, LH + RH)).astype(np.float32)


@pytest.mark.parametrize("num", [1, 5, 6])
@pytest.mark.parametrize("columns", [1, 3, 8])
@pytest.mark.parametrize("most", [None, 1, 2, 7, 100])
def test_groups_are_equal_hold_everything_once_and_no_more_than_allowed(num, columns, most):
    groups = in_groups(num, columns, most)
    counts, sizes = np.zeros((num, columns), int), set()
    for rows, cells in groups:
        counts[rows, cells] += 1
        sizes.add(counts[rows, cells].shape)
    assert (counts == 1).all()
    assert len(sizes) == 1
    (size,) = sizes
    assert most is None or np.prod(size) <= most
    assert most is None or most < num * columns or len(groups) == 1


@pytest.mark.parametrize("at_once", [1, 5])
def test_images_in_groups_are_those_of_one_call(pipeline, fmri, at_once):
    options = {"num_candidates": 3, "seed": 5, "sample_ids": np.array([4, 9, 1, 0, 30, 2])}
    keep = np.random.default_rng(1).random((6, 4)) < 0.7
    pipeline.place.images_at_once = None
    whole = pipeline(fmri, FEW, keep=keep, **options)
    pipeline.place.images_at_once = at_once
    parts = pipeline(fmri, FEW, keep=keep, **options)
    pipeline.place.images_at_once = None
    assert parts.shape == whole.shape == (6, 3, *whole.shape[2:])
    np.testing.assert_allclose(parts.astype(int), whole, atol=1)


def test_views_in_groups_are_those_of_one_call(pipeline, fmri):
    weights = np.eye(4)[:3]
    whole = pipeline.interpret(fmri, weights, FEW, shown=(0, 2), seed=5)
    pipeline.place.images_at_once = 2
    parts = pipeline.interpret(fmri, weights, FEW, shown=(0, 2), seed=5)
    pipeline.place.images_at_once = None
    np.testing.assert_allclose(parts.images.astype(int), whole.images, atol=1)
    np.testing.assert_allclose(parts.predicted_clean.astype(int), whole.predicted_clean, atol=1)
    np.testing.assert_allclose(parts.noisy, whole.noisy, atol=1e-4)
    for one, other in zip(jax.tree.leaves(parts.views), jax.tree.leaves(whole.views), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_estimate_covers_what_more_images_take(pipeline):
    each = bytes_per_image(pipeline, FEW)
    with_views = bytes_per_image(pipeline, FEW, num_rois=3)
    latents = 4 * np.prod(pipeline.backbone.unet.config.sample_size) ** 2 * 4
    assert latents < each < 2**30
    assert latents < with_views < 2**30


@pytest.mark.parametrize(("each", "free", "count"), [(100, 1_000, 8), (100, 117, 1), (900, 10, 1)])
def test_as_many_images_as_the_memory_holds(each, free, count):
    assert images_that_fit(each, free) == count


def test_a_cpu_does_not_say_what_it_may_take():
    assert free_bytes() is None


def test_samples_in_turn_are_samples_together():
    values = np.random.default_rng(3).normal(size=(6, 5, 2)).astype(np.float32)

    def function(x):
        assert x.shape == (1, 5, 2)
        return jnp.tanh(x).sum(axis=-1)

    for mesh in (None, make_mesh()):
        found = jax.jit(lambda x, mesh=mesh: map_in_turn(function, x, mesh))(values)
        np.testing.assert_allclose(found, np.tanh(values).sum(-1), rtol=1e-5)


def test_a_device_without_memory_is_told_what_helps():
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    said = sentence_of(error)
    assert said is not None
    assert "Out of memory allocating 9 bytes" in said and "--images_at_once=1" in said
