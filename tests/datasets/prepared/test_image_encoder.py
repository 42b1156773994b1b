import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from neuroadapter_jax.datasets.prepared.image_encoder import load_image_encoder, require_image_size
from neuroadapter_jax.datasets.prepared.records import PreparedDataset

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONFIG = """
from ml_collections import ConfigDict

def get_config():
    data = dict(
        root={root!r}, prepared="", subject=2, space={space!r}, beta_version={beta_version!r},
        normalize="none", image_size=20, num_validation=3, simulation=None,
    )
    return ConfigDict(dict(backbone={backbone!r}, data=data), convert_dict=True)
"""


def save_backbone(folder, seed):
    """A folder with a VAE of random weights, written by diffusers."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[8, 16],
        layers_per_block=1,
        norm_num_groups=4,
    )
    vae.save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text("{}")
    return vae.eval()


@pytest.fixture
def vae(tmp_path):
    return save_backbone(tmp_path / "backbone", 0)


def expected_moments(vae, images):
    import torch

    pixels = torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist
    return [m.permute(0, 2, 3, 1).numpy() for m in (latents.mean, latents.std)]


@pytest.mark.parametrize(
    ("backbone", "right", "wrong", "multiple"),
    [
        # Stable Diffusion 1.5: the VAE halves three times, the U-Net three times more.
        ("random", (64, 512), (8, 520), 64),
        ("tiny-sd", (8, 64), (20, 65), 8),
    ],
)
def test_a_size_that_the_networks_cannot_halve_is_refused(backbone, right, wrong, multiple):
    for size in right:
        require_image_size(backbone, size)
    for size in wrong:
        said = rf"^image_size is {size}; expected a multiple of {multiple} for {backbone}\.$"
        with pytest.raises(ValueError, match=said):
            require_image_size(backbone, size)


def test_moments_agree_with_diffusers(vae, tmp_path, rng):
    encode_images, _ = load_image_encoder(tmp_path / "backbone")
    images = rng.integers(0, 256, (3, 20, 20, 3), np.uint8)
    for ours, theirs in zip(encode_images(images), expected_moments(vae, images), strict=True):
        assert ours.shape == (3, 10, 10, 4)
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_fingerprint_tells_weights_apart(vae, tmp_path):
    (tmp_path / "backbone" / "notes.txt").write_text("not a weight")
    _, first = load_image_encoder(tmp_path / "backbone")
    save_backbone(tmp_path / "same", 0)
    save_backbone(tmp_path / "other", 1)
    assert load_image_encoder(tmp_path / "same")[1] == first
    assert load_image_encoder(tmp_path / "other")[1] != first


@pytest.mark.slow
def test_command_line(vae, tree, tmp_path):
    pytest.importorskip("tensorflow")
    config = CONFIG.format(
        root=str(tree.root),
        space=tree.folder.parent.name,
        beta_version=tree.folder.name,
        backbone=str(tmp_path / "backbone"),
    )
    (tmp_path / "config.py").write_text(config)
    command = [sys.executable, "launch/prepare.py", "--config", str(tmp_path / "config.py")]
    command.append(f"--config.data.prepared={tmp_path / 'prepared'}")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert said[0].split() == ["check", "found", "published"]
    assert said[-1] == f"Prepared records of subject 2: {tmp_path / 'prepared'}"
    test = PreparedDataset(tmp_path / "prepared", "test")
    assert json.loads((tmp_path / "prepared/provenance.json").read_text())["images"]["test"] == 5
    mean, std = expected_moments(vae, np.stack([record["image"] for record in test]))
    np.testing.assert_allclose(np.stack([r["latent_mean"] for r in test]), mean, atol=2e-3)
    np.testing.assert_allclose(np.stack([r["latent_std"] for r in test]), std, atol=2e-3)
