"""Sets of regions to silence or exchange; `ibbi.matching` has the sets they are compared with."""

from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.errors import InputError

Perturbation = Literal["silence", "mean", "swap"]
PERTURBATIONS: tuple[Perturbation, ...] = get_args(Perturbation)


def silence(members: Bool[np.ndarray, " p"], num_samples: int) -> Bool[np.ndarray, "b p"]:
    """The `keep` of a pipeline call that drops a set's tokens, as training drops them.

    Responses of zero would not do: a region's token then still is its bias.

    Args:
        members: True for the regions of the set.
        num_samples: responses of the call.

    Returns:
        False for the regions of the set, in every sample.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.perturbation import silence
        >>> silence(np.array([True, False, False]), num_samples=2).tolist()
        [[False, True, True], [False, True, True]]
    """
    return np.tile(~members, (num_samples, 1))


def replace_responses(
    fmri: Float[np.ndarray, "b n"],
    regions: Parcellation,
    members: Bool[np.ndarray, " p"] | Bool[np.ndarray, "b p"],
    source: Float[np.ndarray, "b n"] | Float[np.ndarray, " n"] | float = 0.0,
) -> Float[np.ndarray, "b n"]:
    """Responses in which a set's vertices come from elsewhere.

    Args:
        fmri: responses of the whole cortex, left then right hemisphere.
        regions: the model's.
        members: True for the regions of the set, of all samples or of each.
        source: responses to other images, row by row; one response for all; or a number: 0, the
            mean over a session, is the training mean of z-scored responses.

    Returns:
        A changed copy.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.ibbi.perturbation import replace_responses
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))
        >>> fmri = np.ones((1, 6), np.float32)
        >>> replace_responses(fmri, regions, np.array([True, False])).tolist()
        [[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]]
    """
    changed, source = fmri.copy(), np.broadcast_to(source, fmri.shape)
    for region, own in enumerate(np.broadcast_to(members, (len(fmri), len(regions))).T):
        if own.any():
            places = np.ix_(np.flatnonzero(own), regions.cortex_indices(region))
            changed[places] = source[places]
    return changed


def perturb(
    perturbation: Perturbation,
    fmri: Float[np.ndarray, "b n"],
    regions: Parcellation,
    members: Bool[np.ndarray, "b p"],
    others: Float[np.ndarray, "b n"],
) -> tuple[Float[np.ndarray, "b n"], Bool[np.ndarray, "b p"]]:
    """The `fmri` and `keep` of a pipeline call in which a set of each sample's own is perturbed.

    Args:
        perturbation: "silence" drops the tokens; "mean" sets the responses to the training mean, 0;
            "swap" takes the responses to another image.
        fmri: responses of the whole cortex, left then right hemisphere, z-scored.
        regions: the model's.
        members: True for the regions of each sample's set.
        others: the other images' responses, row by row.

    Returns:
        `fmri`, the same array with "silence", else a changed copy; and `keep`, all True but with
        "silence".

    Raises:
        InputError: an unknown perturbation.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.ibbi.perturbation import perturb
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))
        >>> fmri = np.arange(12, dtype=np.float32).reshape(2, 6)
        >>> members = np.array([[True, False], [False, True]])
        >>> changed, keep = perturb("swap", fmri, regions, members, others=fmri[::-1])
        >>> changed.tolist()
        [[6.0, 1.0, 8.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 4.0, 11.0]]
        >>> perturb("silence", fmri, regions, members, others=fmri)[1].tolist()
        [[False, True], [True, False]]
    """
    if perturbation not in PERTURBATIONS:
        raise InputError(
            f"perturbation is {perturbation!r}; expected one of {list(PERTURBATIONS)}."
        )
    if perturbation == "silence":
        return fmri, ~members
    sources = np.zeros_like(fmri) if perturbation == "mean" else others
    return replace_responses(fmri, regions, members, sources), np.ones_like(members)


def cumulative_sets(
    order: Int[np.ndarray, "*b p"], num_points: int
) -> Iterator[tuple[float, Bool[np.ndarray, "*b p"]]]:
    """(share, the first so many regions of an order) from none to all, for deletion and insertion.

    Args:
        order: region indices, first to be taken first; one order, or one per sample.
        num_points: at least 2, ends included.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.perturbation import cumulative_sets
        >>> for share, members in cumulative_sets(np.array([2, 0, 1, 3]), num_points=3):
        ...     print(share, members.tolist())
        0.0 [False, False, False, False]
        0.5 [True, False, True, False]
        1.0 [True, True, True, True]
    """
    place = np.argsort(order, axis=-1)
    for share in np.linspace(0.0, 1.0, num_points):
        yield float(share), place < round(share * order.shape[-1])
