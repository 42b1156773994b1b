"""The feature metrics beside torchvision's and transformers' own, at random weights."""

import builtins
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import correlation
from torchvision_reference import random_checkpoints, torchvision

from neuroadapter_jax.encoder.weights import dinov2_folder
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation import features
from neuroadapter_jax.evaluation.features import (
    CLIP_COLOURS,
    FILES,
    IMAGENET,
    NETWORKS,
    PUBLISHED_NETWORKS,
    SWAV_URL,
    TINY_VIT,
    MissingWeightsError,
    check_weights,
    load_tiny_vit,
)
from neuroadapter_jax.evaluation.protocol import CONVENTIONS, metric_labels, prepare, score_images

pytest.importorskip("torch")
pytest.importorskip("transformers")
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Model

COUNT, SIDE = 5, 71
NODES = {
    "alexnet": ("features.4", "features.11"),
    "inception": ("avgpool",),
    "effnet": ("avgpool",),
    "swav": ("avgpool",),
}
METRICS = {
    "alexnet": ("two_way_alexnet2", "two_way_alexnet5"),
    "inception": ("two_way_inception",),
    "effnet": ("distance_effnet",),
    "swav": ("distance_swav",),
    "clip": ("two_way_clip",),
}
SIZES = {"alexnet": 256, "inception": 342, "clip": 224, "effnet": 255, "swav": 224}


@pytest.fixture(scope="module")
def pictures():
    """Smooth stimuli, and reconstructions that are like them to a varying degree."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, COUNT, 6, 6, 3))
    smooth = coarse.repeat(12, axis=2).repeat(12, axis=3)[:, :, :SIDE, :SIDE]
    share = np.linspace(0.15, 0.5, COUNT)[:, None, None, None]
    fine = rng.integers(-20, 21, (COUNT, SIDE, SIDE, 3))
    reconstructions = share * smooth[0] + (1 - share) * smooth[1] + fine
    return smooth[0].astype(np.uint8), reconstructions.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A folder of weights with every file, and the networks that they were taken from."""
    folder = tmp_path_factory.mktemp("weights")
    networks = random_checkpoints(folder, SWAV_URL.rsplit("/", 1)[-1])
    torch.manual_seed(7)
    config = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=3,
        patch_size=32,
        projection_dim=13,
        initializer_factor=30.0,
    )
    networks["clip"] = CLIPVisionModelWithProjection(config).eval()
    networks["clip"].save_pretrained(folder / "clip-vit-large-patch14")
    return folder, networks


def torch_input(images, name, convention):
    """The input of a network by torchvision's own transforms."""
    from torchvision.transforms import InterpolationMode, v2

    size, mode = [SIZES[name]] * 2, InterpolationMode.BILINEAR
    mean, sd = CLIP_COLOURS if name == "clip" else IMAGENET
    stack = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    if convention == "mindeye":
        for side in ([256, 256], size):
            stack = v2.functional.resize(stack, side, mode, antialias=False)
    elif name in ("clip", "swav"):
        stack = v2.functional.resize(stack, size, mode, antialias=True)
    else:
        steps = v2.Compose([v2.ToPILImage(), v2.Resize(size, mode), v2.PILToTensor()])
        stack = torch.stack([steps(image) for image in stack]) / 255
    # Another layout in memory takes other kernels, whose rounding grows over fifty layers.
    return v2.functional.normalize(stack, mean, sd).contiguous()


def torch_features(network, name, batch):
    if name == "clip":
        return [network(pixel_values=batch).image_embeds]
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = list(NODES[name])
    found = create_feature_extractor(network, nodes, suppress_diff_warning=True)(batch)
    return [found[node].flatten(1) for node in NODES[name]]


def two_way_loop(true, reconstructions, convention):
    n = len(true)
    scores = []
    for k in range(n):
        own = np.corrcoef(true[k], reconstructions[k])[0, 1]
        others = [m for m in range(n) if m != k]
        if convention == "mindeye":
            lost = [np.corrcoef(true[m], reconstructions[k])[0, 1] < own for m in others]
        else:
            lost = [np.corrcoef(true[k], reconstructions[m])[0, 1] < own for m in others]
        scores.append(np.mean(lost))
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["mindeye", "neuroadapter"])
def test_every_published_metric_is_torchvisions(pictures, published, convention):
    torchvision()
    folder, networks = published
    stimuli, reconstructions = pictures
    scores = score_images(
        stimuli,
        reconstructions,
        convention=convention,
        networks=PUBLISHED_NETWORKS,
        weights=folder,
        batch_size=3,
        progress=False,
    )
    assert not scores.missing
    informative = 0
    for name, metrics in METRICS.items():
        with torch.inference_mode():
            pair = [
                [
                    x.double().numpy()
                    for x in torch_features(
                        networks[name], name, torch_input(images, name, convention)
                    )
                ]
                for images in (stimuli, reconstructions)
            ]
        for metric, true, own in zip(metrics, *pair, strict=True):
            if metric.startswith("two_way"):
                expected = two_way_loop(true, own, convention)
                informative += len(set(expected)) > 1
            else:
                expected = [correlation(a, b) for a, b in zip(true, own, strict=True)]
                assert min(expected) > 1e-3
            np.testing.assert_allclose(scores.per_image[metric], expected, rtol=0, atol=1e-5)
    assert informative >= 2  # not every score is at its ceiling


