"""DINOv2 against transformers' own, at random weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.diffusion.weights import from_tensors
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model, position_matrix

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PLAIN = {
    "hidden_size": 44,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "mlp_ratio": 3,
    "image_size": 35,
    "patch_size": 5,
}
OTHER = {
    "hidden_size": 26,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 33,
    "patch_size": 3,
    "use_swiglu_ffn": True,
    "qkv_bias": False,
}


def pair(fields, registers):
    if registers:
        fields = fields | {"num_register_tokens": registers}
        config = transformers.Dinov2WithRegistersConfig(**fields)
        theirs = transformers.Dinov2WithRegistersModel(config).eval()
    else:
        theirs = transformers.Dinov2Model(transformers.Dinov2Config(**fields)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) / max(parameter.shape[-1], 1) ** 0.5)
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    tensors.pop("embeddings.mask_token")
    abstract = abstract_network(lambda rngs: Dinov2Model(Dinov2Config(**fields), rngs=rngs))
    return theirs, from_tensors(abstract, tensors, "test", jnp.float32)


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize(
    ("fields", "size"), [(PLAIN, (35, 35)), (PLAIN, (25, 65)), (OTHER, (39, 33))]
)
def test_states_and_queries_agree(fields, size, registers, rng):
    theirs, ours = pair(fields, registers)
    images = rng.standard_normal((2, *size, 3)).astype(np.float32)
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
    caught = []
    layer = theirs.encoder.layer[-2].attention.q_proj
    hook = layer.register_forward_hook(lambda module, args, out: caught.append(out))
    with torch.no_grad():
        expected = theirs(x).last_hidden_state.numpy()
    hook.remove()
    found = np.asarray(ours(jnp.asarray(images)))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    first = 1 + registers
    np.testing.assert_array_equal(found[:, first:], ours.patch_tokens(jnp.asarray(images)))
    queries = np.asarray(ours.query_features(jnp.asarray(images), 2))
    expected = caught[0].numpy()[:, first:]
    np.testing.assert_allclose(queries, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), [(7, 13), (13, 7), (37, 31), (2, 5)])
def test_positions_are_interpolated_as_in_pytorch(old, new, antialias, rng):
    values = rng.standard_normal((1, 1, old, old)).astype(np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values),
        size=(new, new),
        mode="bicubic",
        align_corners=False,
        antialias=antialias,
    ).numpy()[0, 0]
    matrix = position_matrix(old, new, antialias)
    np.testing.assert_allclose(matrix @ values[0, 0] @ matrix.T, expected, atol=1e-4)


def test_a_block_that_is_not_there_is_refused(as_user):
    _, ours = pair(OTHER, 0)
    with pytest.raises(ValueError, match="block_from_end is 3; expected 1 to 2"):
        ours.query_features(jnp.zeros((1, 33, 33, 3)), 3)
