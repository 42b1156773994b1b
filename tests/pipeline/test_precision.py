"""A pipeline whose U-Net computes in bfloat16 on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.errors import InputError


def test_a_pipeline_in_bfloat16_predicts_nearly_the_same(random_backbone, rng):
    pipeline = make_pipeline(random_backbone)
    half = pipeline.with_precision("bf16")
    assert half.sampling == pipeline.sampling and half.provenance == pipeline.provenance
    types = {x.dtype for x in jax.tree.leaves(nnx.state(half.backbone.unet, nnx.Param))}
    assert types == {jnp.dtype(jnp.bfloat16)}
    # A folder of the one is not continued by the other.
    assert half.fingerprint["unet"] != pipeline.fingerprint["unet"]
    assert half.fingerprint["vae"] == pipeline.fingerprint["vae"]

    fmri = rng.standard_normal((2, LH + RH)).astype(np.float32)
    side = pipeline.backbone.unet.config.sample_size
    latents = rng.standard_normal((2, 4, side, side)).astype(np.float32)
    whole, rounded = (
        np.asarray(p.predict_noise(fmri, latents, np.array([3, 501]))) for p in (pipeline, half)
    )
    assert whole.dtype == rounded.dtype == np.float32
    error = np.abs(whole - rounded).max() / np.abs(whole).max()
    assert 0 < error < 0.1


def test_another_precision_is_refused(random_backbone):
    with pytest.raises(InputError, match="precision is 'int8'; expected one of"):
        make_pipeline(random_backbone).with_precision("int8")
