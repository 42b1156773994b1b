"""In what a network holds its parameters and computes; norms and softmax are always of float32."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.ranges import check

Precision = Literal["fp32", "bf16"]
PRECISIONS = {"fp32": jnp.float32, "bf16": jnp.bfloat16}
# Of the command line: that of `default_precision`.
AUTO = "auto"


def default_precision() -> Precision:
    """What suits this process's first device: "bf16" on a TPU or a GPU that has it, else "fp32".

    In bfloat16 a GPU's tensor cores and the fused attention are used, and a sampling step takes a
    third of the memory; docs/scaling.md shows what it changes in images, views and scores. NVIDIA
    GPUs have it from compute capability 8.0 (Ampere) on. CPUs have to convert at every operation.

    Examples:
        >>> from neuroadapter_jax.diffusion.precision import default_precision
        >>> default_precision()  # on a CPU
        'fp32'
    """
    found = attention_fused.hardware()
    if jax.default_backend() == "cpu":
        return "fp32"
    oldest = attention_fused.BFLOAT16_CAPABILITY
    has_it = found.num_tpus or (found.nvidia is not None and found.nvidia >= oldest)
    return "bf16" if has_it else "fp32"


def chosen_precision(name: str) -> Precision:
    """A precision by its name, "auto" being `default_precision`.

    Args:
        name: "fp32", "bf16" or "auto".

    Raises:
        SettingError: another one.
    """
    check("precision", name, Literal["fp32", "bf16", "auto"])
    if name == AUTO:
        return default_precision()
    return "bf16" if name == "bf16" else "fp32"


def precision_of(params: Any) -> Precision:
    """The precision in which parameters are held.

    Args:
        params: a tree of arrays, all of one type.
    """
    return "bf16" if jax.tree.leaves(params)[0].dtype == jnp.bfloat16 else "fp32"


def in_precision(params: Any, precision: str) -> Any:
    """Parameters in a precision; those that are in it stay what they are.

    Args:
        params: a tree of arrays.
        precision: "fp32" or "bf16"; what was rounded to bf16 stays so in fp32.

    Raises:
        SettingError: another one.
    """
    check("precision", precision, Precision)
    return jax.tree.map(lambda x: x.astype(PRECISIONS[precision]), params)
