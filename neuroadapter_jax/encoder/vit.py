"""DINOv2's vision transformer (transformers' `Dinov2Model`), with or without registers."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import attend, merge_heads, split_heads
from neuroadapter_jax.errors import InputError


@dataclass(frozen=True)
class Dinov2Config:
    """The fields of a DINOv2 config.json that shape the network.

    `num_register_tokens` is a field of `Dinov2WithRegistersModel` alone.

    Attributes:
        hidden_size: width of the states.
        num_hidden_layers: transformer blocks.
        num_attention_heads: heads, which divide hidden_size.
        mlp_ratio: width of the feed-forward layer over hidden_size.
        image_size: rows and columns that the stored positions are for.
        patch_size: rows and columns of a patch.
        num_channels: of the images.
        layer_norm_eps: of the layer norms.
        qkv_bias: whether queries, keys and values have a bias.
        use_swiglu_ffn: whether the feed-forward layer is a SwiGLU.
        hidden_act: of the feed-forward layer, "gelu".
        num_register_tokens: registers, 0 for none.
    """

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mlp_ratio: int = 4
    image_size: int = 518
    patch_size: int = 14
    num_channels: int = 3
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    use_swiglu_ffn: bool = False
    hidden_act: str = "gelu"
    num_register_tokens: int = 0

    def __post_init__(self):
        if self.hidden_act != "gelu":
            raise InputError(f"DINOv2 config: hidden_act is {self.hidden_act!r}; expected 'gelu'.")


def position_matrix(old: int, new: int, antialias: bool) -> Float[np.ndarray, "new old"]:
    """Bicubic interpolation of `old` positions to `new` along one axis, as PyTorch does it.

    Without antialiasing a = -0.75 and the borders repeat; with it a = -0.5, the kernel widens by
    old / new where that shrinks, and its weights are normalised over the positions there are.
    """
    a = -0.5 if antialias else -0.75
    scale = old / new
    width = max(scale, 1.0) if antialias else 1.0
    centres = (np.arange(new) + 0.5) * scale - 0.5
    matrix = np.zeros((new, old))
    reach = int(np.ceil(2 * width)) + 1
    for row, centre in enumerate(centres):
        taps = np.arange(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1)
        x = np.abs(taps - centre) / width
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * x * a - 4 * a
        weights = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
        if antialias:
            inside = (taps >= 0) & (taps < old)
            weights = np.where(inside, weights, 0.0)
            weights /= weights.sum()
        np.add.at(matrix[row], taps.clip(0, old - 1), weights)
    return matrix.astype(np.float32)


class _PatchEmbeddings(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        side = config.patch_size
        self.projection = nnx.Conv(
            config.num_channels,
            config.hidden_size,
            (side, side),
            strides=(side, side),
            padding="VALID",
            rngs=rngs,
        )

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b rows columns f"]:
        return self.projection(images.astype(self.projection.kernel.dtype))


class _Embeddings(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width, side = config.hidden_size, config.image_size // config.patch_size
        self.config = config
        normal = jax.nn.initializers.truncated_normal(0.02)
        self.cls_token = nnx.Param(normal(rngs.params(), (1, 1, width)))
        self.position_embeddings = nnx.Param(normal(rngs.params(), (1, side**2 + 1, width)))
        if config.num_register_tokens:
            shape = (1, config.num_register_tokens, width)
            self.register_tokens = nnx.Param(normal(rngs.params(), shape))
        self.patch_embeddings = _PatchEmbeddings(config, rngs=rngs)

    def _positions(self, rows: int, columns: int) -> Float[Array, "1 k f"]:
        side = self.config.image_size // self.config.patch_size
        whole = self.position_embeddings[...]
        if (rows, columns) == (side, side):
            return whole
        antialias = self.config.num_register_tokens > 0
        grid = whole[:, 1:].reshape(side, side, -1)
        down, across = (position_matrix(side, new, antialias) for new in (rows, columns))
        grid = jnp.einsum("yi,xj,ijf->yxf", down, across, grid.astype(jnp.float32))
        patches = grid.reshape(1, rows * columns, -1).astype(whole.dtype)
        return jnp.concatenate([whole[:, :1], patches], axis=1)

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k f"]:
        patches = self.patch_embeddings(images)
        b, rows, columns, f = patches.shape

        def repeated(token):
            return jnp.broadcast_to(token[...], (b, *token.shape[1:]))

        tokens = jnp.concatenate(
            [repeated(self.cls_token), patches.reshape(b, rows * columns, f)], axis=1
        )
        tokens = tokens + self._positions(rows, columns)
        if not self.config.num_register_tokens:
            return tokens
        return jnp.concatenate(
            [tokens[:, :1], repeated(self.register_tokens), tokens[:, 1:]], axis=1
        )


class _Attention(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width, bias = config.hidden_size, config.qkv_bias
        self.num_heads = config.num_attention_heads
        self.q_proj = nnx.Linear(width, width, use_bias=bias, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, use_bias=bias, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, use_bias=bias, rngs=rngs)
        self.o_proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b k f"]) -> Float[Array, "b k f"]:
        q, k, v = (
            split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(merge_heads(attend(q, k, v)[0]))


class _LayerScale(nnx.Module):
    def __init__(self, width: int):
        self.lambda1 = nnx.Param(jnp.ones((width,)))

    def __call__(self, x: Float[Array, "b k f"]) -> Float[Array, "b k f"]:
        return x * self.lambda1[...]


class _MLP(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width = config.hidden_size
        self.fc1 = nnx.Linear(width, width * config.mlp_ratio, rngs=rngs)
        self.fc2 = nnx.Linear(width * config.mlp_ratio, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b k f"]) -> Float[Array, "b k f"]:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class _SwiGLU(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width = config.hidden_size
        # Two thirds of the other MLP's width, rounded up to a multiple of 8.
        hidden = (int(width * config.mlp_ratio * 2 / 3) + 7) // 8 * 8
        self.gate_proj = nnx.Linear(width, hidden, rngs=rngs)
        self.up_proj = nnx.Linear(width, hidden, rngs=rngs)
        self.down_proj = nnx.Linear(hidden, width, rngs=rngs)

    def __call__(self, x: Float[Array, "b k f"]) -> Float[Array, "b k f"]:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class _Layer(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        width, eps = config.hidden_size, config.layer_norm_eps
        self.norm1 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.attention = _Attention(config, rngs=rngs)
        self.layer_scale1 = _LayerScale(width)
        self.norm2 = nnx.LayerNorm(width, epsilon=eps, rngs=rngs)
        self.mlp = (_SwiGLU if config.use_swiglu_ffn else _MLP)(config, rngs=rngs)
        self.layer_scale2 = _LayerScale(width)

    def __call__(self, x: Float[Array, "b k f"]) -> Float[Array, "b k f"]:
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class _Encoder(nnx.Module):
    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        self.layer = nnx.List([_Layer(config, rngs=rngs) for _ in range(config.num_hidden_layers)])


class Dinov2Model(nnx.Module):
    """Normalised images [b, y, x, c] -> states of class, register and patch tokens [b, k, f].

    Oquab et al. 2023 (arXiv 2304.07193); registers: Darcet et al. 2023 (arXiv 2309.16588). Rows and
    columns are multiples of the patch; positions are interpolated to sizes other than the
    config's.

    Args:
        config: its sizes.
        rngs: of the random start; `load_dinov2` fills in stored weights.
    """

    config_class = Dinov2Config

    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = _Embeddings(config, rngs=rngs)
        self.encoder = _Encoder(config, rngs=rngs)
        self.layernorm = nnx.LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps, rngs=rngs)

    def __call__(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k f"]:
        x = self.embeddings(images)
        for layer in self.encoder.layer:
            x = layer(x)
        return self.layernorm(x)

    def patch_tokens(self, images: Float[Array, "b y x c"]) -> Float[Array, "b k f"]:
        """The final states of the patch tokens alone, row by row."""
        return self(images)[:, 1 + self.config.num_register_tokens :]

    def query_features(
        self, images: Float[Array, "b y x c"], block_from_end: int
    ) -> Float[Array, "b k f"]:
        """The queries of one block's attention for the patch tokens, heads side by side.

        q = W_q norm1(x) + b_q; later blocks are not computed.

        Args:
            images: normalised.
            block_from_end: 1 is the last block.

        Raises:
            InputError: there is no such block.
        """
        num = self.config.num_hidden_layers
        if not 1 <= block_from_end <= num:
            raise InputError(f"block_from_end is {block_from_end}; expected 1 to {num}.")
        x = self.embeddings(images)
        for layer in self.encoder.layer[: num - block_from_end]:
            x = layer(x)
        block = self.encoder.layer[num - block_from_end]
        return block.attention.q_proj(block.norm1(x))[:, 1 + self.config.num_register_tokens :]
