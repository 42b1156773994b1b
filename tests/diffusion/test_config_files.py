"""config.json files of diffusers and transformers: every key is computed, harmless or refused."""

import dataclasses
import inspect
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import sd15_configs as sd15

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapterConfig
from neuroadapter_jax.diffusion import config_files, weights
from neuroadapter_jax.diffusion.prompt import empty_ids
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.diffusion.unet import UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig
from neuroadapter_jax.errors import InputError, MissingFileError

RULES = {"unet": (UNetConfig, config_files.UNET), "vae": (AutoencoderConfig, config_files.VAE)}
PUBLISHED = {"unet": sd15.UNET, "vae": sd15.VAE, "text_encoder": sd15.TEXT_ENCODER}


def write(folder, name, config):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "config.json").write_text(json.dumps(config))
    return folder


def defaults(name):
    """The arguments of the library's network and their defaults."""
    if name == "text_encoder":
        return pytest.importorskip("transformers").CLIPTextConfig().to_dict()
    diffusers = pytest.importorskip("diffusers")
    cls = {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL}[name]
    arguments = inspect.signature(cls.__init__).parameters
    return {key: value.default for key, value in arguments.items() if key != "self"}


@pytest.mark.parametrize("name", RULES)
def test_every_key_of_the_library_is_computed_or_refused(name):
    cls, rules = RULES[name]
    fields = {field.name for field in dataclasses.fields(cls)}
    assert not rules.computed.keys() & (fields | set(rules.unread))
    known = fields | rules.computed.keys() | set(rules.unread) | {"_class_name"}
    assert known == defaults(name).keys() | {"_class_name"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_absent_keys_take_the_librarys_defaults_and_all_defaults_are_read(tmp_path, name):
    expected = {k: v for k, v in defaults(name).items() if (k, v) != ("sample_size", None)}
    for config in ({}, expected):
        found = config_files.component_config(write(tmp_path, name, config), name)
        for key, value in dataclasses.asdict(found).items():
            assert value == expected.get(key, 64), key


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("unet", "mid_block_scale_factor", 1.4),
        ("unet", "timestep_post_act", "silu"),
        ("unet", "time_embedding_act_fn", "gelu"),
        ("unet", "transformer_layers_per_block", [1, 2, 10]),
        ("unet", "layers_per_block", [2, 2, 2, 1]),
        ("unet", "only_cross_attention", [False, True, False, False]),
        ("unet", "mid_block_type", None),
        ("unet", "num_attention_heads", 8),
        ("unet", "resnet_out_scale_factor", 0.7),
        ("unet", "dropout", 0.1),
        ("unet", "act_fn", "gelu"),
        ("unet", "_class_name", "UNet2DModel"),
        ("unet", "norm_num_groups", None),
        ("unet", "norm_eps", "1e-5"),
        ("unet", "block_out_channels", 320),
        ("unet", "a_coming_option", "twice"),
        ("vae", "shift_factor", 0.1159),
        ("vae", "latents_mean", [0.0, 0.1, 0.2, 0.3]),
        ("vae", "latents_std", [1.0, 1.1, 1.2, 1.3]),
        ("vae", "use_post_quant_conv", False),
        ("vae", "down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
        ("vae", "_class_name", "AutoencoderTiny"),
        ("text_encoder", "model_type", "t5"),
        ("text_encoder", "hidden_act", "relu"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, name, key, value):
    folder = write(tmp_path, name, PUBLISHED[name] | {key: value})
    with pytest.raises(InputError, match=f"{key} is .*expected") as caught:
        weights.abstract_component(folder, name)
    message = str(caught.value)
    assert message.startswith(f"{folder / name / 'config.json'}: ") and message.count(". ") == 0


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("unet", {"layers_per_block": [2, 2, 2, 2], "cross_attention_dim": [768, 768, 768, 768]}),
        ("unet", {"transformer_layers_per_block": [1, 1, 1, 1], "only_cross_attention": [False]}),
        ("unet", {"upcast_attention": True, "act_fn": "swish", "sample_size": [64, 64]}),
        ("unet", {"a_coming_option": None, "_name_or_path": "a", "mid_block_scale_factor": 1.0}),
        ("vae", {"force_upcast": False, "shift_factor": 0.0, "another_coming_option": False}),
        ("text_encoder", {"torch_dtype": "float16", "output_attentions": True}),
    ],
)
def test_what_changes_nothing_is_accepted(tmp_path, name, values):
    before = config_files.component_config(write(tmp_path, name, PUBLISHED[name]), name)
    folder = write(tmp_path, name, PUBLISHED[name] | values)
    assert config_files.component_config(folder, name) == before


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "unet",
            {"in_channels": 9},
            "in_channels is 9, out_channels 4; .*inpaint",
        ),
        ("unet", {"out_channels": 8}, "in_channels is 4, out_channels 8; expected as many"),
        (
            "unet",
            {"in_channels": 5, "out_channels": 5},
            "in_channels is 5, but the vae's",
        ),
        ("text_encoder", {"hidden_size": 1024}, "cross_attention_dim is 768, but .* is 1024"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_weights_are_read(
    tmp_path, name, values, message
):
    shutil.copytree(weights.ASSETS / "random", tmp_path / "model")
    folder = write(tmp_path / "model", name, PUBLISHED[name] | values)
    with pytest.raises(InputError, match=message) as caught:
        weights.load_pretrained(folder)
    assert str(folder / "unet" / "config.json") in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"a": 1', "version https://git-lfs.github.com/spec/v1"]
)
def test_a_file_that_holds_no_object_is_named(tmp_path, text):
    path = write(tmp_path, "unet", {}) / "unet" / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.json: .*expected the settings of a network"):
        weights.abstract_component(tmp_path, "unet")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("unet", "norm_num_groups", 7),
        ("unet", "attention_head_dim", 0),
        ("unet", "attention_head_dim", [8, 8]),
        ("vae", "norm_num_groups", 3),
    ],
)
def test_sizes_that_do_not_share_out_are_refused(tmp_path, name, key, value):
    folder = write(tmp_path, name, PUBLISHED[name] | {key: value})
    with pytest.raises(InputError, match=rf"config\.json: .*{key} is .*expected divisors"):
        weights.abstract_component(folder, name)


