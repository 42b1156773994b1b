"""Attention in one kernel that never writes the weights to memory: cuDNN's on NVIDIA, flash on TPU.

`attention.attend` offers these to the platform that is lowered for; what they refuse is computed
with whole weights, as everywhere else.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.shard_alike import shard_alike
from jaxtyping import Array, Float

# Queries times keys below which the weights are too small for a kernel of their own to pay.
_SMALL = 2**14
# The widest head of cuDNN's kernel on every card that has it; wider ones need Hopper.
_CUDNN_WIDTH = 128
# The oldest compute capability whose tensor cores multiply bfloat16: Ampere.
BFLOAT16_CAPABILITY = (8, 0)
# The flash kernel's blocks of queries and keys.
_FLASH_BLOCK = 128

Attend = Callable[
    [Float[Array, "b h q d"], Float[Array, "#b h k d"], Float[Array, "#b h k d"]],
    Float[Array, "b h q d"],
]


class Hardware(NamedTuple):
    """The accelerators that this process may lower a program for.

    Attributes:
        nvidia: the oldest compute capability of the process's NVIDIA GPUs, such as (9, 0) for an
            H100; None without one.
        cudnn: whether JAX finds cuDNN.
        num_tpus: TPU devices of all processes.
        others: whether there is an accelerator that is neither.
    """

    nvidia: tuple[int, int] | None = None
    cudnn: bool = False
    num_tpus: int = 0
    others: bool = False


NONE = Hardware()


@functools.cache
def hardware() -> Hardware:
    """The accelerators of this process, looked up once."""
    cards = [d for d in _devices("cuda") if d.process_index == jax.process_index()]
    tpus = _devices("tpu")
    return Hardware(
        nvidia=min(map(_capability, cards), default=None),
        cudnn=bool(cards) and _has_cudnn(),
        num_tpus=len(tpus),
        others=not (cards or tpus) and jax.default_backend() != "cpu",
    )


def _capability(card: jax.Device) -> tuple[int, int]:
    major, minor = card.compute_capability.split(".")
    return int(major), int(minor)


def _devices(platform: str) -> list[jax.Device]:
    try:
        return jax.devices(platform)
    except RuntimeError:  # JAX was started without this platform
        return []


def _has_cudnn() -> bool:
    """Whether JAX takes attention by cuDNN; it asks for the library where it is traced."""
    x = jax.ShapeDtypeStruct((1, 64, 1, 64), jnp.bfloat16)
    try:
        jax.eval_shape(lambda x: jax.nn.dot_product_attention(x, x, x, implementation="cudnn"), x)
    except (RuntimeError, NotImplementedError) as error:
        _say_once(f"JAX finds no cuDNN that it can use ({error})")
        return False
    return True


def fused_kernels(q: Array, k: Array) -> dict[str, Attend]:
    """platform -> the kernel that takes attention of these shapes and precision there.

    Args:
        q: queries [b, h, q, d].
        k: keys [b or 1, h, k, d].
    """
    found = hardware()
    kernels: dict[str, Attend] = {}
    if q.shape[2] * k.shape[2] < _SMALL:
        return {}
    if found.nvidia is not None and found.cudnn:
        if reason := _cudnn_refuses(q, k, found.nvidia):
            _say_once(reason)
        else:
            kernels["cuda"] = attend_by_cudnn
    if found.num_tpus:
        if reason := _flash_refuses(q, k, found.num_tpus):
            _say_once(reason)
        else:
            kernels["tpu"] = attend_by_flash
    return kernels


def _cudnn_refuses(q: Array, k: Array, capability: tuple[int, int]) -> str | None:
    width = q.shape[-1]
    if capability < BFLOAT16_CAPABILITY:
        name = ".".join(map(str, capability))
        return f"cuDNN's kernel needs compute capability 8.0 or newer, and this GPU has {name}"
    if not q.dtype == k.dtype == jnp.bfloat16:
        return f"cuDNN's kernel computes in bfloat16, and these are {q.dtype}"
    if len(k) < len(q) and q.shape[2] < k.shape[2]:
        return f"{k.shape[2]} keys that serve every sample are more than {q.shape[2]} queries"
    if q.shape[2] % 2:
        return f"cuDNN's kernel takes an even number of queries, not {q.shape[2]}"
    if width > _CUDNN_WIDTH or width % 8:
        return f"cuDNN's kernel takes heads of 8, 16, ... {_CUDNN_WIDTH} numbers, not of {width}"
    return None


def _flash_refuses(q: Array, k: Array, num_devices: int) -> str | None:
    width = q.shape[-1]
    if num_devices > 1:
        return "the TPU's kernel cannot be cut over several devices"
    if width > _FLASH_BLOCK and width % _FLASH_BLOCK:
        return f"the TPU's kernel takes heads of up to {_FLASH_BLOCK} numbers, not of {width}"
    if q.shape[2] % _FLASH_BLOCK:
        return f"the TPU's kernel takes multiples of {_FLASH_BLOCK} queries, not {q.shape[2]}"
    return None


@functools.cache
def _say_once(reason: str) -> None:
    warnings.warn(
        f"Some attention is computed with whole weights, which takes more memory: {reason}.",
        stacklevel=4,
    )


def attend_by_cudnn(
    q: Float[Array, "b h q d"], k: Float[Array, "#b h k d"], v: Float[Array, "#b h k d"]
) -> Float[Array, "b h q d"]:
    """softmax(q k' / sqrt(d)) v by cuDNN, derivative included."""
    return attend_with_lengths(q, k, v, "cudnn")


def attend_with_lengths(
    q: Float[Array, "b h q d"],
    k: Float[Array, "#b h k d"],
    v: Float[Array, "#b h k d"],
    implementation: Literal["cudnn", "xla"],
) -> Float[Array, "b h q d"]:
    """softmax(q k' / sqrt(d)) v by `jax.nn.dot_product_attention`.

    An odd number of keys, which cuDNN's derivative does not take, is made even by a key that is
    masked.

    Args:
        q: queries.
        k: keys; batch 1 serves every sample.
        v: values.
        implementation: "cudnn", or "xla" for the same mathematics on any platform.
    """
    b, num_keys = len(q), k.shape[2]
    k, v = (_for_every_sample(x, q) for x in (k, v))
    lengths = None
    if num_keys % 2:
        k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, 1), (0, 0))) for x in (k, v))
        lengths = jnp.full((b,), num_keys, jnp.int32)
    # JAX wants the heads behind the positions, which is how they were before `split_heads`.
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    out = jax.nn.dot_product_attention(
        q, k, v, key_value_seq_lengths=lengths, implementation=implementation
    )
    return out.swapaxes(1, 2)


