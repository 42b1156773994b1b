"""Keys and values of the brain tokens for every cross-attention layer of the U-Net."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Stream, split_heads
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel


class DecoupledAttention(nnx.Module):
    """K_l = E W_k,l and V_l = E W_v,l for each layer l, without bias.

    Beside the text's keys and values they make IP-Adapter's decoupled cross-attention (Ye et al.
    2023, arXiv 2308.06721, eq. 5); the queries are the frozen U-Net's.

    Args:
        token_width: f.
        widths: channels of each layer, h * d.
        heads: heads of each layer.
    """

    def __init__(
        self, token_width: int, widths: Sequence[int], heads: Sequence[int], *, rngs: nnx.Rngs
    ):
        self.heads = tuple(heads)

        def bank():
            return nnx.List([nnx.Linear(token_width, w, use_bias=False, rngs=rngs) for w in widths])

        self.to_k_ip, self.to_v_ip = bank(), bank()

    def start_from_text(self, unet: UNet2DConditionModel) -> None:
        """Copy the U-Net's text key and value matrices, as the released code does."""
        layers = [attention for _, attention in unet.cross_attentions()]
        for own, layer in zip(self.to_k_ip, layers, strict=True):
            own.kernel[...] = jnp.asarray(layer.to_k.kernel[...], own.kernel.dtype)
        for own, layer in zip(self.to_v_ip, layers, strict=True):
            own.kernel[...] = jnp.asarray(layer.to_v.kernel[...], own.kernel.dtype)

    def __call__(
        self, tokens: Float[Array, "b p f"], scale: float | Float[Array, ""] = 1.0
    ) -> Stream:
        """The stream of tokens [b, p, f]."""
        keys, values = (
            tuple(split_heads(to(tokens), h) for to, h in zip(bank, self.heads, strict=True))
            for bank in (self.to_k_ip, self.to_v_ip)
        )
        return Stream(keys, values, scale)


def cross_attention_shapes(unet: UNet2DConditionModel) -> tuple[list[int], list[int]]:
    """Width and number of heads of every cross-attention layer; works on abstract modules."""
    layers = [attention for _, attention in unet.cross_attentions()]
    kernels = [jax.tree.leaves(nnx.state(layer.to_k, nnx.Param))[0] for layer in layers]
    return [kernel.shape[1] for kernel in kernels], [layer.num_heads for layer in layers]
