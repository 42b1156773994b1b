"""Random token dropout: each training sample sees a random share of the regions."""

from typing import Literal

import jax
from jaxtyping import Array, Bool

from neuroadapter_jax.errors import InputError


def check_rates(rate: object, drop_all: object) -> None:
    """Refuses a drop rate that is neither "uniform" nor a probability, and such a drop_all.

    Raises:
        InputError: so it is.
    """
    if rate != "uniform" and not _is_probability(rate):
        raise InputError(f"drop_rate is {rate!r}; expected 'uniform' or a number from 0 to 1.")
    if not _is_probability(drop_all):
        raise InputError(f"drop_all is {drop_all!r}; expected a number from 0 to 1.")


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and 0.0 <= value <= 1.0


def keep_mask(
    key: Array, shape: tuple[int, int], rate: float | Literal["uniform"], drop_all: float = 0.0
) -> Bool[Array, "b p"]:
    """Which tokens stay: each is dropped with probability r.

    r ~ U(0, 1) per sample for "uniform" (the paper), else the fixed rate; r = 1 with probability
    drop_all. The unconditional half of guidance sees no token, which a small fixed rate alone
    would never train.

    Args:
        key: random key.
        shape: (b, p).
        rate: "uniform", or a probability from 0 to 1.
        drop_all: share of the samples that lose every token, 0 to 1; 0 in the paper.

    Raises:
        InputError: the rate is neither, or drop_all is no probability.
    """
    check_rates(rate, drop_all)
    rate_key, token_key = jax.random.split(key)
    rates = jax.random.uniform(rate_key, (shape[0], 1)) if rate == "uniform" else rate
    keep = jax.random.uniform(token_key, shape) >= rates
    if drop_all:
        keep &= jax.random.uniform(jax.random.fold_in(key, 1), (shape[0], 1)) >= drop_all
    return keep
