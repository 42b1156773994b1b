"""T2I-Adapter's published layouts, and what is refused of them."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuroadapter_jax.diffusion.spatial_adapter import SpatialAdapter, SpatialAdapterConfig
from neuroadapter_jax.diffusion.spatial_adapter_files import (
    load_spatial_adapter,
    save_spatial_adapter,
)
from neuroadapter_jax.errors import InputError, MissingFileError

pytest.importorskip("diffusers")
from diffusers import T2IAdapter
from tiny_backbone import random_network
from torch_reference import assert_close, nchw, nhwc, randomise

WIDTHS = (4, 8, 8)


@pytest.fixture(params=["full", "light"])
def published(request, tmp_path):
    """A folder that diffusers wrote, and its adapter."""
    kind = request.param
    channels = list(WIDTHS if kind == "full" else WIDTHS[:-1])
    adapter = randomise(T2IAdapter(1, channels, 2, 8, f"{kind}_adapter"), 5)
    adapter.save_pretrained(tmp_path / kind)
    return tmp_path / kind, adapter, kind


def original_names(tensors, kind, blocks=2):
    """TencentARC's names, as `Adapter` and `Adapter_light` have them."""
    names = {}
    for name, value in tensors.items():
        parts = name.removeprefix("adapter.").split(".")
        if parts[0] == "body" and kind == "light":
            parts = ["body" if p == "resnets" else p for p in parts]
        elif parts[0] == "body":
            level = int(parts[1])
            own = int(parts[3]) if parts[2] == "resnets" else 0
            rest = parts[4:] if parts[2] == "resnets" else parts[2:]
            parts = ["body", str(level * blocks + own), *rest]
        names[".".join(parts)] = value
    return names


def test_diffusers_and_the_original_layout_give_diffusers_maps(published, tmp_path, rng):
    folder, adapter, kind = published
    condition = rng.random((1, 64, 32, 1), np.float32)
    expected = [nhwc(x) for x in adapter(nchw(condition))]
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file(original_names(tensors, kind), tmp_path / "t2iadapter.safetensors")
    for source in (folder, tmp_path / "t2iadapter.safetensors"):
        ours = load_spatial_adapter(source)
        assert ours.config == SpatialAdapterConfig(kind, 1, WIDTHS, 2, 8)
        for mine, its in zip(ours(jnp.asarray(condition)), expected, strict=True):
            assert_close(mine, its)


def test_diffusers_reads_what_is_written(published, tmp_path, rng):
    folder, adapter, _ = published
    save_spatial_adapter(tmp_path / "ours", load_spatial_adapter(folder))
    again = T2IAdapter.from_pretrained(tmp_path / "ours")
    condition = nchw(rng.random((1, 64, 64, 1), np.float32))
    for mine, its in zip(again(condition), adapter(condition), strict=True):
        assert (mine == its).all()


def test_a_light_adapter_that_diffusers_cannot_express_is_read_back(tmp_path):
    config = SpatialAdapterConfig("light", 3, (4, 8), 2, 4)
    adapter = random_network(lambda rngs: SpatialAdapter(config, rngs=rngs), 0)
    save_spatial_adapter(tmp_path, adapter)
    assert load_spatial_adapter(tmp_path).config == config


def test_what_is_no_such_adapter_is_refused(published, tmp_path):
    folder, _, _ = published
    with pytest.raises(MissingFileError, match="give a folder in diffusers' layout"):
        load_spatial_adapter(tmp_path / "nowhere")
    (tmp_path / "a.pth").write_bytes(b"x")
    with pytest.raises(InputError, match="as safetensors"):
        load_spatial_adapter(tmp_path / "a.pth")
    save_file({"lora.weight": np.ones((2, 2), np.float32)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="no T2I-Adapter"):
        load_spatial_adapter(tmp_path / "b.safetensors")
    config = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"adapter_type": "full_adapter_xl"}, "full_adapter_xl"),
        ({"channels": [4, 8, 16]}, "do not fit"),
        ({"channels": "wide"}, "channels|valid"),
    ):
        (folder / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=words):
            load_spatial_adapter(folder)
