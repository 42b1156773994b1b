"""The Hub is asked for the revision that a name gives, and the commit that came is recorded."""

import json
import shutil

import huggingface_hub
import pytest

from neuroadapter_jax.diffusion.identity import backbone_identity
from neuroadapter_jax.diffusion.weights import backbone_folder
from neuroadapter_jax.encoder.weights import dinov2_folder, dinov2_identity
from neuroadapter_jax.hub.snapshots import commit_of, is_hub_id

COMMIT = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def asked(tmp_path, monkeypatch, random_backbone):
    """A Hub of one backbone, in its cache; and what it was asked for."""
    folder = tmp_path / "models--owner--model" / "snapshots" / COMMIT
    shutil.copytree(random_backbone, folder)
    for name in ("config.json", "model.safetensors"):  # the same folder serves as a DINOv2 model
        (folder / name).write_text("{}")
    questions = []

    def download(name, allow_patterns, revision=None):
        questions.append((name, revision))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return folder, questions


def test_a_revision_goes_to_the_hub_and_its_commit_comes_back(asked):
    folder, questions = asked
    for get in (backbone_folder, dinov2_folder):
        assert get("owner/model@refs/pr/3") == folder == get("owner/model")
        assert questions == [("owner/model", "refs/pr/3"), ("owner/model", None)]
        questions.clear()
    assert commit_of(folder) == COMMIT
    assert backbone_identity("owner/model@main")["backbone_commit"] == COMMIT
    assert dinov2_identity("owner/model")["backbone_commit"] == COMMIT


def test_a_folder_here_is_of_no_commit(tmp_path, random_backbone, monkeypatch):
    assert "backbone_commit" not in backbone_identity(random_backbone)
    assert commit_of(tmp_path / "snapshots" / "main") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "model@1").mkdir(parents=True)
    assert not is_hub_id("owner/model@1") and is_hub_id("owner/model@2")
    assert not is_hub_id("tiny-sd") and not is_hub_id("random:owner/model")


def test_a_backbone_is_known_by_its_weights_not_by_who_wrote_its_configuration(
    random_backbone, tmp_path
):
    copy = shutil.copytree(random_backbone, tmp_path / "copy")
    first = backbone_identity(random_backbone)
    config = copy / "unet" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"_diffusers_version": "9.9", "_name_or_path": "x"}))
    assert backbone_identity(copy) == first
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    one, other = (x["backbone_fingerprint"] for x in (first, backbone_identity(copy)))
    assert {k for k in one if one[k] != other[k]} == {"vae"}
    assert set(one) == {"unet", "vae", "text_encoder", "scheduler"}
