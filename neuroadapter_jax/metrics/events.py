"""Shares of events that may be few: exact intervals, and their differences.

A percentile bootstrap of no event gives the interval [0, 0], and a ratio to one or two events
swings by factors; these intervals stay honest there. Events of the same image are not taken as
independent.
"""

from typing import Any

import numpy as np
from jaxtyping import Real
from scipy.stats import beta

from neuroadapter_jax.errors import InputError

Interval = dict[str, Any]


def event_share(
    events: Real[np.ndarray, " b"], trials: Real[np.ndarray, " b"], level: float = 0.95
) -> Interval:
    """Share of trials with an event, with Clopper and Pearson's interval over images.

    ::

        value = sum_b events_b / sum_b trials_b = k / n
        low   = quantile of Beta(k, n - k + 1) at (1 - level) / 2        0 where k = 0
        high  = quantile of Beta(k + 1, n - k) at (1 + level) / 2        1 where k = n

    Trials of one image depend on each other, so n is the effective number of trials (Korn and
    Graubard 1998, Survey Methodology 24, 193): value (1 - value) over the variance of the share
    between images, at most the number of trials, and the number of images where the share is 0 or
    1 and images cannot vary. With one trial per image this is Clopper and Pearson's interval
    itself. We leave out Korn and Graubard's correction of the degrees of freedom.

    Args:
        events: how many of an image's trials had the event, from 0 to its trials; may be a mean.
        trials: how many there were, at least 0. Images without any do not count.
        level: coverage of the interval, in (0, 1).

    Returns:
        ``value`` and ``interval`` [low, high]; None for both where there is no trial.

    Raises:
        InputError: not one number per image each, or more events than trials.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.events import event_share
        >>> found = event_share(np.zeros(20), np.ones(20))  # no event in 20 images
        >>> found["value"], [round(end, 3) for end in found["interval"]]
        (0.0, [0.0, 0.168])
    """
    events, trials = (np.asarray(x, np.float64) for x in (events, trials))
    if events.ndim != 1 or events.shape != trials.shape:
        raise InputError(
            f"Events have shape {events.shape} and trials {trials.shape}; expected one number per "
            "image each."
        )
    if (
        not (np.isfinite(events).all() and np.isfinite(trials).all())
        or not ((events >= 0) & (events <= trials)).all()
    ):
        raise InputError(
            "An image has more events than trials, or fewer than none; expected 0 to the number of "
            "its trials."
        )
    events, trials = events[trials > 0], trials[trials > 0]
    if not len(trials):
        return {"value": None, "interval": None}
    total = trials.sum()
    share = float(np.clip(events.sum() / total, 0.0, 1.0))
    variance = np.square(events - share * trials).sum() / total**2
    effective = total if variance == 0 else min(total, share * (1 - share) / variance)
    if share in (0.0, 1.0):
        effective = min(total, len(trials))
    k, tail = share * effective, (1 - level) / 2
    low = 0.0 if share == 0 else float(beta.ppf(tail, k, effective - k + 1))
    high = 1.0 if share == 1 else float(beta.ppf(1 - tail, k + 1, effective - k))
    return {"value": share, "interval": [low, high]}


def share_difference(one: Interval, other: Interval) -> Interval:
    """One share less another, with an interval from the two shares' own intervals.

    ::

        low  = d - sqrt((one - one_low)^2 + (other_high - other)^2)      d = one - other
        high = d + sqrt((one_high - one)^2 + (other - other_low)^2)

    Newcombe 1998 (Statistics in Medicine 17, 873), method 10, with whatever intervals are given
    (Zou and Donner 2008, Statistics in Medicine 27, 1693). The shares are taken as independent;
    where they rise and fall together, as shares of the same images do, the interval is too wide
    rather than too narrow.

    Args:
        one: such as `event_share` returns.
        other: the same.

    Returns:
        ``value`` and ``interval`` [low, high]; None for both where one of the two has none.

    Examples:
        >>> from neuroadapter_jax.metrics.events import share_difference
        >>> a = {"value": 0.5, "interval": [0.2, 0.9]}
        >>> b = {"value": 0.0, "interval": [0.0, 0.4]}
        >>> found = share_difference(a, b)
        >>> found["value"], [round(end, 3) for end in found["interval"]]
        (0.5, [0.0, 0.9])
    """
    if one["value"] is None or other["value"] is None:
        return {"value": None, "interval": None}
    a, b, (a_low, a_high), (b_low, b_high) = (
        one["value"],
        other["value"],
        one["interval"],
        other["interval"],
    )
    low, high = np.hypot(a - a_low, b_high - b), np.hypot(a_high - a, b - b_low)
    return {"value": a - b, "interval": [float(a - b - low), float(a - b + high)]}
