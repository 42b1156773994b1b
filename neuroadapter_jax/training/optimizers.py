"""AdamW with warm-up, cosine decay, clipping, and an average of weights."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from neuroadapter_jax.ranges import (
    Count,
    CountFromZero,
    NonNegative,
    Positive,
    SettingError,
    ShareBelowOne,
    check,
)

Schedule = Literal["cosine", "constant", "step"]


def make_schedule(
    learning_rate: float,
    num_steps: int,
    warmup_steps: int = 0,
    schedule: Schedule = "cosine",
    decay_every: int | None = None,
) -> optax.Schedule:
    """Learning rate of update u = 0, 1, ..., num_steps - 1.

    With w = warmup_steps and T = num_steps::

        lr(u) = learning_rate (u + 1) / (w + 1)                            for u < w, then
        lr(u) = learning_rate                                              "constant"
        lr(u) = learning_rate (1 + cos(pi (u - w) / (T - w))) / 2          "cosine"
        lr(u) = learning_rate / 2^floor(u / decay_every)                   "step"

    The first update has a rate above 0, so that none is wasted; "cosine" is 0 from u = T on.

    Args:
      learning_rate: the highest rate, > 0.
      num_steps: number of updates.
      warmup_steps: updates before the highest rate is reached, in [0, num_steps).
      schedule: "cosine", "constant" or "step".
      decay_every: updates after which "step" halves the rate, at least 1.

    Raises:
      SettingError: a value outside its range.

    Examples:
      >>> from neuroadapter_jax.training.optimizers import make_schedule
      >>> rate = make_schedule(1e-4, num_steps=100, warmup_steps=4, schedule="constant")
      >>> [f"{float(rate(update)):.0e}" for update in (0, 3, 4, 99)]
      ['2e-05', '8e-05', '1e-04', '1e-04']
    """
    check("learning_rate", learning_rate, Positive)
    check("num_steps", num_steps, Count)
    check("warmup_steps", warmup_steps, CountFromZero)
    check("schedule", schedule, Schedule)
    if warmup_steps >= num_steps:
        raise SettingError("warmup_steps", warmup_steps, f"less than the {num_steps} steps")
    if schedule == "step":
        check("decay_every", decay_every, Count)

    def rate(update):
        warm = (update + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return learning_rate * jnp.minimum(warm, 1.0)
        if schedule == "step":
            return learning_rate * jnp.minimum(warm, 1.0) * 0.5 ** (update // decay_every)
        done = jnp.clip((update - warmup_steps) / (num_steps - warmup_steps), 0.0, 1.0)
        return learning_rate * jnp.where(
            update < warmup_steps, warm, 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        )

    return rate


def make_optimizer(
    rate: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    decay_filter: Callable[[tuple, Any], bool] | None = None,
) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) on gradients clipped to a global norm.

    Args:
      rate: learning rate of each update, from `make_schedule`.
      weight_decay: decoupled decay, >= 0; theta <- theta - lr (adam + weight_decay theta).
      clip_norm: largest global norm of an update's gradient; None leaves gradients as they are.
      b1: decay of Adam's first moment, in [0, 1).
      b2: decay of Adam's second moment, in [0, 1).
      eps: Adam's constant in the denominator.
      decay_filter: (path, leaf) -> whether the leaf decays; path as in `jax.tree_util`. None
        decays every leaf, as the released code does.

    Raises:
      SettingError: a value outside its range.
    """
    check("weight_decay", weight_decay, NonNegative)
    check("clip_norm", clip_norm, Positive | None)
    check("b1", b1, ShareBelowOne)
    check("b2", b2, ShareBelowOne)
    check("eps", eps, Positive)
    mask = None
    if decay_filter is not None:

        def mask(params):
            return jax.tree_util.tree_map_with_path(decay_filter, params)

    adamw = optax.adamw(rate, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay, mask=mask)
    clip = optax.identity() if clip_norm is None else optax.clip_by_global_norm(clip_norm)
    return optax.chain(clip, adamw)


def ema_update(ema: Any, params: Any, decay: float | jax.Array) -> Any:
    """Exponential moving average of weights: ema <- decay ema + (1 - decay) params, leaf by leaf.

    Args:
      ema: pytree of float arrays, started as a copy of params.
      params: pytree of the same structure.
      decay: in [0, 1].

    Examples:
      >>> import jax.numpy as jnp
      >>> from neuroadapter_jax.training.optimizers import ema_update
      >>> ema_update({"w": jnp.array(1.0)}, {"w": jnp.array(3.0)}, decay=0.5)["w"].tolist()
      2.0
    """
    return jax.tree.map(lambda e, p: (e + (1.0 - decay) * (p - e)).astype(e.dtype), ema, params)
