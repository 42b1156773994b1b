"""Random token dropout: each training sample sees a random share of the regions."""

from typing import Literal

import jax
from jaxtyping import Array, Bool


def check_rate(rate: object) -> None:
    """Refuses a drop rate that is neither "uniform" nor a probability.

    Raises:
        ValueError: so it is.
    """
    if rate != "uniform" and not (isinstance(rate, int | float) and 0.0 <= rate <= 1.0):
        raise ValueError(f"drop_rate is {rate!r}; expected 'uniform' or a number from 0 to 1.")


def keep_mask(
    key: Array, shape: tuple[int, int], rate: float | Literal["uniform"]
) -> Bool[Array, "b p"]:
    """Which tokens stay: each is dropped with probability r.

    r ~ U(0, 1) per sample for "uniform" (the paper), else the fixed rate.

    Args:
        key: random key.
        shape: (b, p).
        rate: "uniform", or a probability from 0 to 1.

    Raises:
        ValueError: the rate is neither.
    """
    check_rate(rate)
    rate_key, token_key = jax.random.split(key)
    if rate == "uniform":
        rate = jax.random.uniform(rate_key, (shape[0], 1))
    return jax.random.uniform(token_key, shape) >= rate
