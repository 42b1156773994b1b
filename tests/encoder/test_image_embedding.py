"""The image embedding against transformers and PIL, at random weights."""

import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.weights import num_parameters
from neuroadapter_jax.encoder.clip_vision import CLIPVisionConfig, CLIPVisionModel
from neuroadapter_jax.encoder.image_embedding import ImageEmbedder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

FIELDS = {
    "hidden_size": 26,
    "intermediate_size": 34,
    "projection_dim": 11,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 15,
    "patch_size": 5,
    "hidden_act": "gelu",
}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(3)
    config = transformers.CLIPVisionConfig(**FIELDS)
    network = transformers.CLIPVisionModelWithProjection(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) / max(parameter.shape[-1], 1) ** 0.5)
    return network


def write(folder, network, whole):
    """A folder of the image encoder alone, or one of a whole CLIP."""
    tensors = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    config = {"model_type": "clip_vision_model", **FIELDS}
    if whole:
        tensors |= {"logit_scale": np.ones((), np.float32)}
        tensors |= {"text_model.final_layer_norm.weight": np.ones(3, np.float32)}
        config = {"model_type": "clip", "text_config": {}, "vision_config": config}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prepared(images):
    """By PIL and NumPy, as transformers' image processor."""
    pictures = [Image.fromarray(i).resize((15, 15), Image.Resampling.BICUBIC) for i in images]
    x = np.stack([np.asarray(p) for p in pictures]).astype(np.float32) / 255
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    x = (x - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("whole", [False, True])
def test_clip_gives_the_embeddings_that_transformers_gives(theirs, tmp_path, rng, whole):
    folder = write(tmp_path / "clip", theirs, whole)
    images = rng.integers(0, 256, (3, 15, 15, 3), np.uint8)
    with torch.no_grad():
        out = theirs(prepared(images), output_hidden_states=True)
        states = theirs.vision_model.post_layernorm(out.last_hidden_state)
        projected = theirs.visual_projection(states).numpy()
    found = ImageEmbedder.load(folder, "penultimate")(images)
    np.testing.assert_allclose(found, out.hidden_states[-2].numpy(), atol=2e-5)
    expected = projected / np.linalg.norm(projected[:, :1], axis=-1, keepdims=True)
    embedder = ImageEmbedder.load(folder)
    np.testing.assert_allclose(embedder(images, batch_size=2), expected, atol=2e-5)
    assert embedder.shape == (10, 11)
    with torch.no_grad():
        zeros = theirs(torch.zeros(1, 3, 15, 15), output_hidden_states=True).hidden_states[-2]
    found = ImageEmbedder.load(folder, "penultimate").of_no_image()
    np.testing.assert_allclose(found, zeros.numpy(), atol=2e-5)


def test_images_of_another_size_are_resized_as_pil_does(theirs, tmp_path):
    embedder = ImageEmbedder.load(write(tmp_path / "clip", theirs, False))
    ramp = np.linspace(0, 255, 64)
    image = np.stack(
        [
            ramp[None] + 0 * ramp[:, None],
            ramp[:, None] + 0 * ramp,
            *[0 * ramp + 9 + 0 * ramp[:, None]],
        ],
        -1,
    )
    images = np.stack([image, np.rot90(image)]).astype(np.uint8)
    found = np.asarray(embedder.prepare(images)).transpose(0, 3, 1, 2)
    step = 1 / 255 / 0.26  # one grey level
    assert np.abs(found - prepared(images).numpy()).max() <= 1.01 * step


def test_tiny_vit_gives_its_class_token_and_its_patches_averaged(rng):
    embedder = ImageEmbedder.load("tiny-vit")
    images = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
    states = np.asarray(embedder.network(embedder.prepare(images)), np.float64)
    found = embedder(images)
    assert found.shape == (2, 17, 192)
    norms = np.linalg.norm(states[:, 0], axis=-1)
    np.testing.assert_allclose(found[:, 0], states[:, 0] / norms[:, None], atol=1e-5)
    # Cell (1, 2) of 4 x 4 holds the patches of rows 2, 3 and columns 4, 5 of 8 x 8.
    patches = [1 + 8 * row + column for row in (2, 3) for column in (4, 5)]
    cell = states[:, patches].mean(axis=1) / norms[:, None]
    np.testing.assert_allclose(found[:, 1 + 4 * 1 + 2], cell, atol=1e-5)


def test_an_embedding_that_the_network_does_not_have_is_refused(theirs, tmp_path):
    folder = write(tmp_path / "clip", theirs, False)
    with pytest.raises(ValueError, match="is a CLIP, which gives no embedding 'pooled'; expected"):
        ImageEmbedder.load(folder, "pooled")
    with pytest.raises(ValueError, match="tiny-vit is a DINOv2, which gives no embedding"):
        ImageEmbedder.load("tiny-vit", "projected")


@pytest.mark.parametrize(
    ("fields", "kind", "shape", "millions"),
    [
        (dict(hidden_size=1024, intermediate_size=4096, projection_dim=768, num_hidden_layers=24,
              num_attention_heads=16, patch_size=14), "projected", (257, 768), 304),
        (dict(hidden_size=1280, intermediate_size=5120, projection_dim=1024, num_hidden_layers=32,
              num_attention_heads=16, patch_size=14, hidden_act="gelu"), "penultimate",
         (257, 1280), 632),
    ],
)  # fmt: skip
def test_at_full_size_the_embedding_has_the_published_shape(fields, kind, shape, millions):
    config = CLIPVisionConfig(**fields)
    network = abstract_network(lambda rngs: CLIPVisionModel(config, rngs=rngs))
    assert round(num_parameters(network) / 1e6) == millions
