"""Sets of regions to silence or exchange, and the random sets they are compared with."""

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
    """
    return np.tile(~members, (num_samples, 1))


def replace_responses(
    fmri: Float[np.ndarray, "b n"],
    regions: Parcellation,
    members: Bool[np.ndarray, " p"],
    source: Float[np.ndarray, "b n"] | float = 0.0,
) -> Float[np.ndarray, "b n"]:
    """Responses in which a set's vertices come from elsewhere.

    Args:
        fmri: responses of the whole cortex.
        regions: the model's.
        members: the regions of the set.
        source: responses to other images, row by row; or a number: 0, the mean over a session, is
            the training mean of z-scored responses.
    """
    vertices = np.concatenate(
        [regions.cortex_indices(int(i)) for i in np.flatnonzero(members)] or [np.zeros(0, int)]
    )
    changed = fmri.copy()
    changed[:, vertices] = source if np.ndim(source) == 0 else np.asarray(source)[:, vertices]
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
        fmri: responses of the whole cortex.
        regions: the model's.
        members: each sample's set.
        others: the other images' responses, row by row.

    Raises:
        InputError: an unknown perturbation.
    """
    if perturbation not in PERTURBATIONS:
        raise InputError(
            f"perturbation is {perturbation!r}; expected one of {list(PERTURBATIONS)}."
        )
    if perturbation == "silence":
        return fmri, ~members
    sources = np.zeros_like(fmri) if perturbation == "mean" else others
    changed = [
        replace_responses(row[None], regions, own, source[None])
        for row, own, source in zip(fmri, members, sources, strict=True)
    ]
    return np.concatenate(changed), np.ones_like(members)


def matched_sets(
    members: Bool[np.ndarray, " p"],
    snr: Float[np.ndarray, " p"],
    num_region_sets: int,
    seed: int = 0,
    nearest: int = 10,
) -> Bool[np.ndarray, "k p"]:
    """Random sets of the same size and similar SNR, without the set's own regions.

    Each region of the set is replaced by one of the `nearest` regions outside it that are closest
    in SNR and not yet taken.

    Args:
        members: the set.
        snr: of each region.
        num_region_sets: how many.
        seed: of the draws.
        nearest: how many candidates a replacement is drawn from.

    Raises:
        InputError: the set holds more than half of all regions, so that none can replace it.
    """
    own = np.flatnonzero(members)
    if 2 * len(own) > len(members):
        raise InputError(
            f"The set holds {len(own)} of {len(members)} regions; a matched random set needs as "
            "many outside it."
        )
    rng = np.random.default_rng(seed)
    region_sets = np.zeros((num_region_sets, len(members)), bool)
    for row in region_sets:
        for region in rng.permutation(own):
            free = np.flatnonzero(~members & ~row)
            order = free[np.argsort(np.abs(snr[free] - snr[region]), kind="stable")]
            row[rng.choice(order[:nearest])] = True
    return region_sets


def cumulative_sets(
    order: Int[np.ndarray, "*b p"], num_points: int
) -> Iterator[tuple[float, Bool[np.ndarray, "*b p"]]]:
    """(share, the first so many regions of an order) from none to all, for deletion and insertion.

    Args:
        order: region indices, first to be taken first; one order, or one per sample.
        num_points: at least 2, ends included.
    """
    place = np.argsort(order, axis=-1)
    for share in np.linspace(0.0, 1.0, num_points):
        yield float(share), place < round(share * order.shape[-1])
