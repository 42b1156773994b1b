import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_backbone import random_network
from torch_reference import assert_close, randomise

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter, NeuroAdapterConfig
from neuroadapter_jax.adapter.token_mapper import TokenMapper
from neuroadapter_jax.diffusion.weights import from_tensors

pytest.importorskip("torch")
import torch

B, P, Q, F = 3, 7, 5, 24


class TorchMapper(torch.nn.Module):
    """PyTorch's own decoder layer, and the final norm that a norm-first transformer has."""

    def __init__(self):
        super().__init__()
        self.queries = torch.nn.Parameter(torch.empty(Q, F))
        self.region_embeddings = torch.nn.Parameter(torch.empty(P, F))
        self.layer = torch.nn.TransformerDecoderLayer(
            F, 8, 1024, dropout=0.0, activation="relu", batch_first=True, norm_first=True
        )
        self.norm = torch.nn.LayerNorm(F)

    def forward(self, tokens):
        queries = self.queries.expand(len(tokens), -1, -1)
        return self.norm(self.layer(queries, tokens + self.region_embeddings))

    def under_our_names(self):
        state = {name: value.numpy() for name, value in self.state_dict().items()}
        ours = {name: state[name] for name in ("queries", "region_embeddings")}
        for kind in ("weight", "bias"):
            ours[f"norm.{kind}"] = state[f"norm.{kind}"]
            for part in ("linear1", "linear2", "norm1", "norm2", "norm3"):
                ours[f"{part}.{kind}"] = state[f"layer.{part}.{kind}"]
            for own, theirs in (("self", "self_attn"), ("cross", "multihead_attn")):
                stacked = np.split(state[f"layer.{theirs}.in_proj_{kind}"], 3)
                for to, value in zip("qkv", stacked, strict=True):
                    ours[f"{own}_attention.to_{to}.{kind}"] = value
                out = state[f"layer.{theirs}.out_proj.{kind}"]
                ours[f"{own}_attention.to_out.0.{kind}"] = out
        return ours


def test_it_is_pytorchs_decoder_layer():
    reference = randomise(TorchMapper(), seed=3)
    abstract = abstract_network(lambda rngs: TokenMapper(Q, P, F, rngs=rngs))
    mapper = from_tensors(abstract, reference.under_our_names(), "reference", np.float32)
    tokens = np.random.default_rng(1).standard_normal((B, P, F)).astype(np.float32)
    truth = reference(torch.from_numpy(tokens)).detach().numpy()
    assert_close(mapper(jnp.asarray(tokens)), truth)


def test_a_width_that_the_heads_cannot_share():
    with pytest.raises(ValueError, match="width 20"):
        TokenMapper(Q, P, 20, rngs=nnx.Rngs(0))


def test_the_adapter_hands_on_the_queries():
    config = NeuroAdapterConfig(P, 11, F, (6, 10), (3, 5), token_queries=Q)
    adapter = random_network(lambda rngs: NeuroAdapter(config, rngs=rngs), 2)
    packed = jnp.asarray(np.random.default_rng(2).standard_normal((B, P, 11)), jnp.float32)
    keep = jnp.asarray(np.arange(B * Q).reshape(B, Q) % 3 > 0)
    tokens = adapter.tokens(packed, keep)
    whole = adapter.token_norm(adapter.token_mapper(adapter.region_projection(packed)))
    dropped = adapter.token_norm(jnp.zeros((1, 1, F)))[0]
    np.testing.assert_allclose(tokens[keep], whole[keep], atol=1e-5)
    np.testing.assert_allclose(tokens[~keep], jnp.broadcast_to(dropped, (5, F)), atol=1e-5)
    for stream, size in ((adapter(packed), B), (adapter.unconditional(), 1)):
        shapes = [(size, 3, Q, 2), (size, 5, Q, 2)]
        assert [k.shape for k in stream.keys] == [v.shape for v in stream.values] == shapes
