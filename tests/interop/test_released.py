"""Checkpoints of the released code against its computation in PyTorch."""

import copy
import dataclasses
import json
import pathlib
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from torch_reference import assert_close, nchw, nhwc, randomise
from torch_released import GuidanceGenerator, Model, write_checkpoint

from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.diffusion.weights import to_tensors
from neuroadapter_jax.interop import (
    load_released,
    save_ip_adapter,
    save_released,
    slot_regions,
)
from neuroadapter_jax.interop import released as released_module
from neuroadapter_jax.pipeline import reconstruction_pipeline, saving

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

FILES = ("pytorch_model.bin", "pytorch_model_1.bin")


@pytest.fixture(scope="module")
def text(sd_backbone):
    """The empty prompt's states [1, k, f] by transformers."""
    tokenizer = CLIPTokenizer.from_pretrained(sd_backbone / "tokenizer")
    ids = tokenizer("", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        return CLIPTextModel.from_pretrained(sd_backbone / "text_encoder")(ids)[0]


@pytest.fixture
def loaded(monkeypatch, pipeline):
    """Loading takes the backbone that `pipeline` has loaded already, which saves its time."""
    monkeypatch.setattr(released_module, "load_pretrained", lambda _: pipeline.backbone)


def read(folder):
    return [torch.load(folder / name, weights_only=True) for name in FILES]


def edited(checkpoint, folder, file, edit):
    """A copy of the checkpoint, of which one file's tensors went through `edit`."""
    folder.mkdir()
    for name, tensors in zip(FILES, read(checkpoint), strict=True):
        if name == FILES[file]:
            edit(tensors)
        torch.save(tensors, folder / name)
    return folder


def test_tokens(pipeline, released, fmri, packed):
    ours = pipeline.adapter.tokens(pack(jnp.asarray(fmri), pipeline.packing))
    truth = released.model.image_proj_model(released.bank(torch.from_numpy(packed)))
    assert_close(ours, truth.numpy(), 1e-5)


@pytest.mark.slow
def test_noise_and_every_attention_map(pipeline, released, fmri, packed, text, rng):
    latents = rng.standard_normal((len(fmri), 4, 16, 16)).astype(np.float32)
    timesteps = np.array([2, 571, 997], np.int32)
    ours, maps = pipeline.predict_noise(fmri, latents, timesteps, return_attention=True)
    tokens = released.bank(torch.from_numpy(packed))
    truth = released.model(torch.from_numpy(latents), torch.from_numpy(timesteps), text, tokens)
    assert_close(ours, truth.numpy())
    expected = released.model.attention()
    assert len(maps) == 16 and maps.keys() == expected.keys()
    for name, weights in maps.items():
        assert weights.shape[0] == 3 and weights.shape[-1] == 5
        assert_close(weights, expected[name].numpy())
    # Responses that are packed already give the same bits.
    again, _ = pipeline.predict_noise(packed, latents, timesteps, return_attention=True)
    np.testing.assert_array_equal(again, ours)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++"])
def test_guided_trajectories(sampler, reconstructions, released, packed, text, noise, sd_backbone):
    scheduler = DDIMScheduler.from_pretrained(sd_backbone / "scheduler")
    if sampler == "dpmsolver++":
        scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config)
    scheduler.set_timesteps(reconstructions.num_steps)
    tokens = released.bank(torch.from_numpy(packed))
    tokens = torch.cat([torch.zeros_like(tokens), tokens])
    x = nchw(noise[0])
    for t in scheduler.timesteps:
        without, with_brain = released.model(torch.cat([x, x]), t, text, tokens).chunk(2)
        guided = without + reconstructions.guidance * (with_brain - without)
        x = scheduler.step(guided, t, x).prev_sample
    assert_close(reconstructions.latents(sampler), nhwc(x))


def test_a_round_trip_keeps_every_bit(loaded, pipeline, checkpoint, sd_backbone, regions, tmp_path):
    save_released(pipeline, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.rglob("*.bin")) == sorted(FILES)
    unet = UNet2DConditionModel.from_pretrained(sd_backbone / "unet")
    fresh = Model(unet, 5), GuidanceGenerator(5, 7, 8)
    for module, written, original in zip(
        fresh, read(tmp_path / "out"), read(checkpoint), strict=True
    ):
        assert written.keys() == original.keys()
        for name, value in original.items():
            assert written[name].dtype == value.dtype and torch.equal(written[name], value), name
        module.load_state_dict(written, strict=True)
    once = (tmp_path / "out" / FILES[0]).stat().st_size
    assert once < 1.02 * (checkpoint / FILES[0]).stat().st_size  # twins are stored once
    again = load_released(tmp_path / "out", "the backbone", regions)
    for name, value in to_tensors(pipeline.adapter).items():
        np.testing.assert_array_equal(to_tensors(again.adapter)[name], value)


