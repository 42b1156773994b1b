"""LoRA on the U-Net against peft and diffusers, and their files both ways."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from tiny_backbone import random_network
from torch_reference import assert_close, nchw, nhwc, randomise

from neuroadapter_jax.diffusion import weights
from neuroadapter_jax.diffusion.lora import (
    ALL_PRODUCTS,
    ATTENTION,
    Lora,
    add_lora,
    init_lora,
    layer_kernels,
    with_lora,
)
from neuroadapter_jax.diffusion.lora_files import read_lora, write_lora
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.errors import InputError, MissingFileError, NotFiniteError

SIZES = {
    "block_out_channels": (6, 15),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 3,
    "cross_attention_dim": 7,
    "norm_num_groups": 3,
    "sample_size": 6,
}
RANK, ALPHA = 2, 5.0
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def torch_unet(tmp_path_factory):
    """A U-Net of diffusers, and the same network here."""
    pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    folder = tmp_path_factory.mktemp("unet")
    reference = randomise(diffusers.UNet2DConditionModel(**SIZES), 3)
    reference.save_pretrained(folder / "unet")
    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    unet = weights.from_tensors(weights.abstract_component(folder, "unet"), tensors, "", np.float32)
    return reference, unet


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(1)
    x, states = rng.standard_normal((3, 6, 6, 4)), rng.standard_normal((3, 5, 7))
    return x.astype(np.float32), np.array([3, 501, 998], np.int32), states.astype(np.float32)


@pytest.fixture(scope="module")
def run(inputs):
    x, timesteps, states = inputs

    @jax.jit
    def call(unet):
        streams = [unet.text_context(jnp.asarray(states))]
        return unet(jnp.asarray(x), jnp.asarray(timesteps), streams)

    return call


def torch_output(unet, inputs):
    import torch

    x, timesteps, states = inputs
    with torch.no_grad():
        out = unet(nchw(x), torch.from_numpy(timesteps), torch.from_numpy(states)).sample
    return nhwc(out)


def with_peft(reference, targets, **more):
    """A copy of the reference with peft's LoRA of random matrices."""
    import copy

    import torch

    peft = pytest.importorskip("peft")
    unet = copy.deepcopy(reference)
    config = peft.LoraConfig(
        r=RANK, lora_alpha=ALPHA, target_modules=list(targets), init_lora_weights=False, **more
    )
    unet.add_adapter(config)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return unet.eval(), peft.get_peft_model_state_dict(unet)


def numpy_of(tensors):
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in tensors.items()}


def kohya(tensors, alpha):
    """peft's tensors as the published LCM-LoRA of Stable Diffusion 1.5 names them."""
    found = {}
    for name, tensor in tensors.items():
        stem, part = name.removesuffix(".weight").rsplit(".", 1)
        own = "lora_unet_" + stem.replace(".", "_")
        words = {"lora_A": "lora_down", "lora_B": "lora_up"}
        found[f"{own}.{words[part]}.weight"] = tensor
        found[f"{own}.alpha"] = np.array(alpha, np.float32)
    return found


@pytest.mark.parametrize("targets", [ATTENTION, ALL_PRODUCTS], ids=["attention", "all"])
def test_the_output_is_that_of_pefts_lora_on_diffusers_unet(
    torch_unet, inputs, run, tmp_path, targets
):
    reference, unet = torch_unet
    changed, state = with_peft(reference, targets)
    truth = torch_output(changed, inputs)
    assert np.abs(truth - torch_output(reference, inputs)).max() > 0.01
    tensors = numpy_of(state)
    save_file(kohya(tensors, ALPHA), tmp_path / "kohya.safetensors")
    lora = read_lora(tmp_path / "kohya.safetensors", unet)
    assert_close(run(with_lora(unet, lora)), truth, TOLERANCE)
    # As diffusers' own save_lora_weights writes it, which keeps alpha in the metadata.
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": RANK, "unet.lora_alpha": ALPHA})}
    names = {f"unet.{name}": x for name, x in tensors.items()}
    save_file(names, tmp_path / "diffusers.safetensors", metadata)
    again = read_lora(tmp_path / "diffusers.safetensors", unet)
    assert again.scales == lora.scales
    jax.tree.map(np.testing.assert_array_equal, again, lora)


def test_diffusers_loads_what_is_written_here(torch_unet, inputs, run, tmp_path):
    import copy

    pytest.importorskip("peft")
    reference, unet = torch_unet
    lora = init_lora(unet, jax.random.key(2), RANK, ALL_PRODUCTS, ALPHA)
    up = {
        name: 0.3 * jax.random.normal(jax.random.key(i), x.shape)
        for i, (name, x) in enumerate(lora.up.items())
    }
    lora = Lora(lora.down, up, lora.scales)
    write_lora(tmp_path / "pytorch_lora_weights.safetensors", lora)
    loaded = copy.deepcopy(reference)
    loaded.load_lora_adapter(
        tmp_path, weight_name="pytorch_lora_weights.safetensors", prefix="unet"
    )
    truth = torch_output(loaded, inputs)
    assert np.abs(truth - torch_output(reference, inputs)).max() > 0.01
    assert_close(run(with_lora(unet, lora)), truth, TOLERANCE)
    again = read_lora(tmp_path / "pytorch_lora_weights.safetensors", unet)
    assert_close(run(with_lora(unet, again)), truth, TOLERANCE)


