"""diffusers' own pipeline gives our latents from the exported file."""

import re
from pathlib import Path

import numpy as np
import pytest
from torch_reference import assert_close, nchw, nhwc

from neuroadapter_jax.adapter.decoupled_attention import processor_indices
from neuroadapter_jax.interop.ip_adapter import save_ip_adapter

pytest.importorskip("torch")
pytest.importorskip("diffusers")
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

DOCS = Path(__file__).parents[2] / "docs" / "checkpoints.md"


def test_the_order_is_diffusers(pipeline, sd_backbone):
    unet = UNet2DConditionModel.from_pretrained(sd_backbone / "unet")
    places = list(unet.attn_processors)
    indices = processor_indices(pipeline.backbone.unet)
    assert [places[i] for i in indices.values()] == [f"{name}.processor" for name in indices]
    assert sorted(indices.values()) == list(range(1, 33, 2))


@pytest.mark.slow
def test_diffusers_samples_the_same_latents(
    pipeline, sd_backbone, fmri, noise, reconstructions, tmp_path
):
    """By the very lines of the documentation, up to the call that samples."""
    save_ip_adapter(pipeline, tmp_path / "neuroadapter.safetensors")
    lines = re.search(r"```python\n(from diffusers.*?)images = ", DOCS.read_text(), re.S)[1]
    names = {"backbone": sd_backbone, "folder": tmp_path, "fmri": torch.from_numpy(fmri)}
    exec(lines, names)
    pipe, embeds = names["pipe"], names["embeds"]
    pipe.set_progress_bar_config(disable=True)
    truth = [
        pipe(
            prompt="",
            ip_adapter_image_embeds=[one],
            guidance_scale=reconstructions.guidance,
            num_inference_steps=reconstructions.num_steps,
            latents=start[None],
            output_type="latent",
        ).images
        for one, start in zip(embeds, nchw(noise[0]), strict=True)
    ]
    assert_close(reconstructions.latents("ddim"), nhwc(torch.cat(truth)))


def test_the_layout_is_ip_adapters(pipeline, released, tmp_path):
    save_ip_adapter(pipeline, tmp_path / "out" / "a.safetensors")
    tensors = load_file(tmp_path / "out" / "a.safetensors")
    groups = {name.partition(".")[0] for name in tensors}
    assert groups == {"image_proj", "ip_adapter", "region_projection"}
    # The released list of processors takes its part strictly, with the same bits.
    before = {k: v.clone() for k, v in released.model.adapter_modules.state_dict().items()}
    theirs = {k.removeprefix("ip_adapter."): v for k, v in tensors.items() if "_ip." in k}
    released.model.adapter_modules.load_state_dict(theirs, strict=True)
    for name, value in released.model.adapter_modules.state_dict().items():
        assert torch.equal(value, before[name])
    index = np.asarray(pipeline.packing.index)
    empty = tensors["region_projection.index"].numpy() < 0
    np.testing.assert_array_equal(empty, ~np.asarray(pipeline.packing.mask))
    np.testing.assert_array_equal(tensors["region_projection.index"].numpy()[~empty], index[~empty])


def test_a_file_that_is_there_is_not_overwritten(pipeline, tmp_path):
    (tmp_path / "a.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds a\.safetensors already"):
        save_ip_adapter(pipeline, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_text() == "mine"


def test_another_suffix_is_refused(pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"a\.bin: diffusers reads this layout from a name in"):
        save_ip_adapter(pipeline, tmp_path / "out" / "a.bin")
    assert not list(tmp_path.iterdir())