def test_checkpoints_of_parallel_training(loaded, pipeline, released, regions, tmp_path):
    folder = write_checkpoint(tmp_path / "run", released.model, released.bank, "module.")
    again = load_released(folder, "the backbone", regions)
    for name, value in to_tensors(pipeline.adapter).items():
        np.testing.assert_array_equal(to_tensors(again.adapter)[name], value)


@pytest.fixture(scope="module")
def wide(sd_backbone, tmp_path_factory):
    """A model whose regions' tokens have width 11 before the norm, over a U-Net that takes 8."""
    model = Model(UNet2DConditionModel.from_pretrained(sd_backbone / "unet"), 5, condition_dim=11)
    bank = GuidanceGenerator(5, 7, 11)
    for seed, module in enumerate([model.image_proj_model, *model.adapter_modules, bank]):
        randomise(module, seed)
    folder = write_checkpoint(tmp_path_factory.mktemp("wide") / "checkpoint-300", model, bank)
    return model.requires_grad_(False), bank.requires_grad_(False), folder


def test_another_condition_dim_than_the_unets_width(
    loaded, monkeypatch, pipeline, wide, regions, fmri, packed, tmp_path
):
    model, bank, folder = wide
    ours = load_released(folder, "the backbone", regions)
    tokens = bank(torch.from_numpy(packed))
    assert tokens.shape[-1] == 11
    truth = model.image_proj_model(tokens)
    assert_close(ours.adapter.tokens(pack(jnp.asarray(fmri), ours.packing)), truth.numpy(), 1e-5)
    # Without guidance's second half its own way of dropping all tokens would go untested.
    dropped = ours.adapter.tokens(jnp.asarray(packed), jnp.zeros((3, 5), bool))
    assert_close(dropped, model.image_proj_model(torch.zeros_like(tokens)).numpy(), 1e-5)
    keys = ours.adapter.unconditional().keys[0][0].swapaxes(0, 1).reshape(5, -1)
    processor = next(m for m in model.adapter_modules if hasattr(m, "to_k_ip"))
    expected = processor.to_k_ip(model.image_proj_model(torch.zeros(5, 11)))
    assert_close(keys, expected.numpy(), 1e-5)

    save_released(ours, tmp_path / "out")
    for written, original in zip(read(tmp_path / "out"), read(folder), strict=True):
        assert written.keys() == original.keys()
        assert all(torch.equal(written[name], value) for name, value in original.items())
    monkeypatch.setattr(reconstruction_pipeline, "backbone_identity", lambda _: {})
    ours.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["token_width"], config["condition_width"]) == (8, 11)
    monkeypatch.setattr(saving, "load_pretrained", lambda _: pipeline.backbone)
    tensors = to_tensors(saving.load(tmp_path / "model").adapter)
    for name, value in to_tensors(ours.adapter).items():
        np.testing.assert_array_equal(tensors[name], value)


def test_the_ip_adapter_of_another_condition_dim(loaded, wide, regions, packed, tmp_path):
    model, bank, folder = wide
    path = tmp_path / "a.safetensors"
    save_ip_adapter(load_released(folder, "the backbone", regions), path)
    tensors = load_file(path)
    layers = {k.removeprefix("image_proj."): v for k, v in tensors.items() if "image_proj" in k}
    # What diffusers' load_ip_adapter makes of these shapes.
    inner, outer = layers["proj.0.weight"].shape[0], layers["proj.3.weight"].shape[0]
    assert (inner, outer) == (22, 8)
    first, second, norm = torch.nn.Linear(22, 22), torch.nn.Linear(22, 8), torch.nn.LayerNorm(8)
    for module, place in ((first, 0), (second, 2), (norm, 3)):
        part = {name: layers[f"proj.{place}.{name}"] for name in ("weight", "bias")}
        module.load_state_dict(part, strict=True)
    tokens = bank(torch.from_numpy(packed))
    padded = torch.nn.functional.pad(tokens, (0, 11))
    found = norm(second(torch.nn.functional.gelu(first(padded)))).detach()
    assert_close(found.numpy(), model.image_proj_model(tokens).numpy(), 1e-5)