def test_a_file_that_diffusers_wrote_is_read(torch_unet, inputs, run, tmp_path):
    reference, unet = torch_unet
    changed, _ = with_peft(reference, ATTENTION)
    changed.save_lora_adapter(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    assert_close(
        run(with_lora(unet, read_lora(file, unet))), torch_output(changed, inputs), TOLERANCE
    )


def small_unet():
    config = UNetConfig(
        sample_size=6,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(6, 9),
        layers_per_block=1,
        cross_attention_dim=7,
        attention_head_dim=3,
        norm_num_groups=3,
    )
    return random_network(lambda rngs: UNet2DConditionModel(config, rngs=rngs), 0)


@pytest.fixture(scope="module")
def unet():
    return small_unet()


def test_a_new_lora_changes_nothing_and_a_gradient_passes_through_it(unet):
    params = nnx.state(unet, nnx.Param)
    lora = init_lora(unet, jax.random.key(0), 3)
    jax.tree.map(np.testing.assert_array_equal, add_lora(params, lora), params)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    assert lora.down[name].shape == (7, 3)

    def total(lora):
        return sum(x.sum() for x in jax.tree.leaves(add_lora(params, lora)))

    gradient = jax.grad(total)(lora)
    expected = np.repeat(np.asarray(lora.down[name]).sum(0)[:, None], 9, axis=1)
    np.testing.assert_allclose(gradient.up[name], expected, rtol=1e-5)
    assert not np.any(gradient.down[name])  # since up is 0


def test_half_precision_parameters_stay_so(unet):
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), nnx.state(unet, nnx.Param))
    lora = init_lora(unet, jax.random.key(0), 2)
    assert {x.dtype for x in jax.tree.leaves(add_lora(params, lora))} == {jnp.dtype("bfloat16")}


def test_the_layers_are_those_that_the_names_end_with(unet):
    attention = init_lora(unet, jax.random.key(0), 1)
    assert len(attention.down) == 4 * 8
    everything = init_lora(unet, jax.random.key(0), 1, ALL_PRODUCTS)
    left = layer_kernels(unet).keys() - everything.down.keys()
    assert left == {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}
    with pytest.raises(InputError, match="No layer's name ends with"):
        init_lora(unet, jax.random.key(0), 1, ["to_w"])


NAME = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
MATRICES = {"A": np.ones((2, 9), np.float32), "B": np.ones((9, 2), np.float32)}
GOOD = {f"unet.{NAME}.lora_{part}.weight": x for part, x in MATRICES.items()}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "holds no tensor"),
        ({"text_model.weight": np.ones(3, np.float32)}, "no part of a LoRA"),
        ({**GOOD, "text_encoder.q.lora_A.weight": MATRICES["A"]}, "text encoder"),
        ({**GOOD, "lora_te_q.lora_down.weight": MATRICES["A"]}, "text encoder"),
        ({"lora_unet_q.hada_w1_a": MATRICES["A"]}, "LoHa"),
        ({**GOOD, f"unet.{NAME}.lora_magnitude_vector": MATRICES["A"]}, "DoRA"),
        ({f"unet.{NAME}.lora_A.weight": MATRICES["A"]}, "second"),
        ({**GOOD, f"unet.{NAME}.lora_B.weight": np.ones((9, 3), np.float32)}, "outputs, r"),
        ({k.replace("mid", "middle"): x for k, x in GOOD.items()}, "unknown layer"),
        ({k: np.repeat(x, 2, 0 if "B" in k else 1) for k, x in GOOD.items()}, "make a kernel"),
        ({**GOOD, f"{NAME}.lora.up.weight": MATRICES["B"]}, "two names"),
        ({**GOOD, "unet.other.alpha": np.ones((), np.float32)}, "alpha of"),
    ],
)
def test_what_is_no_lora_of_the_unet_is_refused(unet, tmp_path, tensors, said):
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match=said):
        read_lora(tmp_path / "lora.safetensors", unet)


def test_a_missing_file_and_numbers_that_are_not_finite_are_refused(unet, tmp_path):
    with pytest.raises(MissingFileError, match="pytorch_lora_weights"):
        read_lora(tmp_path / "lora.safetensors", unet)
    save_file({k: x * np.nan for k, x in GOOD.items()}, tmp_path / "lora.safetensors")
    with pytest.raises(NotFiniteError):
        read_lora(tmp_path / "lora.safetensors", unet)


def test_the_first_diffusers_layout_and_rank_stabilised_scales_are_read(unet, tmp_path):
    stem = NAME.removesuffix(".to_q")
    old = {
        f"{stem}.processor.to_q_lora.down.weight": MATRICES["A"],
        f"{stem}.processor.to_q_lora.up.weight": MATRICES["B"],
    }
    save_file(old, tmp_path / "old.safetensors")
    save_file(GOOD, tmp_path / "adapter_model.safetensors")
    settings = {"lora_alpha": 6, "use_rslora": True, "alpha_pattern": {"attn1.to_v": 1}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    first, stable = (
        read_lora(tmp_path / f, unet) for f in ("old.safetensors", "adapter_model.safetensors")
    )
    assert list(first.down) == [NAME] and first.scales == ()
    np.testing.assert_allclose(dict(stable.scales)[NAME], 6 / 2**0.5)
