"""The files that a backbone's weights come in, written by diffusers, and where they are sought."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sd15_configs as sd15
from flax import nnx
from huggingface_hub.utils import filter_repo_objects
from safetensors.numpy import load_file, save_file

from neuroadapter_jax.diffusion import weights
from neuroadapter_jax.diffusion.tokenizer import CLIPTokenizer
from neuroadapter_jax.errors import InputError, NotFiniteError

OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def autoencoder(seed=7):
    """diffusers' own, with random weights."""
    from torch_reference import randomise

    network = pytest.importorskip("diffusers").AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(5, 11),
        layers_per_block=1,
        norm_num_groups=1,
    )
    return randomise(network, seed)


def tensors_of(network):
    return {name: value.float().numpy() for name, value in network.state_dict().items()}


def assert_loads(folder, truth):
    found = weights.to_tensors(weights.load_component(folder, "vae"))
    assert found.keys() == truth.keys()
    for name in truth:
        np.testing.assert_array_equal(found[name], truth[name], err_msg=name)


def save(network, folder, **options):
    network.save_pretrained(folder / "vae", **options)
    (folder / "model_index.json").write_text("{}")
    return folder / "vae"


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("variant", [None, "fp16"])
def test_variants_and_shards(tmp_path, variant, sharded):
    network = autoencoder()
    if variant == "fp16":
        network = network.half()
    options = {"max_shard_size": "7KB"} if sharded else {}
    folder = save(network, tmp_path, variant=variant, **options)
    assert (len(list(folder.glob("*.safetensors"))) > 2) == sharded
    assert (len(list(folder.glob("*.index*.json"))) == 1) == sharded
    assert_loads(tmp_path, tensors_of(network))


def test_float32_goes_before_float16(tmp_path):
    network = autoencoder()
    save(network, tmp_path)
    save(autoencoder(seed=8).half(), tmp_path, variant="fp16")
    assert_loads(tmp_path, tensors_of(network))


def test_shards_that_do_not_belong_together(tmp_path):
    folder = save(autoencoder(), tmp_path, max_shard_size="7KB")
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    content = second.read_bytes()
    shutil.copy(first, second)
    with pytest.raises(ValueError, match="lists other tensors in this file") as caught:
        weights.load_component(tmp_path, "vae")
    assert str(second) in str(caught.value)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=second.name):
        weights.load_component(tmp_path, "vae")
    second.write_bytes(content)
    weights.load_component(tmp_path, "vae")


@pytest.mark.parametrize("place", ["../outside.safetensors", "/outside.safetensors"])
def test_an_index_of_shards_does_not_lead_out_of_its_folder(tmp_path, place):
    folder = save(autoencoder(), tmp_path, max_shard_size="7KB")
    (index,) = folder.glob("*.index.json")
    content = json.loads(index.read_text())
    first = sorted(set(content["weight_map"].values()))[0]
    shutil.copy(folder / first, folder.parent / "outside.safetensors")
    places = {k: place if v == first else v for k, v in content["weight_map"].items()}
    index.write_text(json.dumps(content | {"weight_map": places}))
    with pytest.raises(
        InputError, match=f"names '{place}', which (lies outside|is an absolute path)"
    ):
        weights.load_component(tmp_path, "vae")


def with_old_names(path, shape=()):
    tensors = load_file(path)
    for key in [key for key in tensors if ".attentions." in key]:
        for new, old in OLD.items():
            if f".{new}." in key:
                value = tensors.pop(key)
                value = value.reshape(value.shape + shape) if value.ndim == 2 else value
                tensors[key.replace(new, old)] = value
    save_file(tensors, path, metadata={"format": "pt"})


def test_old_attention_names_mean_what_diffusers_takes_them_for(tmp_path):
    folder = save(autoencoder(), tmp_path)
    with_old_names(folder / "diffusion_pytorch_model.safetensors")
    diffusers = pytest.importorskip("diffusers")
    assert_loads(tmp_path, tensors_of(diffusers.AutoencoderKL.from_pretrained(folder)))


def test_old_attention_as_convolutions(tmp_path):
    network = autoencoder()
    folder = save(network, tmp_path)
    with_old_names(folder / "diffusion_pytorch_model.safetensors", shape=(1, 1))
    assert_loads(tmp_path, tensors_of(network))


def test_an_old_and_a_current_name_at_once(tmp_path):
    path = save(autoencoder(), tmp_path) / "diffusion_pytorch_model.safetensors"
    before = load_file(path)
    with_old_names(path)
    save_file(before | load_file(path), path)
    with pytest.raises(ValueError, match="under its old and its current name") as caught:
        weights.load_component(tmp_path, "vae")
    assert str(path) in str(caught.value)


# ---- the Hub

NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    *(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")),
}
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
WHOLE = {f"{part}/{stem}.safetensors" for part, stem in STEMS.items()}
HALF = {f"{part}/{stem}.fp16.safetensors" for part, stem in STEMS.items()}
SHARDED = {
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model-00002-of-00002.safetensors",
}
USELESS = {
    "README.md",
    "v1-5-pruned.ckpt",
    "v1-5-pruned-emaonly.safetensors",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "text_encoder/pytorch_model.bin",
}


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (WHOLE | HALF, WHOLE),
        (HALF, HALF),
        (WHOLE - {"unet/diffusion_pytorch_model.safetensors"} | SHARDED, None),
        (HALF - {"unet/diffusion_pytorch_model.fp16.safetensors"} | SHARDED, None),
    ],
)
def test_only_what_is_needed_is_fetched(tmp_path, monkeypatch, offered, taken):
    def snapshot_download(name, allow_patterns):
        assert name == "owner/model-1.5"
        files = NEEDED | USELESS | offered
        for file in filter_repo_objects(sorted(files), allow_patterns=allow_patterns):
            path = tmp_path / file
            path.parent.mkdir(exist_ok=True)
            path.write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert weights.backbone_folder("owner/model-1.5") == tmp_path
    fetched = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert fetched == NEEDED | (offered if taken is None else taken)


def test_a_model_in_the_hubs_cache(tmp_path, monkeypatch, random_backbone):
    store = tmp_path / "models--owner--model"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("0" * 40)
    shutil.copytree(random_backbone, store / "snapshots" / ("0" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    folder = weights.backbone_folder("owner/model")
    assert folder == store / "snapshots" / ("0" * 40)
    assert weights.load_schedule("owner/model") == weights.load_schedule(random_backbone)


def test_a_model_that_is_not_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("owner/model", "owner/no--name"):
        with pytest.raises(FileNotFoundError) as caught:
            weights.load_pretrained(name)
        message = str(caught.value)
        assert name in message and "not available from the Hub" in message
        assert "tiny-sd" in message and "\n" not in message
    # What exists here is no Hub id.
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder with a model_index"):
        weights.backbone_folder("../" + tmp_path.name)


# ---- random weights


def test_random_is_stable_diffusion_15():
    folder = weights.backbone_folder("random")
    published = {"unet": sd15.UNET, "vae": sd15.VAE, "text_encoder": sd15.TEXT_ENCODER}
    for name, config in published.items():
        assert json.loads((folder / name / "config.json").read_text()) == config
    assert json.loads((folder / "scheduler/scheduler_config.json").read_text()) == sd15.SCHEDULER
    # CLIP's own numbers of the start and the end of a text, padded by the end.
    ids = CLIPTokenizer(folder / "tokenizer")([""])
    assert ids.tolist() == [[49406] + [49407] * 76]
    assert not list(Path(folder).rglob("*.safetensors"))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_random_weights_keep_variances(random_backbone, dtype):
    unet = weights.load_component(f"random:{random_backbone}", "unet", dtype)
    again = weights.load_component(f"random:{random_backbone}", "unet", dtype)
    flat = nnx.to_flat_state(nnx.state(unet))
    total = 0
    for (path, leaf), other in zip(flat, jax.tree.leaves(nnx.state(again)), strict=True):
        value = np.asarray(leaf[...])
        assert value.dtype == dtype
        assert value.tobytes() == np.asarray(other).tobytes()
        value = value.astype(np.float32)
        if value.ndim == 1:
            assert np.all(value == (path[-1] == "scale"))
        elif value.size > 1000:
            inputs = np.prod(value.shape[:-1])
            assert abs(value.mean()) < 5 * (inputs * value.size) ** -0.5
            assert value.var() * inputs == pytest.approx(1, abs=0.2)
            total += 1
    assert total > 5
    with pytest.raises(FileNotFoundError, match="no-such"):
        weights.load_component("random:no-such", "unet")


def test_a_random_backbone_is_whole(random_backbone):
    backbone = weights.load_pretrained(f"random:{random_backbone}", jnp.bfloat16)
    truth = weights.load_pretrained(random_backbone)
    assert backbone.folder == Path(random_backbone)
    assert backbone.schedule == truth.schedule
    for name in ("unet", "vae", "text_encoder"):
        ours = weights.parameter_shapes(getattr(backbone, name))
        assert ours == weights.parameter_shapes(getattr(truth, name))


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder"])
def test_weights_that_are_not_finite_are_refused_by_name(random_backbone, tmp_path, name):
    shutil.copytree(random_backbone, tmp_path / "backbone")
    path = weights.find_weights(tmp_path / "backbone", name)
    tensors = load_file(path)
    first = sorted(tensors)[0]
    tensors[first].reshape(-1)[-1] = np.nan
    save_file(tensors, path)
    with pytest.raises(NotFiniteError) as error:
        weights.load_component(tmp_path / "backbone", name)
    size = tensors[first].size
    assert str(error.value).startswith(
        f"{path}: 1 of {size} numbers of {first} are NaN or infinite"
    )