def test_without_regions_the_packed_responses_are_the_cortex(loaded, checkpoint, packed):
    slots = load_released(checkpoint, "the backbone")
    assert slots.num_vertices == 5 * 7
    assert slots.regions.hemispheres == ("lh", "lh", "rh", "rh", "rh")
    np.testing.assert_array_equal(pack(packed.reshape(3, -1), slots.packing), packed)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(checkpoint, tmp_path, name):
    for other in set(FILES) - {name}:
        (tmp_path / other).write_bytes((checkpoint / other).read_bytes())
    with pytest.raises(FileNotFoundError, match=rf"{name}: not found; expected a checkpoint"):
        load_released(tmp_path, "the backbone")


def test_another_number_of_regions_is_refused(loaded, checkpoint, regions):
    with pytest.raises(ValueError, match=r"model_1\.bin: holds 5 regions but 4 were given"):
        load_released(checkpoint, "the backbone", regions.subset(range(4)))
    with pytest.raises(ValueError, match="Region 'region 0' has 8 vertices, but v_max is 7"):
        load_released(checkpoint, "the backbone", slot_regions(5, 8))


def change(name):
    def edit(tensors):
        tensors[name] = tensors[name].clone()
        tensors[name].view(-1)[0] += 1

    return edit


CONV = "unet.mid_block.resnets.1.conv1.bias"
EDITS = {
    "processor": (
        0,
        change("adapter_modules.7.to_v_ip.weight"),
        r"1 matrices that the released code stores twice differ: adapter_modules\.7\.to_v_ip"
        r"\.weight and unet\.down_blocks\.1\.attentions\.1\.transformer_blocks\.0\.attn2\.proc",
    ),
    "frozen": (0, change(CONV), rf"1 of the \d+ frozen U-Net tensors are not those of .*: {CONV}"),
    "missing": (0, lambda x: x.pop("image_proj_model.norm.bias"), "1 tensor.* missing image_proj"),
    "unknown": (0, lambda x: x.update(extra=torch.ones(1)), "1 tensor.* unknown extra"),
    "shape": (
        0,
        lambda x: x.update({"image_proj_model.proj.bias": torch.ones(9)}),
        r"token_norm\.proj\.bias is \(9,\), expected \(8,\)",
    ),
    "bank": (1, lambda x: x.pop("parcel_mapper.linear_bias"), "missing parcel_mapper.linear_bias"),
    "mapper": (
        1,
        lambda x: x.update({"token_mapper.decoder_queries.weight": torch.ones(2)}),
        "the transformer token mapper",
    ),
    "axes": (
        1,
        lambda x: x.update({"parcel_mapper.linear_weights": torch.ones(5, 8)}),
        r"has shape \(5, 8\); expected \[regions, slots, width\]",
    ),
    "width": (
        1,
        lambda x: x.update({"parcel_mapper.linear_weights": torch.ones(5, 7, 11)}),
        r"token_norm\.proj\.weight is \(8, 8\), expected \(8, 11\)",
    ),
    "objects": (1, lambda x: x.update(path=pathlib.PurePosixPath("a")), "other objects than"),
    "numbers": (1, lambda x: x.update(step=3), "not a file of PyTorch tensors by name"),
}


@pytest.mark.parametrize("case", EDITS)
def test_another_layout_is_refused(loaded, checkpoint, tmp_path, case):
    file, edit, message = EDITS[case]
    folder = edited(checkpoint, tmp_path / "edited", file, edit)
    with pytest.raises(ValueError, match=message) as error:
        load_released(folder, "the backbone")
    assert str(folder) in str(error.value)


def test_a_damaged_file_is_refused(loaded, checkpoint, tmp_path):
    for name in FILES:
        content = (checkpoint / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"pytorch_model_1\.bin"):
        load_released(tmp_path, "the backbone")


def test_nothing_is_overwritten(pipeline, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is there already; name a new folder"):
        save_released(pipeline, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("save", "name"), [(save_released, "out"), (save_ip_adapter, "out.safetensors")]
)
def test_learned_queries_have_no_place(pipeline, tmp_path, save, name):
    class Queries:
        config = dataclasses.replace(pipeline.adapter.config, token_queries=3)

    other = copy.copy(pipeline)
    other.adapter = Queries()
    with pytest.raises(ValueError, match="by 3 learned queries"):
        save(other, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_without_pytorch_the_extra_is_named(checkpoint, pipeline, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"neuroadapter-jax\[pytorch\]"):
        load_released(checkpoint, "the backbone")
    with pytest.raises(ImportError, match=r"neuroadapter-jax\[pytorch\]"):
        save_released(pipeline, tmp_path / "out")
    assert not list(tmp_path.iterdir())
