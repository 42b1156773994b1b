"""Networks without arrays: their shapes alone, for weights that come from somewhere else."""

from collections.abc import Callable
from typing import TypeVar

import jax
from flax import nnx

Network = TypeVar("Network", bound=nnx.Module)


def abstract_network(make: Callable[[nnx.Rngs], Network]) -> Network:
    """A network whose parameters have shapes and types, and no values.

    It is what `nnx.eval_shape` gives, sooner: nothing here depends on random numbers, so one key
    serves for all of them. Otherwise each count of keys is looked up among all values of the
    trace, which takes nine tenths of the time for Stable Diffusion's U-Net.

    Args:
        make: the network's class, called with the random numbers of its parameters. A module that
            keeps them for later, as dropout does, would be left with a single key; none here does.
    """

    def build() -> Network:
        rngs = nnx.Rngs()
        rngs.default = _OneKey(0, tag="default")  # type: ignore[attr-defined]
        return make(rngs)

    return nnx.eval_shape(build)


class _OneKey(nnx.RngStream):
    """Random numbers that are all of the same key."""

    def __call__(self) -> jax.Array:
        return self.key[...]
