"""Random token dropout: each training sample sees a random share of the regions."""

from typing import Literal

import jax
from jaxtyping import Array, Bool

from neuroadapter_jax.errors import InputError


def check_rates(rate: object, drop_all: object) -> None:
    """Refuses a drop rate that is neither "uniform" nor a probability, and such a drop_all.

    Args:
        rate: to check.
        drop_all: to check.

    Raises:
        InputError: the rate is neither, or drop_all is no probability.

    Examples:
        >>> from neuroadapter_jax.adapter.token_dropout import check_rates
        >>> check_rates("uniform", 0.1)
        >>> try:
        ...     check_rates(1.5, 0.0)
        ... except ValueError as error:
        ...     print(error)
        drop_rate is 1.5; expected 'uniform' or a number from 0 to 1.
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

    r ~ U(0, 1) per sample for "uniform" (NeuroAdapter, arXiv 2509.23566, random token dropout),
    else the fixed rate; r = 1 with probability drop_all. The unconditional half of guidance sees no
    token, which a small fixed rate alone would never train: that is what drop_all, ours, is for.

    Args:
        key: random key.
        shape: (b, p), samples and tokens.
        rate: "uniform", or a probability from 0 to 1.
        drop_all: share of the samples that lose every token, 0 to 1; 0 in the paper.

    Returns:
        True where a token stays.

    Raises:
        InputError: the rate is neither, or drop_all is no probability.

    Examples:
        >>> import jax
        >>> from neuroadapter_jax.adapter.token_dropout import keep_mask
        >>> keep = keep_mask(jax.random.key(0), (1000, 200), "uniform")
        >>> 0.4 < float(keep.mean()) < 0.6  # half of all tokens ...
        True
        >>> few, many = float(keep.mean(axis=1).min()), float(keep.mean(axis=1).max())
        >>> few < 0.05 and many > 0.95  # ... but of some samples nearly none, of others nearly all
        True
    """
    check_rates(rate, drop_all)
    rate_key, token_key = jax.random.split(key)
    rates = jax.random.uniform(rate_key, (shape[0], 1)) if rate == "uniform" else rate
    keep = jax.random.uniform(token_key, shape) >= rates
    if drop_all:
        keep &= jax.random.uniform(jax.random.fold_in(key, 1), (shape[0], 1)) >= drop_all
    return keep
