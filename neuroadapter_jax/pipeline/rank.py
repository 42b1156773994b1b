"""The choice among candidates by a brain encoder, with or without successive halving."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.ranking import best_candidates, choose
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.pipeline.reconstruct import SampleSpan


class Candidates(NamedTuple):
    """Images sampled from the same responses, and which of them a brain encoder prefers.

    Attributes:
        images: those that were sampled to the end, 0..255.
        scores: correlation of the predicted with the measured response, -1 to 1; NaN where nothing
            can be correlated.
        chosen: index of the best of `images`; the first of equals.
        numbers: which candidate each of `images` is, from 0.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.pipeline import Candidates
        >>> images = np.zeros((1, 3, 64, 64, 3), np.uint8)
        >>> images[0, 2] = 255
        >>> scores = np.array([[0.1, 0.3, 0.5]], np.float32)
        >>> found = Candidates(images, scores, np.array([2]), np.array([[0, 1, 2]]))
        >>> found.best.shape, int(found.best.min())
        ((1, 64, 64, 3), 255)
    """

    images: UInt8[np.ndarray, "b s y x c"]
    scores: Float[np.ndarray, "b s"]
    chosen: Int[np.ndarray, " b"]
    numbers: Int[np.ndarray, "b s"]

    @property
    def best(self) -> UInt8[np.ndarray, "b y x c"]:
        """The chosen image of each response."""
        return self.images[np.arange(len(self.images)), self.chosen]


def ranked(
    sample: SampleSpan,
    fmri: Float[np.ndarray, "b n"],
    encoder: BrainEncoder,
    regions: Parcellation,
    numbers: Int[np.ndarray, "b s"],
    num_steps: int,
    halving: Sequence[tuple[int, int]] = (),
) -> Candidates:
    """All candidates, and how well each one's predicted response fits the measured one.

    Successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943) saves most of the time:
    after some steps the clean images that the U-Net predicts at that point are ranked, and only
    the best candidates go on. What goes on is sampled exactly as without halving.

    Args:
        sample: takes a span of the steps for some candidates.
        fmri: measured responses of the whole cortex.
        encoder: of the same subject, surface and parcellation; see `BrainEncoder.rank`.
        regions: whose vertices count.
        numbers: the candidates of each response.
        num_steps: steps that are taken altogether.
        halving: (steps taken, candidates kept) in order; () samples all to the end.

    Raises:
        InputError: steps or counts of `halving` that are out of order.
    """
    require_halving(halving, num_steps, numbers.shape[1])
    state, taken = None, 0
    for steps, count in halving:
        images, state = sample(numbers, state, (taken, steps))
        scores = encoder.rank(images, fmri, regions)
        best = np.sort(best_candidates(scores, count), axis=1)
        numbers, state = _candidates_at(best, (numbers, state))
        taken = steps
    images, _ = sample(numbers, state, (taken, num_steps))
    scores = encoder.rank(images, fmri, regions)
    return Candidates(np.asarray(images), scores, choose(scores), numbers)


def require_halving(
    halving: Sequence[tuple[int, int]], num_steps: int, num_candidates: int
) -> None:
    """Refuses steps that do not rise, or counts that do not fall.

    Raises:
        InputError: they do not.
    """
    taken, count = 0, num_candidates
    for steps, fewer in halving:
        if not (taken < steps < num_steps and 1 <= fewer < count):
            raise InputError(
                f"halving is {tuple(halving)} with {num_candidates} candidates and {num_steps} "
                "steps; expected pairs of steps taken, rising and below the number of steps, and "
                "candidates kept, falling and at least 1."
            )
        taken, count = steps, fewer


def _candidates_at(index: Int[np.ndarray, "b s"], tree: Any) -> Any:
    rows = np.arange(len(index))[:, None]
    return jax.tree.map(lambda x: x[rows, index], tree)
