"""Whole networks against diffusers and transformers, through the files those libraries write."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from torch_reference import assert_close, nchw, nhwc, randomise

from neuroadapter_jax.diffusion import weights

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNETS = {
    "two levels": {
        "block_out_channels": (6, 15),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 3,
        "cross_attention_dim": 7,
        "norm_num_groups": 3,
        "in_channels": 5,
        "out_channels": 2,
        "sample_size": 10,
    },
    "three levels": {
        "block_out_channels": (10, 20, 35),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": (2, 4, 7),
        "cross_attention_dim": 11,
        "norm_num_groups": 5,
        "norm_eps": 1e-6,
        "sample_size": 20,
    },
    "Stable Diffusion's levels": {
        "block_out_channels": (6, 9, 15, 21),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "layers_per_block": 2,
        "attention_head_dim": 3,
        "cross_attention_dim": 13,
        "norm_num_groups": 3,
        "sample_size": 16,
    },
}
VAES = {
    "two levels": {
        "block_out_channels": (6, 15),
        "layers_per_block": 1,
        "norm_num_groups": 3,
        "latent_channels": 5,
    },
    "three levels": {
        "block_out_channels": (7, 14, 21),
        "layers_per_block": 2,
        "norm_num_groups": 7,
        "latent_channels": 3,
        "in_channels": 3,
        "scaling_factor": 0.37,
    },
    "Stable Diffusion's levels": {
        "block_out_channels": (5, 10, 15, 20),
        "layers_per_block": 2,
        "norm_num_groups": 5,
        "latent_channels": 4,
    },
}
TEXT_ENCODERS = {
    "quick gelu": {
        "vocab_size": 101,
        "hidden_size": 21,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 13,
        "hidden_act": "quick_gelu",
    },
    "gelu": {
        "vocab_size": 53,
        "hidden_size": 10,
        "intermediate_size": 19,
        "num_hidden_layers": 3,
        "num_attention_heads": 5,
        "max_position_embeddings": 17,
        "hidden_act": "gelu",
    },
}


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def through_files(reference, folder, name):
    """Saves a PyTorch network as its library does, and loads it as a backbone's component."""
    (folder / "model_index.json").write_text(json.dumps({}))
    reference.save_pretrained(folder / name)
    return weights.load_component(folder, name)


def torch_unet(settings):
    return randomise(UNet2DConditionModel(**settings), seed=11)


def torch_vae(settings):
    levels = len(settings["block_out_channels"])
    reference = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        **settings,
    )
    return randomise(reference, seed=12)


def torch_text_encoder(settings):
    return randomise(CLIPTextModel(CLIPTextConfig(**settings)), seed=13)


@pytest.mark.parametrize("settings", UNETS.values(), ids=UNETS)
def test_unet(rng, tmp_path, settings):
    reference = torch_unet(settings)
    ours = through_files(reference, tmp_path, "unet")
    size = settings["sample_size"]
    wider = size + 2 ** len(settings["block_out_channels"])
    latents = normal(rng, 3, size, wider, settings.get("in_channels", 4))
    states = normal(rng, 3, 7, settings["cross_attention_dim"])
    steps = np.array([0, 487, 999], np.int32)

    # The layers run in the order in which cross_attentions names them.
    order = []
    for name, module in reference.named_modules():
        if name.endswith("attn2"):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    truth = reference(nchw(latents), torch.from_numpy(steps), torch.from_numpy(states)).sample
    assert [name for name, _ in ours.cross_attentions()] == order

    @nnx.jit
    def predict(unet, latents, states):
        streams = [unet.text_context(states)]
        plain = unet(latents, jnp.asarray(steps), streams)
        same, probed = unet(latents, jnp.asarray(steps), streams, lambda a: a.sum(-1))
        return plain, same, probed

    plain, same, probed = predict(ours, jnp.asarray(latents), jnp.asarray(states))
    assert_close(plain, nhwc(truth))
    assert_close(same, plain, 1e-5)
    assert len(probed) == len(order)
    for sums in probed:
        np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize("settings", VAES.values(), ids=VAES)