def _for_every_sample(
    x: Float[Array, "#b h k d"], q: Float[Array, "b h q d"]
) -> Float[Array, "b h k d"]:
    """Keys or values of batch 1 repeated, cut over the devices as the queries are.

    JAX refuses cuDNN's attention with keys that lie elsewhere than the queries, and XLA would leave
    what is repeated whole on every device.
    """
    if len(x) == len(q):
        return x
    x = jnp.broadcast_to(x, (len(q), *x.shape[1:]))
    x, _ = shard_alike(x, jax.lax.stop_gradient(q[:, :, : x.shape[2]]))
    return x


def attend_by_flash(
    q: Float[Array, "b h q d"], k: Float[Array, "#b h k d"], v: Float[Array, "#b h k d"]
) -> Float[Array, "b h q d"]:
    """softmax(q k' / sqrt(d)) v by JAX's flash kernel for TPUs, derivative included.

    Keys are filled up to whole blocks with keys that belong to no query.
    """
    from jax.experimental.pallas.ops.tpu.flash_attention import SegmentIds, flash_attention

    b, num_keys = len(q), k.shape[2]
    missing = -num_keys % _FLASH_BLOCK
    k, v = (jnp.broadcast_to(x, (b, *x.shape[1:])) for x in (k, v))
    segments = None
    if missing:
        k, v = (jnp.pad(x, ((0, 0), (0, 0), (0, missing), (0, 0))) for x in (k, v))
        filled = (jnp.arange(num_keys + missing) >= num_keys).astype(jnp.int32)
        segments = SegmentIds(
            jnp.zeros((b, q.shape[2]), jnp.int32), jnp.broadcast_to(filled, (b, k.shape[2]))
        )
    return flash_attention(q, k, v, segment_ids=segments, sm_scale=q.shape[-1] ** -0.5)
