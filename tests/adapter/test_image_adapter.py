"""The image adapter against diffusers' own modules, and files in the published layout."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from tiny_backbone import random_network

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.decoupled_attention import cross_attention_shapes
from neuroadapter_jax.adapter.image_adapter import ImageAdapter, ResamplerConfig
from neuroadapter_jax.adapter.image_adapter_files import (
    adapter_of_tensors,
    load_image_adapter,
    published_tensors,
    save_image_adapter,
)
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.weights import load_pretrained, num_parameters

torch = pytest.importorskip("torch")
embeddings = pytest.importorskip("diffusers.models.embeddings")

# Published files have heads of 64 channels, so this one does; all else is small.
SIZES = {"embed_dims": 11, "output_dims": 8, "hidden_dims": 14, "depth": 2, "heads": 2}
QUERIES = 5


@pytest.fixture(scope="module")
def unet(random_backbone):
    return load_pretrained(random_backbone).unet


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(5)
    network = embeddings.IPAdapterPlusImageProjection(
        **SIZES, dim_head=64, num_queries=QUERIES
    ).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) / max(parameter.shape[-1], 1) ** 0.5)
    return network


@pytest.fixture(scope="module")
def file(theirs, unet, tmp_path_factory):
    """As IP-Adapter publishes it: the names of its own code, layers by diffusers' processors."""
    state = {name: value.numpy().copy() for name, value in theirs.state_dict().items()}
    whole = ("latents", "proj_in", "proj_out", "norm_out")
    tensors = {f"image_proj.{k}": v for k, v in state.items() if k.startswith(whole)}
    for i in range(SIZES["depth"]):
        ours, block = f"layers.{i}", f"image_proj.layers.{i}"
        for norm, name in (("ln0", "norm1"), ("ln1", "norm2")):
            for leaf in ("weight", "bias"):
                tensors[f"{block}.0.{name}.{leaf}"] = state[f"{ours}.{norm}.{leaf}"]
        keys, values = (state[f"{ours}.attn.to_{x}.weight"] for x in "kv")
        tensors[f"{block}.0.to_q.weight"] = state[f"{ours}.attn.to_q.weight"]
        tensors[f"{block}.0.to_kv.weight"] = np.concatenate([keys, values])
        tensors[f"{block}.0.to_out.weight"] = state[f"{ours}.attn.to_out.0.weight"]
        for leaf in ("weight", "bias"):
            tensors[f"{block}.1.0.{leaf}"] = state[f"{ours}.ff.0.{leaf}"]
        tensors[f"{block}.1.1.weight"] = state[f"{ours}.ff.1.net.0.proj.weight"]
        tensors[f"{block}.1.3.weight"] = state[f"{ours}.ff.1.net.2.weight"]
    # The places of attn2 among the processors: down blocks, up blocks, then the middle block.
    names = [name for name, _ in unet.cross_attentions()]
    order = [n for part in ("down", "up", "mid") for n in names if n.startswith(part)]
    rng = np.random.default_rng(2)
    widths = dict(zip(names, cross_attention_shapes(unet)[0], strict=True))
    for place, name in enumerate(order):
        for bank in ("to_k_ip", "to_v_ip"):
            matrix = rng.standard_normal((widths[name], 8)).astype(np.float32)
            tensors[f"ip_adapter.{2 * place + 1}.{bank}.weight"] = matrix
    path = tmp_path_factory.mktemp("published") / "ip-adapter-plus_sd15.safetensors"
    save_file(tensors, path)
    return path


def test_a_published_file_gives_the_tokens_that_diffusers_gives(file, theirs, unet, rng):
    stored = load_image_adapter(file, unet)
    assert (stored.embedder, stored.kind) == (None, "penultimate")
    z = rng.standard_normal((3, 7, 11)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(z)).numpy()
    found = np.asarray(stored.adapter.resampler(jnp.asarray(z)))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_each_layer_has_the_keys_and_values_of_its_processor(file, unet, rng):
    tensors, adapter = load_file(file), load_image_adapter(file, unet).adapter
    z = rng.standard_normal((2, 7, 11)).astype(np.float32)
    tokens = np.asarray(adapter.resampler(jnp.asarray(z)))
    stream = adapter(jnp.asarray(z), 0.6)
    assert stream.scale == 0.6
    names = [name for name, _ in unet.cross_attentions()]
    middle = next(i for i, name in enumerate(names) if name.startswith("mid"))
    last = 2 * len(names) - 1  # the middle block's processor comes last
    for bank, found in (("to_k_ip", stream.keys), ("to_v_ip", stream.values)):
        expected = tokens @ tensors[f"ip_adapter.{last}.{bank}.weight"].T
        merged = np.asarray(found[middle]).swapaxes(1, 2).reshape(2, QUERIES, -1)
        np.testing.assert_allclose(merged, expected, atol=2e-5)