def test_a_configuration_that_lacks_keys_without_a_default_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"num_regions": 3}')
    with pytest.raises(InputError, match=r"config\.json: keys are missing .*max_vertices"):
        config_files.read_config(path, NeuroAdapterConfig)


class FakeEncoder:
    def __init__(self, config):
        self.config = config


def backbone_of(folder, config):
    return weights.Backbone(None, None, FakeEncoder(config), None, folder)


def test_the_empty_prompt_of_stable_diffusion_1_is_known_without_a_tokenizer(tmp_path):
    whole = backbone_of(weights.ASSETS / "random", CLIPTextConfig())
    expected = empty_ids(whole)
    np.testing.assert_array_equal(empty_ids(backbone_of(tmp_path, CLIPTextConfig())), expected)
    with pytest.raises(MissingFileError, match="expected a CLIP tokenizer"):
        empty_ids(backbone_of(tmp_path, CLIPTextConfig(hidden_size=1024)))
    # A tokenizer that is not whole is no reason to guess.
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "merges.txt").write_text("")
    with pytest.raises(MissingFileError, match="expected a CLIP tokenizer"):
        empty_ids(backbone_of(tmp_path, CLIPTextConfig()))


def test_texts_longer_than_the_text_encoder_are_refused(random_backbone, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(random_backbone, folder)
    path = folder / "tokenizer" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 25}))
    encoder = weights.load_component(folder, "text_encoder")
    with pytest.raises(InputError, match=r"25 tokens long.* text encoder is 24"):
        encoder(jnp.asarray(CLIPTokenizer(folder / "tokenizer")([""])))
