"""DINOv2 files that transformers writes, and those of its older versions."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from neuroadapter_jax.encoder.weights import load_dinov2

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FIELDS = {
    "hidden_size": 22,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 15,
    "patch_size": 3,
}


@pytest.fixture(params=["plain", "swiglu", "registers"])
def saved(request, tmp_path):
    torch.manual_seed(3)
    fields = FIELDS | {"use_swiglu_ffn": request.param == "swiglu"}
    if request.param == "registers":
        config = transformers.Dinov2WithRegistersConfig(**fields, num_register_tokens=3)
        theirs = transformers.Dinov2WithRegistersModel(config)
    else:
        theirs = transformers.Dinov2Model(transformers.Dinov2Config(**fields))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    theirs.eval().save_pretrained(tmp_path / "model")
    return theirs, tmp_path / "model"


def assert_same(theirs, folder):
    images = np.random.default_rng(0).standard_normal((2, 15, 15, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).movedim(-1, 1)).last_hidden_state.numpy()
    found = np.asarray(load_dinov2(folder)(jnp.asarray(images)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_folder_of_transformers(saved):
    assert_same(*saved)


def test_a_folder_with_the_published_names(saved):
    theirs, folder = saved
    tensors = {}
    for name, value in theirs.state_dict().items():
        for new, old in {
            "attention.q_proj": "attention.attention.query",
            "attention.k_proj": "attention.attention.key",
            "attention.v_proj": "attention.attention.value",
            "attention.o_proj": "attention.output.dense",
            "mlp.down_proj": "mlp.weights_out",
        }.items():
            name = name.replace(new, old)
        tensors[name] = value.numpy()
    for name in [n for n in tensors if "gate_proj" in n]:
        up = tensors.pop(name.replace("gate_proj", "up_proj"))
        tensors[name.replace("gate_proj", "weights_in")] = np.concatenate([tensors.pop(name), up])
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors")
    assert_same(theirs, folder)


def test_a_folder_in_shards(saved, tmp_path):
    theirs, _ = saved
    folder = tmp_path / "shards"
    theirs.save_pretrained(folder, max_shard_size="10KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    assert not (folder / "model.safetensors").exists()
    assert_same(theirs, folder)
    next(folder.glob("model-*-of-*.safetensors")).unlink()
    with pytest.raises(FileNotFoundError, match=r"not found, but model\.safetensors\.index\.json"):
        load_dinov2(folder)


def test_weights_that_do_not_fit_are_named(saved):
    _, folder = saved
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.cls_token"] = tensors["embeddings.cls_token"][..., :21].copy()
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"cls_token is \(1, 1, 21\), expected \(1, 1, 22\)"):
        load_dinov2(folder)


@pytest.mark.parametrize("name", ["nowhere", "nobody/nothing"])
def test_a_model_that_is_not_there(name, monkeypatch):
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(FileNotFoundError, match=f"DINOv2 model '{name}': no folder here or in"):
        load_dinov2(name)


def test_another_activation_is_refused(saved):
    _, folder = saved
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    with pytest.raises(ValueError, match="hidden_act is 'relu'; expected 'gelu'"):
        load_dinov2(folder)