def test_vae(rng, tmp_path, settings):
    reference = torch_vae(settings)
    ours = through_files(reference, tmp_path, "vae")
    scale = 2 ** (len(settings["block_out_channels"]) - 1)
    assert ours.config.downscale == scale
    assert ours.config.scaling_factor == settings.get("scaling_factor", 0.18215)
    images = normal(rng, 2, 7 * scale, 5 * scale, 3)
    posterior = reference.encode(nchw(images)).latent_dist
    mean, std = nnx.jit(lambda vae, x: vae.encode(x))(ours, jnp.asarray(images))
    assert_close(mean, nhwc(posterior.mean))
    assert_close(std, nhwc(posterior.std))
    latents = normal(rng, 2, 5, 7, settings["latent_channels"])
    decoded = nnx.jit(lambda vae, z: vae.decode(z))(ours, jnp.asarray(latents))
    assert_close(decoded, nhwc(reference.decode(nchw(latents)).sample))


def test_vae_clips_its_log_variance(tmp_path):
    reference = torch_vae(VAES["two levels"])
    with torch.no_grad():
        reference.quant_conv.bias[5:] = torch.tensor([-99.0, 99.0, 0.0, 1.0, -1.0])
    ours = through_files(reference, tmp_path, "vae")
    images = np.zeros((1, 14, 10, 3), np.float32)
    std = nhwc(reference.encode(nchw(images)).latent_dist.std)
    np.testing.assert_allclose(ours.encode(jnp.asarray(images))[1], std, rtol=1e-4)
    np.testing.assert_allclose(std[..., 0], np.exp(-15), rtol=1e-5)
    np.testing.assert_allclose(std[..., 1], np.exp(10), rtol=1e-5)


@pytest.mark.parametrize("settings", TEXT_ENCODERS.values(), ids=TEXT_ENCODERS)
def test_text_encoder(rng, tmp_path, settings):
    reference = torch_text_encoder(settings)
    ours = through_files(reference, tmp_path, "text_encoder")
    length = settings["max_position_embeddings"]
    for shape in [(3, length), (2, length - 6)]:
        ids = rng.integers(0, settings["vocab_size"], shape)
        truth = reference(torch.from_numpy(ids)).last_hidden_state
        states = nnx.jit(lambda model, ids: model(ids))(ours, jnp.asarray(ids, jnp.int32))
        assert_close(states, truth)


@pytest.mark.parametrize(
    ("name", "make", "library"),
    [
        ("unet", lambda: torch_unet(UNETS["three levels"]), UNet2DConditionModel),
        ("vae", lambda: torch_vae(VAES["three levels"]), AutoencoderKL),
        ("text_encoder", lambda: torch_text_encoder(TEXT_ENCODERS["gelu"]), CLIPTextModel),
    ],
)
def test_saved_component_is_read_by_its_library(tmp_path, name, make, library):
    reference = make()
    ours = through_files(reference, tmp_path, name)
    weights.save_component(ours, tmp_path / "ours", name)
    back = library.from_pretrained(tmp_path / "ours" / name)
    state = back.state_dict()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    for field in dataclasses.fields(ours.config):
        value = getattr(ours.config, field.name)
        found = getattr(back.config, field.name)
        assert (tuple(found) if isinstance(found, list) else found) == value


def test_a_jitted_network_compiles_once(rng, tmp_path):
    ours = through_files(torch_text_encoder(TEXT_ENCODERS["gelu"]), tmp_path, "text_encoder")
    graph, state = nnx.split(ours)
    call = jax.jit(lambda state, ids: nnx.merge(graph, state)(ids))
    for _ in range(2):
        call(state, jnp.asarray(rng.integers(0, 53, (2, 17)), jnp.int32))
    assert call._cache_size() == 1