def test_what_is_written_is_the_published_layout(file, unet, tmp_path, rng):
    adapter = load_image_adapter(file, unet).adapter
    found, expected = published_tensors(adapter, unet), load_file(file)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    known = {"embedder": "tiny-vit", "kind": "pooled", "embedder_fingerprint": "abc"}
    save_image_adapter(tmp_path / "own", adapter, unet, **known, dtype=np.float32)
    stored = load_image_adapter(tmp_path / "own", unet)
    assert stored[1:] == ("tiny-vit", "pooled", "abc")
    z = jnp.asarray(rng.standard_normal((1, 7, 11)), jnp.float32)
    np.testing.assert_array_equal(stored.adapter.resampler(z), adapter.resampler(z))


def test_files_that_are_no_such_adapter_are_refused(file, unet, tmp_path):
    tensors = load_file(file)
    for lacking, said in (
        ("image_proj.latents", r"lacks image_proj\.latents; expected an image adapter in the layo"),
        ("ip_adapter.1.to_k_ip.weight", r"missing attention\.to_k_ip\.0\.weight"),
    ):
        save_file({k: v for k, v in tensors.items() if k != lacking}, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=said):
            load_image_adapter(tmp_path / "x.safetensors", unet)
    with pytest.raises(FileNotFoundError, match="no image adapter there; expected a folder with"):
        load_image_adapter(tmp_path / "nothing", unet)
    (tmp_path / "x.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="files of other kinds, such as pickles"):
        load_image_adapter(tmp_path / "x.bin", unet)
    folder = tmp_path / "own"
    known = {"embedder": "tiny-vit", "kind": "pooled", "embedder_fingerprint": "abc"}
    save_image_adapter(folder, load_image_adapter(file, unet).adapter, unet, **known)
    config = json.loads((folder / "config.json").read_text())
    del config["resampler"]["heads"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match=r"resampler has the keys .*; expected depth, embedding_wi"
    ):
        load_image_adapter(folder, unet)


def test_at_full_size_the_adapter_has_the_published_number_of_weights():
    unet = abstract_network(lambda rngs: UNet2DConditionModel(UNetConfig(), rngs=rngs))
    widths, heads = map(tuple, cross_attention_shapes(unet))
    adapter = abstract_network(
        lambda rngs: ImageAdapter(ResamplerConfig(), widths, heads, rngs=rngs)
    )
    shapes = {k: (v.shape) for k, v in embedded_shapes().items()}
    assert num_parameters(adapter.resampler) == sum(int(np.prod(s)) for s in shapes.values())
    # Two matrices of 768 x w in each of the 16 layers: 5 of 320, 5 of 640, 6 of 1280.
    assert num_parameters(adapter.attention) == 2 * 768 * (5 * 320 + 5 * 640 + 6 * 1280)


def test_at_full_size_an_image_is_a_stream_of_sixteen_tokens_for_every_layer():
    unet = abstract_network(lambda rngs: UNet2DConditionModel(UNetConfig(), rngs=rngs))
    widths, heads = map(tuple, cross_attention_shapes(unet))
    graph, state = nnx.split(
        abstract_network(lambda rngs: ImageAdapter(ResamplerConfig(), widths, heads, rngs=rngs))
    )
    z = jax.ShapeDtypeStruct((2, 257, 1280), jnp.float32)
    stream = jax.eval_shape(lambda state, z: nnx.merge(graph, state)(z).keys, state, z)
    assert [k.shape for k in stream] == [(2, 8, 16, w // 8) for w in widths] and len(stream) == 16


def embedded_shapes():
    with torch.device("meta"):
        return embeddings.IPAdapterPlusImageProjection(
            embed_dims=1280, output_dims=768, hidden_dims=768, depth=4, dim_head=64, heads=12,
            num_queries=16,
        ).state_dict()  # fmt: skip


def test_a_random_adapter_goes_through_a_file(unet, tmp_path):
    config = ResamplerConfig(11, 6, 1, 3, 2, 4, 8)
    widths, heads = map(tuple, cross_attention_shapes(unet))
    adapter = random_network(lambda rngs: ImageAdapter(config, widths, heads, rngs=rngs), 3)
    again = adapter_of_tensors(published_tensors(adapter, unet), unet, "memory", config)
    z = jnp.ones((1, 7, 11))
    np.testing.assert_array_equal(again(z).keys[2], adapter(z).keys[2])
