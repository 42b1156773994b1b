"""A LoRA beside the adapter: added to the U-Net, saved, loaded, and never lost without a word."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_pipeline import LH, RH, make_pipeline

from neuroadapter_jax.diffusion.lora import Lora, init_lora
from neuroadapter_jax.diffusion.lora_files import write_lora
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.diffusion.weights import to_tensors
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.hub.kinds import ADAPTER
from neuroadapter_jax.interop import save_ip_adapter
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

FAST = Sampling("lcm", 2, 1.0)


@pytest.fixture(scope="module")
def plain(random_backbone):
    return make_pipeline(random_backbone)


@pytest.fixture(scope="module")
def lora(plain):
    start = init_lora(plain.backbone.unet, jax.random.key(1), 2, alpha=3.0)
    up = {name: 0.5 + x for name, x in start.up.items()}
    return Lora(start.down, up, start.scales)


@pytest.fixture(scope="module")
def changed(plain, lora):
    return plain.with_lora(lora, FAST)


@pytest.fixture
def saved(changed, tmp_path):
    changed.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_u_net_has_the_sum_and_the_prompt_is_that_of_the_sum(plain, changed, lora):
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    before, after = (to_tensors(x.backbone.unet)[f"{name}.weight"] for x in (plain, changed))
    change = 1.5 * np.asarray(lora.down[name]) @ np.asarray(lora.up[name])
    np.testing.assert_allclose(after, before + change.T, rtol=1e-5, atol=1e-6)
    assert not np.allclose(plain.networks.text.keys[0], changed.networks.text.keys[0])
    assert plain.fingerprint["unet"] != changed.fingerprint["unet"]


def test_a_saved_pipeline_has_its_lora_again(changed, saved):
    assert {p.name for p in saved.iterdir()} == {
        *("config.json", "adapter.safetensors", "regions.npz", "lora.safetensors")
    }
    assert set(ADAPTER.patterns) >= {p.name for p in saved.iterdir()}
    again = NeuroAdapterPipeline.from_pretrained(saved)
    assert again.sampling == FAST
    fmri = np.random.default_rng(3).standard_normal((2, LH + RH)).astype(np.float32)
    ours, theirs = (x(fmri).astype(int) for x in (changed, again))
    assert np.abs(ours - theirs).max() <= 1  # the scale is in the file's second matrix
    second = saved.parent / "second"
    again.save_pretrained(second)
    for name, tensor in load_file(saved / "lora.safetensors").items():
        np.testing.assert_array_equal(load_file(second / "lora.safetensors")[name], tensor)


def test_a_lora_that_is_missing_is_told(saved):
    (saved / "lora.safetensors").unlink()
    with pytest.raises(MissingFileError, match=r"lora.safetensors: not found, which config.json"):
        NeuroAdapterPipeline.from_pretrained(saved)


def test_a_file_that_was_put_beside_an_adapter_is_added(plain, lora, tmp_path):
    plain.save_pretrained(tmp_path / "model")
    assert "lora" not in json.loads((tmp_path / "model" / "config.json").read_text())
    write_lora(tmp_path / "model" / "lora.safetensors", lora)
    found = NeuroAdapterPipeline.from_pretrained(tmp_path / "model")
    assert found.backbone.lora.down.keys() == lora.down.keys()


def test_a_second_lora_is_refused(changed, lora, saved, tmp_path):
    with pytest.raises(InputError, match="has a LoRA already"):
        changed.with_lora(lora)
    shutil.copy(saved / "lora.safetensors", tmp_path)
    with pytest.raises(InputError, match="has a LoRA already"):
        changed.with_lora(tmp_path / "lora.safetensors")


def test_the_precision_keeps_the_lora(changed):
    assert changed.with_precision("bf16").backbone.lora is changed.backbone.lora


def test_a_layout_without_a_place_for_it_is_refused(changed, tmp_path):
    with pytest.raises(InputError, match="load_lora_weights"):
        save_ip_adapter(changed, tmp_path / "ip.safetensors")
    assert not any(tmp_path.iterdir())
