"""A pipeline whose U-Net computes in bfloat16 on request."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.diffusion.attention_fused import Hardware
from neuroadapter_jax.diffusion.precision import chosen_precision, default_precision
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import require_same_settings
from neuroadapter_jax.pipeline.contract import with_unrecorded_precision


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


def test_the_default_is_bfloat16_where_the_device_has_it(random_backbone, monkeypatch):
    pipeline = make_pipeline(random_backbone)
    assert pipeline.with_precision("auto") is pipeline.with_precision("fp32") is pipeline
    devices = {
        ("gpu", Hardware(nvidia=(8, 0), cudnn=True)): "bf16",
        ("gpu", Hardware(nvidia=(7, 5), cudnn=True)): "fp32",
        ("tpu", Hardware(num_tpus=4)): "bf16",
        ("rocm", Hardware(others=True)): "fp32",
        ("cpu", Hardware(nvidia=(9, 0), cudnn=True)): "fp32",
    }
    for (platform, hardware), expected in devices.items():
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        monkeypatch.setattr(attention_fused, "hardware", lambda hardware=hardware: hardware)
        assert default_precision() == expected, platform
        assert chosen_precision("auto") == expected
    assert chosen_precision("bf16") == "bf16"


def test_a_folder_of_one_precision_is_not_continued_in_the_other():
    ours = {"precision": "fp32", "encoder_precision": "bf16", "seed": 1}
    with pytest.raises(InputError, match="precision is 'fp32' there, 'bf16' here"):
        require_same_settings("out", ours, ours | {"precision": "bf16"}, "reconstructions")
    # A folder of an earlier version noted none; there the weights' fingerprints tell.
    assert with_unrecorded_precision({"seed": 2}, ours) == ours | {"seed": 2}
    assert with_unrecorded_precision({"precision": "bf16"}, ours)["precision"] == "bf16"


def test_another_precision_is_refused(random_backbone):
    with pytest.raises(InputError, match="precision is 'int8'; expected one of"):
        make_pipeline(random_backbone).with_precision("int8")