@pytest.mark.slow
@pytest.mark.parametrize("convention", ["mindeye", "neuroadapter"])
def test_features_themselves_are_torchs(pictures, published, convention):
    """To 1e-5; two-way scores alone would hide small differences."""
    torchvision()
    folder, networks = published
    for network in PUBLISHED_NETWORKS:
        x = prepare(pictures[1][:2], network, CONVENTIONS[convention])
        batch = torch_input(pictures[1][:2], network.name, convention)
        np.testing.assert_allclose(x.transpose(0, 3, 1, 2), batch.numpy(), atol=1e-5)
        found = network.load(folder, False)(np.asarray(batch.permute(0, 2, 3, 1)))
        with torch.inference_mode():
            expected = torch_features(networks[network.name], network.name, batch)
        for metric, values in zip(network.metrics, expected, strict=True):
            scale = values.std().item()
            np.testing.assert_allclose(
                found[metric.layer] / scale, values.numpy() / scale, rtol=1e-5, atol=1e-5
            )


def test_tiny_vits_layers_are_transformers(pictures):
    x = prepare(pictures[0], TINY_VIT, CONVENTIONS["mindeye"])
    found = load_tiny_vit()(x)
    model = Dinov2Model.from_pretrained(dinov2_folder("tiny-vit"), dtype=torch.float32).eval()
    with torch.inference_mode():
        batch = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
        truth = model(batch, output_hidden_states=True)
    first = truth.hidden_states[1][:, 1:].flatten(1).numpy()
    np.testing.assert_allclose(found["block1"], first, atol=1e-4)
    pooled = truth.last_hidden_state[:, 1:].mean(dim=1).numpy()
    np.testing.assert_allclose(found["pooled"], pooled, atol=1e-4)


def test_every_metric_has_a_name_of_its_own():
    names = [metric.name for network in NETWORKS for metric in network.metrics]
    assert len(set(names)) == len(names)
    assert list(metric_labels())[:8] == ["pixcorr", "ssim", *names[:6]]


def test_what_is_missing_is_said_with_its_reason(pictures, tmp_path, monkeypatch):
    """An empty folder, an empty cache and no download: every published network is missing."""
    torchvision()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(features, "CLIP_NAME", "nobody/no-such-model")
    scores = score_images(*pictures, weights=tmp_path, batch_size=3, progress=False)
    assert set(scores.missing) == {name for names in METRICS.values() for name in names}
    assert set(scores.per_image) | set(scores.missing) == set(metric_labels())
    alexnet = scores.missing["two_way_alexnet2"]
    assert f"alexnet-owt-7be5be79.pth is not in {tmp_path} nor {tmp_path}" in alexnet
    assert "put it there from https://download.pytorch.org/models/alexnet" in alexnet
    assert "swav_800ep_pretrain.pth.tar" in scores.missing["distance_swav"]
    assert "nobody/no-such-model is not in" in scores.missing["two_way_clip"]
    assert scores.summary()["missing"] == scores.missing


def test_without_pytorch_the_rest_is_scored(pictures, monkeypatch):
    genuine = builtins.__import__

    def no_torch(name, *rest, **options):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'")
        return genuine(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    scores = score_images(*pictures, batch_size=3, progress=False)
    assert len(scores.missing) == 6
    assert all("PyTorch is not installed; pip install" in x for x in scores.missing.values())
    assert {"pixcorr", "ssim", "two_way_tiny_vit_pooled"} <= set(scores.per_image)


@pytest.mark.slow
def test_weights_of_another_network_are_refused(published, tmp_path):
    models = torchvision().models
    name = models.AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[-1]
    alexnet = PUBLISHED_NETWORKS[0]
    tensors = torch.load(published[0] / name, weights_only=True)
    tensors["features.3.weight"] = tensors["features.3.weight"][:7]
    torch.save(tensors, tmp_path / name)
    with pytest.raises(ValueError, match=r"do not fit the network at features\.3\.weight \(1 such"):
        alexnet.load(tmp_path, False)
    (tmp_path / name).write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth is no checkpoint that"):
        alexnet.load(tmp_path, False)
    clip = next(x for x in PUBLISHED_NETWORKS if x.name == "clip")
    (tmp_path / "clip-vit-large-patch14").mkdir()
    with pytest.raises(ValueError, match="is no CLIP model in transformers' layout"):
        clip.load(tmp_path, False)


def test_a_torchvision_for_another_pytorch_is_named(monkeypatch):
    genuine = builtins.__import__

    def broken(name, *rest, **options):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return genuine(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(MissingWeightsError, match=r"does not start beside PyTorch .*nms does not"):
        PUBLISHED_NETWORKS[0].load(None, False)


def test_a_folder_without_a_networks_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds none of .* alexnet-owt-7be5be79\.pth"):
        check_weights(tmp_path)
    (tmp_path / "swav_800ep_pretrain.pth.tar").write_bytes(b"PK")
    check_weights(tmp_path)
    (tmp_path / "alexnet-owt-7be5be79.pth").touch()
    with pytest.raises(InputError, match=r"7be5be79\.pth: is empty; expected a network's weights"):
        check_weights(tmp_path)


def test_the_weights_are_looked_for_under_their_published_names():
    pages = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    assert all(name in pages for name in FILES)
