"""The region encoder against PyTorch's own layers, rows against a plain loop."""

import jax
import numpy as np
import pytest
from flax import nnx
from tiny_backbone import random_network
from tiny_encoder import parcellation

from neuroadapter_jax.encoder.region_encoder import (
    RegionEncoder,
    RegionEncoderConfig,
    make_rows,
    sine_positions,
)

torch = pytest.importorskip("torch")

WIDTH, HEADS, MLP = 20, 5, 13


def test_rows_hold_every_vertex_once_and_no_row_two_regions():
    regions = parcellation()
    rows = make_rows(regions, 4)
    mask, index = np.asarray(rows.packing.mask), np.asarray(rows.packing.index)
    assert index.shape == (2 + 3 + 1 + 2, 4)
    found = {i: [] for i in range(4)}
    for row, region in enumerate(np.asarray(rows.region)):
        found[region] += index[row][mask[row]].tolist()
    for i in range(4):
        assert found[i] == regions.cortex_indices(i).tolist()


def detr_positions(rows, columns, width):
    """DETR's PositionEmbeddingSine with normalize=True, in PyTorch."""
    ones = torch.ones(1, rows, columns)
    y, x = ones.cumsum(1), ones.cumsum(2)
    y = y / (y[:, -1:, :] + 1e-6) * 2 * torch.pi
    x = x / (x[:, :, -1:] + 1e-6) * 2 * torch.pi
    half = width // 2
    rate = torch.arange(half, dtype=torch.float32)
    rate = 10000 ** (2 * torch.div(rate, 2, rounding_mode="floor") / half)
    codes = []
    for axis in (y, x):
        angles = axis[..., None] / rate
        codes.append(
            torch.stack((angles[..., 0::2].sin(), angles[..., 1::2].cos()), dim=4).flatten(3)
        )
    return torch.cat(codes, dim=3)[0].reshape(rows * columns, width)


def test_positions_are_detrs():
    expected = detr_positions(3, 5, WIDTH).numpy()
    np.testing.assert_allclose(sine_positions(3, 5, WIDTH), expected, atol=2e-5)


def test_the_width_of_positions():
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_positions(3, 5, 18)


def linear(layer):
    return (
        torch.from_numpy(np.asarray(layer.kernel[...]).T.copy()),
        torch.from_numpy(np.asarray(layer.bias[...]).copy()),
    )


def test_tokens_and_responses_equal_pytorchs_layers():
    regions = parcellation()
    rows = make_rows(regions, 4)
    config = RegionEncoderConfig(4, len(rows.region), 4, WIDTH, HEADS, MLP)
    ours = random_network(lambda rngs: RegionEncoder(config, rngs=rngs), 1)
    features = jax.random.normal(jax.random.key(2), (3, 15, WIDTH))

    attention = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    parts = [linear(getattr(ours.attention, f"to_{name}")) for name in "qkv"]
    attention.in_proj_weight.data = torch.cat([weight for weight, _ in parts])
    attention.in_proj_bias.data = torch.cat([bias for _, bias in parts])
    attention.out_proj.weight.data, attention.out_proj.bias.data = linear(ours.attention.to_out[0])

    def norm(x, layer):
        scale, bias = (torch.from_numpy(np.array(v[...])) for v in (layer.scale, layer.bias))
        return torch.nn.functional.layer_norm(x, (WIDTH,), scale, bias, 1e-5)

    with torch.no_grad():
        memory = torch.from_numpy(np.array(features))
        queries = torch.from_numpy(np.array(ours.queries[...])).expand(3, -1, -1)
        x = norm(attention(queries, memory + detr_positions(3, 5, WIDTH), memory)[0], ours.norm1)
        hidden = torch.relu(torch.nn.functional.linear(x, *linear(ours.linear1)))
        x = norm(x + torch.nn.functional.linear(hidden, *linear(ours.linear2)), ours.norm2)
        tokens = norm(x, ours.norm).numpy()
    np.testing.assert_allclose(ours.tokens(features, (3, 5)), tokens, atol=2e-5)

    found = np.asarray(ours(features, (3, 5), rows))
    weights, bias = np.asarray(ours.readout_weights[...]), np.asarray(ours.readout_bias[...])
    for row, region in enumerate(np.asarray(rows.region)):
        for slot in range(4):
            expected = tokens[:, region] @ weights[row, slot] + bias[row, slot]
            if not rows.packing.mask[row, slot]:
                expected = np.zeros(3)
            np.testing.assert_allclose(found[:, row, slot], expected, atol=5e-5)


def test_dropout_keeps_the_mean_and_needs_a_key():
    rows = make_rows(parcellation(), 4)
    config = RegionEncoderConfig(4, len(rows.region), 4, WIDTH, HEADS, MLP, dropout=0.5)
    encoder = RegionEncoder(config, rngs=nnx.Rngs(0))
    x = jax.numpy.full((1009, 31), 2.0)
    dropped = np.asarray(encoder._dropped(x, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, 4.0}
    assert abs(dropped.mean() - 2.0) < 0.05
    np.testing.assert_array_equal(encoder._dropped(x, None), x)
