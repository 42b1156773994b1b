"""LoRA: a small tree of parameters that is added to the kernels of a frozen network."""

import functools
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.weights import tensor_name
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, check

_Module = TypeVar("_Module", bound=nnx.Module)

# What the ends of layers' names say they are: diffusers' names of them.
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# What LCM-LoRA trains (Luo et al. 2023, arXiv 2311.05556): every product of a U-Net's blocks.
ALL_PRODUCTS = (
    *ATTENTION,
    *("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"),
    "time_emb_proj",
)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["down", "up"], meta_fields=["scales"]
)
@dataclass(frozen=True)
class Lora:
    """Low-rank changes of the kernels of some layers, as a pytree.

    W' = W + scale down up, of a linear layer with down [inputs, r] and up [r, outputs]. Of a
    convolution down is [rows, columns, inputs, r], and up stays [r, outputs] (Hu et al. 2021, arXiv
    2106.09685, eq. 3; scale is their alpha / r).

    Attributes:
        down: layer's name -> its first matrix, in the axis order of this package's kernels.
        up: layer's name -> its second matrix [r, outputs].
        scales: (layer's name, scale) of those whose scale is not 1; no parameters.

    Examples:
        >>> import jax
        >>> from neuroadapter_jax.diffusion.lora import init_lora
        >>> from neuroadapter_jax.diffusion.weights import load_component
        >>> lora = init_lora(load_component("tiny-sd", "unet"), jax.random.key(0), rank=4)
        >>> layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
        >>> len(lora.down), lora.down[layer].shape, lora.up[layer].shape
        (56, (128, 4), (4, 128))
    """

    down: dict[str, Array]
    up: dict[str, Array]
    scales: tuple[tuple[str, float], ...] = ()

    @property
    def num_parameters(self) -> int:
        """How many numbers both matrices of all layers have together."""
        return sum(x.size for x in jax.tree.leaves((self.down, self.up)))

    def replace_arrays(self, arrays: Mapping[str, Any]) -> "Lora":
        """The same layers and scales with other matrices, {"down": ..., "up": ...}."""
        return Lora(dict(arrays["down"]), dict(arrays["up"]), self.scales)


def layer_kernels(module: nnx.Module) -> dict[str, tuple[int, ...]]:
    """The name and the kernel's shape of every linear layer and convolution; or of abstract ones.

    Args:
        module: any NNX module; names are PyTorch's, such as "mid_block.resnets.0.conv1".

    Examples:
        >>> from neuroadapter_jax.diffusion.lora import layer_kernels
        >>> from neuroadapter_jax.diffusion.weights import load_component
        >>> layer_kernels(load_component("tiny-sd", "unet"))["conv_in"]
        (3, 3, 4, 64)
    """
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {
        _layer_name(path): tuple(leaf.shape)
        for path, leaf in flat
        if path[-1] == "kernel" and len(leaf.shape) in (2, 4)
    }


def _layer_name(path: tuple) -> str:
    return tensor_name(path).removesuffix(".weight")


def init_lora(
    module: nnx.Module,
    key: Array,
    rank: int,
    targets: Collection[str] = ATTENTION,
    alpha: float | None = None,
) -> Lora:
    """A LoRA that changes nothing yet: down from U(-a, a), a = 1 / sqrt(inputs), and up of zeros.

    Args:
        module: whose layers are changed: a U-Net, or an adapter that makes keys and values.
        key: random key of `down`.
        rank: r of every layer, at least 1.
        targets: ends of the names of the layers, such as `ATTENTION` or `ALL_PRODUCTS`.
        alpha: the scale is alpha / rank; None for a scale of 1.

    Raises:
        SettingError: a rank below 1.
        InputError: no layer has such a name.
    """
    check("rank", rank, Count)
    shapes = {
        name: shape
        for name, shape in layer_kernels(module).items()
        if any(name == target or name.endswith(f".{target}") for target in targets)
    }
    if not shapes:
        raise InputError(
            f"No layer's name ends with one of {list(targets)}; expected ends of names such as "
            f"{next(iter(layer_kernels(module)), 'those of the module')}."
        )
    down: dict[str, Array] = {}
    up: dict[str, Array] = {}
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        own = jax.random.fold_in(key, number)
        down[name] = jax.random.uniform(own, (*shape[:-1], rank), minval=-bound, maxval=bound)
        up[name] = jnp.zeros((rank, shape[-1]))
    scale = 1.0 if alpha is None else alpha / rank
    return Lora(down, up, () if scale == 1.0 else tuple((name, scale) for name in sorted(shapes)))


def add_lora(params: Any, lora: Lora) -> Any:
    """Parameters with W + scale down up in place of every W that the LoRA changes.

    Pure: gradients with respect to the LoRA's arrays pass through it. The sum is taken in float32
    and rounded to the parameters' precision.

    Args:
        params: `nnx.state(module, nnx.Param)`.
        lora: of the same module.

    Raises:
        InputError: a layer that the parameters lack, or one of another shape.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from neuroadapter_jax.diffusion.lora import Lora, add_lora
        >>> params = nnx.state(nnx.Dict({"to_q": nnx.Linear(2, 2, rngs=nnx.Rngs(0))}), nnx.Param)
        >>> lora = Lora({"to_q": jnp.ones((2, 1))}, {"to_q": jnp.ones((1, 2))})
        >>> changed = add_lora(params, lora)
        >>> bool(jnp.allclose(changed["to_q"]["kernel"][...], params["to_q"]["kernel"][...] + 1))
        True
    """
    scales, left = dict(lora.scales), set(lora.down)
    flat = []
    for path, leaf in nnx.to_flat_state(params):
        name = _layer_name(path)
        if path[-1] == "kernel" and name in left:
            left.remove(name)
            kernel = leaf[...]
            change = lora.down[name].astype(jnp.float32) @ lora.up[name].astype(jnp.float32)
            if change.shape != kernel.shape:
                raise InputError(
                    f"The LoRA changes {name} by an array of shape {change.shape}; expected "
                    f"{kernel.shape}, so it is one of another network."
                )
            total = kernel.astype(jnp.float32) + scales.get(name, 1.0) * change
            leaf = leaf.replace(total.astype(kernel.dtype))
        flat.append((path, leaf))
    if left:
        raise InputError(
            f"The LoRA changes {len(left)} layer(s) that the network lacks, such as "
            f"{min(left)}; expected one of the same network."
        )
    return nnx.from_flat_state(flat)


def with_lora(module: _Module, lora: Lora, strength: float | Float[Array, ""] = 1.0) -> _Module:
    """The same network with a LoRA added to its parameters; `module` is left as it is.

    Args:
        module: any NNX module.
        lora: of the same module.
        strength: what the LoRA's change is multiplied by; 1 is all of it.

    Raises:
        InputError: a layer that the module lacks, or one of another shape.
    """
    graph, params, *rest = nnx.split(module, nnx.Param, ...)
    up = {name: strength * x for name, x in lora.up.items()}
    return nnx.merge(graph, add_lora(params, Lora(lora.down, up, lora.scales)), *rest)
