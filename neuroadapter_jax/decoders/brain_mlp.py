"""MindEye's residual brain MLP and its projector: responses to tokens of an image embedding."""

from dataclasses import dataclass

import jax
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.ranges import Count, CountFromZero, ShareBelowOne, check_fields


@dataclass(frozen=True)
class BrainMLPConfig:
    """Sizes of `BrainMLP`.

    Attributes:
        num_inputs: n, responses of a trial: the vertices of the chosen regions side by side.
        num_tokens: k, tokens of the embedding.
        width: c, of a token.
        hidden: h, width of the residual blocks; 4096 in MindEye, 512 for the simulated data.
        num_blocks: residual blocks.
        projector: width of the projector's hidden layers; 2048 in MindEye. 0: no projector.
        dropout_in: share of hidden values dropped after the first layer.
        dropout: the same in each residual block.

    Examples:
        >>> from neuroadapter_jax.decoders.brain_mlp import BrainMLPConfig
        >>> BrainMLPConfig(num_inputs=15_724).num_tokens  # MindEye on NSD's subject 1
        257
    """

    num_inputs: Count
    num_tokens: Count = 257
    width: Count = 768
    hidden: Count = 4096
    num_blocks: CountFromZero = 4
    projector: CountFromZero = 2048
    dropout_in: ShareBelowOne = 0.5
    dropout: ShareBelowOne = 0.15

    def __post_init__(self):
        check_fields(self)


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


def _dropped(x: Array, rate: float, key: Array | None) -> Array:
    """Inverted dropout, as PyTorch's; nothing is dropped without a key."""
    if key is None or rate == 0:
        return x
    return jax.numpy.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)


class _Block(nnx.Module):
    """Linear and LayerNorm, under PyTorch's numbers within a sequence."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.layers = nnx.Dict(
            {"0": nnx.Linear(inputs, outputs, rngs=rngs), "1": _norm(outputs, rngs)}
        )

    def __call__(self, x: Float[Array, "b i"], rate: float, key: Array | None) -> Array:
        return _dropped(_gelu(self.layers["1"](self.layers["0"](x))), rate, key)


class BrainMLP(nnx.Module):
    """Responses [b, n] -> backbone B [b, k, c] and projection P [b, k, c].

    ::

        x = Dropout(GELU(LN(W_0 x)))
        x = x + Dropout(GELU(LN(W_i x)))          for each residual block i
        B = W_out x, as k tokens of width c
        P = W GELU(LN(W GELU(LN(W GELU(LN(B))))))  token by token, for the contrastive loss alone

    MindEye's `BrainNetwork` (Scotti et al. 2023, arXiv 2305.18274, appendix A), which DREAM takes
    over. `tensor_names` gives that class's names.

    Args:
        config: its sizes.
        rngs: of the random start.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.decoders.brain_mlp import BrainMLP, BrainMLPConfig
        >>> config = BrainMLPConfig(7, num_tokens=2, width=3, hidden=5, projector=4)
        >>> backbone, projection = BrainMLP(config, rngs=nnx.Rngs(0))(jnp.ones((1, 7)))
        >>> backbone.shape, projection.shape
        ((1, 2, 3), (1, 2, 3))
    """

    def __init__(self, config: BrainMLPConfig, *, rngs: nnx.Rngs):
        self.config = config
        c, m = config.width, config.projector
        self.lin0 = _Block(config.num_inputs, config.hidden, rngs=rngs)
        self.mlp = nnx.List(
            [_Block(config.hidden, config.hidden, rngs=rngs) for _ in range(config.num_blocks)]
        )
        self.lin1 = nnx.Linear(config.hidden, config.num_tokens * c, rngs=rngs)
        self.projector = (
            None
            if m == 0
            else nnx.Dict(
                {
                    "0": _norm(c, rngs),
                    "2": nnx.Linear(c, m, rngs=rngs),
                    "3": _norm(m, rngs),
                    "5": nnx.Linear(m, m, rngs=rngs),
                    "6": _norm(m, rngs),
                    "8": nnx.Linear(m, c, rngs=rngs),
                }
            )
        )

    def __call__(
        self, fmri: Float[Array, "b n"], key: Array | None = None
    ) -> tuple[Float[Array, "b k c"], Float[Array, "b k c"] | None]:
        """The backbone and its projection; None for the latter without a projector.

        Args:
            fmri: z-scored responses, flat; a region that is silenced is 0, its training mean.
            key: of the dropout while training; None drops nothing.
        """
        config = self.config
        keys: list[Array | None] = [None] * (1 + config.num_blocks)
        if key is not None:
            keys = list(jax.random.split(key, 1 + config.num_blocks))
        x = self.lin0(fmri, config.dropout_in, keys[0])
        for block, own in zip(self.mlp, keys[1:], strict=True):
            x = x + block(x, config.dropout, own)
        backbone = self.lin1(x).reshape(len(x), config.num_tokens, config.width)
        if self.projector is None:
            return backbone, None
        p = self.projector
        x = p["2"](_gelu(p["0"](backbone)))
        x = p["5"](_gelu(p["3"](x)))
        return backbone, p["8"](_gelu(p["6"](x)))


def tensor_names(name: str) -> str:
    """The name in MindEye's checkpoints of a tensor of `BrainMLP`, as `weights.to_tensors` has it.

    Args:
        name: of this package.

    Examples:
        >>> from neuroadapter_jax.decoders.brain_mlp import tensor_names
        >>> tensor_names("mlp.3.layers.0.weight")
        'mlp.3.0.weight'
    """
    return name.replace(".layers.", ".")
