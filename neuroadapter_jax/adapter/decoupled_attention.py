"""Keys and values of the brain tokens for every cross-attention layer of the U-Net."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Stream, split_heads
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel

_DIFFUSERS_ORDER = ("down_blocks", "up_blocks", "mid_block")


class DecoupledAttention(nnx.Module):
    """Keys and values of the brain tokens for every cross-attention layer of the U-Net.

    K_l = E W_k,l and V_l = E W_v,l for each layer l, without bias. Beside the text's keys and
    values they make IP-Adapter's decoupled cross-attention (Ye et al. 2023, arXiv 2308.06721,
    eq. 5)::

        softmax(Q K_text' / sqrt(d)) V_text + scale softmax(Q K_l' / sqrt(d)) V_l

    The queries Q are the frozen U-Net's. The streams are added up inside the U-Net, which knows
    nothing of brains.

    Args:
        token_width: width f of the tokens E.
        widths: channels of each layer, h * d, in the U-Net's order of execution.
        heads: heads h of each layer.
        rngs: of the random start.

    Examples:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.adapter.decoupled_attention import DecoupledAttention
        >>> attention = DecoupledAttention(16, widths=(32, 64), heads=(2, 4), rngs=nnx.Rngs(0))
        >>> stream = attention(jnp.ones((3, 5, 16)))  # 3 samples of 5 tokens
        >>> [keys.shape for keys in stream.keys]  # per layer: sample, head, token, head width
        [(3, 2, 5, 16), (3, 4, 5, 16)]
    """

    def __init__(
        self, token_width: int, widths: Sequence[int], heads: Sequence[int], *, rngs: nnx.Rngs
    ):
        self.heads = tuple(heads)

        def bank():
            return nnx.List([nnx.Linear(token_width, w, use_bias=False, rngs=rngs) for w in widths])

        self.to_k_ip, self.to_v_ip = bank(), bank()

    def start_from_text(self, unet: UNet2DConditionModel) -> None:
        """Copy the U-Net's text key and value matrices, as the released code does.

        Args:
            unet: whose `attn2` layers have the widths of this one
        """
        layers = [attention for _, attention in unet.cross_attentions()]
        for own, layer in zip(self.to_k_ip, layers, strict=True):
            own.kernel[...] = jnp.asarray(layer.to_k.kernel[...], own.kernel.dtype)
        for own, layer in zip(self.to_v_ip, layers, strict=True):
            own.kernel[...] = jnp.asarray(layer.to_v.kernel[...], own.kernel.dtype)

    def __call__(
        self, tokens: Float[Array, "b p f"], scale: float | Float[Array, ""] = 1.0
    ) -> Stream:
        """The stream of tokens.

        Args:
            tokens: E [b, p, f].
            scale: weight of this stream's attention output beside the text's.
        """
        keys, values = (
            tuple(split_heads(to(tokens), h) for to, h in zip(bank, self.heads, strict=True))
            for bank in (self.to_k_ip, self.to_v_ip)
        )
        return Stream(keys, values, scale)


def cross_attention_shapes(unet: UNet2DConditionModel) -> tuple[list[int], list[int]]:
    """Width and number of heads of every cross-attention layer; works on abstract modules.

    Args:
        unet: whose layers the adapter will serve.

    Returns:
        Channels h * d of each layer, and heads h of each, both in order of execution.
    """
    layers = [attention for _, attention in unet.cross_attentions()]
    kernels = [jax.tree.leaves(nnx.state(layer.to_k, nnx.Param))[0] for layer in layers]
    return [kernel.shape[1] for kernel in kernels], [layer.num_heads for layer in layers]


def processor_indices(unet: UNet2DConditionModel) -> dict[str, int]:
    """{diffusers' layer name: its processor's place in `unet.attn_processors`}.

    IP-Adapter numbers its layers by that place. diffusers lists the middle block last, and every
    cross-attention after the self-attention beside it, so the places are odd. The keys stay in
    this package's order, the order of execution.

    Args:
        unet: whose layers are numbered.
    """
    layers = [name for name, _ in unet.cross_attentions()]
    listed = sorted(layers, key=lambda name: _DIFFUSERS_ORDER.index(name.split(".")[0]))
    return {name: 2 * listed.index(name) + 1 for name in layers}
