import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import sd15_configs as sd15
from flax import nnx
from safetensors.numpy import load_file, save_file

from neuroadapter_jax.diffusion import text_encoder, vae, weights

SMALL_VAE = vae.AutoencoderConfig(block_out_channels=(3, 5), layers_per_block=1, norm_num_groups=1)
KEY = "decoder.up_blocks.0.resnets.1.conv2.weight"


def write_config(folder, name, config):
    (folder / name).mkdir(parents=True)
    (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "model_index.json").write_text("{}")


def meta_network(name):
    """The library's own network at Stable Diffusion 1.5's size, without memory for its arrays."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        if name == "text_encoder":
            return transformers.CLIPTextModel(transformers.CLIPTextConfig(**sd15.TEXT_ENCODER))
        if name == "vae":
            return diffusers.AutoencoderKL.from_config(sd15.VAE)
        return diffusers.UNet2DConditionModel.from_config(sd15.UNET)


@pytest.mark.parametrize(
    ("name", "config", "count"),
    [
        ("unet", sd15.UNET, 859_520_964),
        ("vae", sd15.VAE, 83_653_863),
        ("text_encoder", sd15.TEXT_ENCODER, 123_060_480),
    ],
)
def test_stable_diffusion_15_maps_key_by_key(tmp_path, name, config, count):
    write_config(tmp_path, name, config)
    ours = weights.abstract_component(tmp_path, name)
    for leaf in jax.tree.leaves(nnx.state(ours)):
        assert isinstance(leaf, jax.ShapeDtypeStruct)
    assert weights.num_parameters(ours) == count
    truth = {
        weights.current_name(name, key): tuple(value.shape)
        for key, value in meta_network(name).state_dict().items()
    }
    assert weights.parameter_shapes(ours) == truth


def test_stable_diffusion_15_has_sixteen_cross_attentions(tmp_path):
    write_config(tmp_path, "unet", sd15.UNET)
    layers = list(weights.abstract_component(tmp_path, "unet").cross_attentions())
    assert len(layers) == 16
    widths = [attention.to_k.kernel.shape for _, attention in layers]
    levels = [320, 320, 640, 640, 1280, 1280, 1280, *[1280] * 3, *[640] * 3, *[320] * 3]
    assert widths == [(768, width) for width in levels]


def test_stable_diffusion_15_schedule(tmp_path):
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(sd15.SCHEDULER))
    schedule = weights.load_schedule(tmp_path)
    assert (schedule.steps_offset, schedule.set_alpha_to_one) == (1, False)
    assert (schedule.prediction_type, schedule.num_train_timesteps) == ("epsilon", 1000)


@pytest.fixture
def folder(tmp_path):
    network = vae.AutoencoderKL(SMALL_VAE, rngs=nnx.Rngs(0))
    weights.save_component(network, tmp_path, "vae")
    (tmp_path / "model_index.json").write_text("{}")
    return tmp_path


def change(folder, edit):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda t: t.pop(KEY), f"missing {KEY}"),
        (lambda t: t.update(spare=np.zeros(3, np.float32)), "unknown spare"),
        (
            lambda t: t.update({KEY: t[KEY][:, :2]}),
            rf"{KEY} is \(5, 2, 3, 3\), expected \(5, 5, 3, 3\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, edit, sentence):
    path = change(folder, edit)
    with pytest.raises(ValueError, match=sentence) as caught:
        weights.load_component(folder, "vae")
    assert str(path) in str(caught.value)
    assert "1 tensor(s)" in str(caught.value)


def test_missing_files_are_named(folder):
    with pytest.raises(FileNotFoundError, match=r"unet/config\.json"):
        weights.load_component(folder, "unet")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"vae/diffusion_pytorch_model\.safetensors"):
        weights.load_component(folder, "vae")
    with pytest.raises(FileNotFoundError, match="no-such-model"):
        weights.load_pretrained("no-such-model")


@pytest.mark.parametrize(
    ("field", "value"),
    [("use_linear_projection", True), ("class_embed_type", "timestep"), ("flip_sin_to_cos", False)],
)
def test_another_architecture_is_refused(tmp_path, field, value):
    write_config(tmp_path, "unet", sd15.UNET | {field: value})
    with pytest.raises(ValueError, match=field):
        weights.abstract_component(tmp_path, "unet")


def test_a_broken_config_is_named(folder):
    (folder / "vae" / "config.json").write_text('{"in_channels": 3')
    with pytest.raises(ValueError, match=r"vae/config\.json: is damaged, cut short"):
        weights.load_component(folder, "vae")


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("wanted", [jnp.float32, jnp.bfloat16])
def test_half_precision_files(folder, stored, wanted):
    before = weights.to_tensors(weights.load_component(folder, "vae"))
    change(folder, lambda t: t.update({k: v.astype(stored) for k, v in t.items()}))
    after = weights.load_component(folder, "vae", dtype=wanted)
    for leaf in jax.tree.leaves(nnx.state(after)):
        assert leaf.dtype == wanted
    for name, value in weights.to_tensors(after).items():
        truth = before[name].astype(stored).astype(wanted).astype(np.float32)
        np.testing.assert_array_equal(value, truth)


def test_the_old_names_of_the_autoencoders_attention(folder):
    before = weights.to_tensors(weights.load_component(folder, "vae"))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors):
        for key in [key for key in tensors if ".attentions." in key]:
            for new, name in old.items():
                if f".{new}." in key:
                    tensors[key.replace(new, name)] = tensors.pop(key)

    change(folder, rename)
    after = weights.to_tensors(weights.load_component(folder, "vae"))
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


def test_position_ids_of_an_old_text_encoder_are_passed_over(tmp_path):
    config = text_encoder.CLIPTextConfig(
        vocab_size=13,
        hidden_size=6,
        intermediate_size=5,
        num_hidden_layers=1,
        num_attention_heads=3,
        max_position_embeddings=7,
    )
    network = text_encoder.CLIPTextModel(config, rngs=nnx.Rngs(0))
    weights.save_component(network, tmp_path, "text_encoder")
    (tmp_path / "model_index.json").write_text("{}")
    path = tmp_path / "text_encoder" / "model.safetensors"
    extra = {"text_model.embeddings.position_ids": np.arange(7)[None]}
    save_file(load_file(path) | extra, path)
    loaded = weights.load_component(tmp_path, "text_encoder")
    for leaf, truth in zip(
        jax.tree.leaves(nnx.state(loaded)), jax.tree.leaves(nnx.state(network)), strict=True
    ):
        np.testing.assert_array_equal(leaf, truth)
