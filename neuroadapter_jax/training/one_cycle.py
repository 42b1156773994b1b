"""AdamW whose rate and first moment go through one cycle, as PyTorch's OneCycleLR moves them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neuroadapter_jax.ranges import Count, NonNegative, Positive, ShareBelowOne, check


def _cosine(start: float, end: float, place: jax.Array) -> jax.Array:
    return end + (start - end) / 2.0 * (1.0 + jnp.cos(jnp.pi * place))


def one_cycle(
    num_steps: int,
    warmup_share: float,
    start: float,
    top: float,
    end: float,
) -> optax.Schedule:
    """From `start` to `top` along half a cosine, then to `end` along another.

    With T = num_steps and w = warmup_share T - 1 (PyTorch counts updates from 0 to T - 1)::

        v(u) = start + (top - start) (1 - cos(pi u / w)) / 2                        for u <= w
        v(u) = top + (end - top) (1 - cos(pi (u - w) / (T - 1 - w))) / 2            beyond

    Smith and Topin 2017 (arXiv 1708.07120).

    Args:
        num_steps: T, updates of the whole training, at least 2.
        warmup_share: of the updates, in (0, 1).
        start: value of the first update.
        top: value at the turn.
        end: value of the last update.

    Raises:
        SettingError: a value outside its range.

    Examples:
        >>> from neuroadapter_jax.training.one_cycle import one_cycle
        >>> rate = one_cycle(num_steps=11, warmup_share=0.5, start=0.0, top=1.0, end=0.0)
        >>> [abs(round(float(rate(update)), 2)) for update in (0, 3, 10)]
        [0.0, 0.75, 0.0]
    """
    check("num_steps", num_steps, Count)
    check("warmup_share", warmup_share, ShareBelowOne)
    turn = max(warmup_share * num_steps - 1.0, 0.0)
    last = num_steps - 1.0

    def value(update):
        update = jnp.asarray(update, jnp.float32)
        rising = _cosine(start, top, update / max(turn, 1e-9))
        falling = _cosine(top, end, jnp.clip((update - turn) / max(last - turn, 1e-9), 0.0, 1.0))
        return jnp.where(update <= turn, rising, falling) if turn > 0 else falling

    return value


def make_one_cycle_optimizer(
    learning_rate: float,
    num_steps: int,
    warmup_share: float,
    *,
    weight_decay: float = 1e-2,
    decay_filter: Callable[[tuple, Any], bool] | None = None,
    divide_start: float = 25.0,
    divide_end: float = 1000.0,
    momentum: tuple[float, float] = (0.85, 0.95),
) -> optax.GradientTransformation:
    """AdamW with a rate and a beta1 that go through one cycle.

    The rate rises from learning_rate / divide_start to learning_rate and falls to
    learning_rate / divide_start / divide_end; beta1 falls from the larger momentum to the smaller
    and rises again. `torch.optim.lr_scheduler.OneCycleLR` moves both unless told otherwise, so
    every published MindEye run had it. Bias correction takes the beta1 of the update, as PyTorch.

    Args:
        learning_rate: the highest rate, > 0; 3e-4 in MindEye.
        num_steps: updates of the whole training.
        warmup_share: of the updates before the highest rate; 2 of MindEye's 240 epochs.
        weight_decay: decoupled decay, >= 0.
        decay_filter: (path, leaf) -> whether the leaf decays; None: all. See `decays`.
        divide_start: how much lower the first rate is, > 0.
        divide_end: how much lower than the first the last rate is, > 0.
        momentum: smallest and largest beta1, each in [0, 1).

    Raises:
        SettingError: a value outside its range.
    """
    check("learning_rate", learning_rate, Positive)
    check("weight_decay", weight_decay, NonNegative)
    check("divide_start", divide_start, Positive)
    check("divide_end", divide_end, Positive)
    low, high = momentum
    check("momentum", low, ShareBelowOne)
    check("momentum", high, ShareBelowOne)
    first = learning_rate / divide_start
    rate = one_cycle(num_steps, warmup_share, first, learning_rate, first / divide_end)
    beta = one_cycle(num_steps, warmup_share, high, low, high)

    def mask(params):
        if decay_filter is None:
            return jax.tree.map(lambda _: True, params)
        return jax.tree_util.tree_map_with_path(decay_filter, params)

    return optax.inject_hyperparams(optax.adamw, static_args=("weight_decay", "mask"))(
        learning_rate=rate, b1=beta, weight_decay=weight_decay, mask=mask
    )


def decays(path: tuple, leaf: Any) -> bool:
    """Whether MindEye's weight decay takes a parameter: neither a bias nor a norm's.

    Args:
        path: of the leaf, as in `jax.tree_util`.
        leaf: the parameter; what has one axis is a bias or a norm's.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.training.one_cycle import decays
        >>> decays((), jnp.zeros((3, 5))), decays((), jnp.zeros(5))
        (True, False)
    """
    del path
    return jnp.ndim(leaf) > 1
