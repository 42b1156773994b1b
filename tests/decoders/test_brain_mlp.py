"""MindEye's residual MLP against the same network in PyTorch: values and gradients to 1e-5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.decoders.brain_mlp import BrainMLP, BrainMLPConfig, tensor_names
from neuroadapter_jax.diffusion.weights import num_parameters, to_tensors

pytest.importorskip("torch")
import torch

CONFIG = BrainMLPConfig(13, num_tokens=3, width=5, hidden=11, num_blocks=2, projector=7)


class Reference(torch.nn.Module):
    """Written from the specification, with the published checkpoint's names."""

    def __init__(self, config):
        super().__init__()
        nn, h, c, m = torch.nn, config.hidden, config.width, config.projector
        self.c = c
        self.lin0 = nn.Sequential(nn.Linear(config.num_inputs, h), nn.LayerNorm(h), nn.GELU())
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(h, h), nn.LayerNorm(h), nn.GELU())
            for _ in range(config.num_blocks)
        )
        self.lin1 = nn.Linear(h, config.num_tokens * c)
        self.projector = nn.Sequential(
            nn.LayerNorm(c), nn.GELU(), nn.Linear(c, m),
            nn.LayerNorm(m), nn.GELU(), nn.Linear(m, m),
            nn.LayerNorm(m), nn.GELU(), nn.Linear(m, c),
        )  # fmt: skip

    def forward(self, x):
        x = self.lin0(x)
        for block in self.mlp:
            x = x + block(x)
        backbone = self.lin1(x).reshape(len(x), -1, self.c)
        return backbone, self.projector(backbone)


@pytest.fixture(scope="module")
def pair():
    ours = BrainMLP(CONFIG, rngs=nnx.Rngs(3))
    tensors = {
        tensor_names(name): torch.from_numpy(value.copy())
        for name, value in to_tensors(ours).items()
    }
    generator = torch.Generator().manual_seed(5)
    reference = Reference(CONFIG)
    reference.load_state_dict(tensors)
    return ours, reference, torch.randn((7, 13), generator=generator)


def test_both_outputs_and_the_gradient_agree_with_pytorch(pair):
    ours, reference, x = pair
    truth = reference(x)
    graph, params = nnx.split(ours)

    def loss(params, x):
        backbone, projection = nnx.merge(graph, params)(x)
        return jnp.sum(backbone**2) + jnp.sum(projection**3), (backbone, projection)

    x = jnp.asarray(x.numpy())
    (_, found), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, x)
    for mine, its in zip(found, truth, strict=True):
        np.testing.assert_allclose(mine, its.detach().numpy(), rtol=0, atol=1e-5)
    ((truth[0] ** 2).sum() + (truth[1] ** 3).sum()).backward()
    gradient = to_tensors(nnx.merge(graph, grads))
    for name, parameter in reference.named_parameters():
        own = next(value for key, value in gradient.items() if tensor_names(key) == name)
        scale = parameter.grad.abs().max().item()
        np.testing.assert_allclose(own / scale, parameter.grad.numpy() / scale, rtol=0, atol=1e-5)


def test_dropout_needs_a_key_and_keeps_the_mean(pair):
    ours, _, x = pair
    x = jnp.asarray(x.numpy())
    still, other = ours(x)[0], ours(x, jax.random.key(1))[0]
    assert np.array_equal(still, ours(x)[0]) and not np.allclose(still, other)


def test_at_full_size_it_has_the_parameters_that_the_specification_counts():
    tiny = BrainMLPConfig(2428, num_tokens=17, width=192, hidden=512, projector=512)
    model = abstract_network(lambda rngs: BrainMLP(tiny, rngs=rngs))
    projector = sum(
        np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)["projector"])
    )
    assert round(projector / 1e6, 2) == 0.46
    assert round((num_parameters(model) - projector) / 1e6, 1) == 4.0
    full = abstract_network(lambda rngs: BrainMLP(BrainMLPConfig(15_724), rngs=rngs))
    assert 0.9e9 < num_parameters(full) < 1.0e9
