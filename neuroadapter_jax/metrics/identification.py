"""Two-way identification: is a reconstruction nearer to its own stimulus than to another?"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Real, UInt8

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.pixels import check_pairs, correlation_matrix

Orientation = Literal["columns", "rows"]
# Correlations nearer to one another than this are a tie: the products of one and the same row
# differ by rounding, depending on where the row stands in the matrix.
_TIE = 1e-12


def two_way(
    features_true: Real[np.ndarray, "b f"],
    features_reconstructed: Real[np.ndarray, "b f"],
    orientation: Orientation = "columns",
) -> Float[np.ndarray, " b"]:
    """Share of distractors that a reconstruction is less like than its own stimulus.

    With R[i, j] the correlation of stimulus i with reconstruction j, the score of j is the share
    of i != j with R[i, j] < R[j, j] ("columns", MindEye's and Brain-Diffuser's). The released
    NeuroAdapter code takes reconstructions as distractors: the share of j != i with
    R[i, j] < R[i, i] ("rows"). Ties are misses; chance is 1/2.

    Args:
        features_true: features of the stimuli.
        features_reconstructed: features of the reconstructions, same order.
        orientation: which side gives the distractors.

    Returns:
        Scores in [0, 1], one per image.

    Raises:
        InputError: if shapes differ, fewer than two images are given, or the orientation is
            unknown.
        NotFiniteError: if features are NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.identification import two_way
        >>> stimuli = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        >>> reconstructions = np.array([[1.0, 0.2, 0.0], [0.2, 0.9, 0.0], [0.9, 0.0, 0.3]])
        >>> two_way(stimuli, reconstructions).tolist()  # the third resembles the first stimulus
        [1.0, 1.0, 0.5]
    """
    if features_true.ndim != 2 or features_true.shape != features_reconstructed.shape:
        raise InputError(
            "Two-way identification compares two feature arrays of one shape [b, f], found "
            f"{features_true.shape} and {features_reconstructed.shape}."
        )
    count = len(features_true)
    if count < 2:
        raise InputError(f"Two-way identification needs at least 2 images, found {count}.")
    return _hits(correlation_matrix(features_true, features_reconstructed), orientation) / (
        count - 1
    )


def set_two_way(
    features_true: Real[np.ndarray, "b f"],
    features_reconstructed: Real[np.ndarray, "b s f"],
    orientation: Orientation = "rows",
) -> Float[np.ndarray, " b"]:
    """Two-way identification of whole sets of candidates, none of them chosen.

    R[i, j] = mean_s r(features_true[i], features_reconstructed[j, s]), Pearson's r. With "columns"
    the score of j is the share of i != j with R[i, j] < R[j, j], with "rows" the share of j != i
    with R[i, j] < R[i, i]; ties are misses, chance is 1/2. The released NeuroAdapter code scores
    imagery so, by rows: with the 12 to 18 targets of a session the score moves in coarse steps.

    Args:
        features_true: features of the targets.
        features_reconstructed: features of the s candidates of each, same order.
        orientation: which side gives the distractors.

    Returns:
        Scores in [0, 1], one per target.

    Raises:
        InputError: if shapes do not fit, fewer than two targets are given, or the orientation is
            unknown.
        NotFiniteError: if features are NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.identification import set_two_way
        >>> targets = np.eye(3)
        >>> candidates = np.stack([targets, targets[[0, 1, 1]]], axis=1)  # one of six is wrong
        >>> set_two_way(targets, candidates).tolist()
        [1.0, 1.0, 1.0]
    """
    b, f = features_true.shape
    if features_reconstructed.ndim != 3 or features_reconstructed.shape[::2] != (b, f):
        raise InputError(
            "Set-level identification compares features [b, f] with those of candidates "
            f"[b, s, f], found {features_true.shape} and {features_reconstructed.shape}."
        )
    if b < 2:
        raise InputError(f"Two-way identification needs at least 2 images, found {b}.")
    sets = range(features_reconstructed.shape[1])
    matrices = [correlation_matrix(features_true, features_reconstructed[:, j]) for j in sets]
    return _hits(np.mean(matrices, axis=0), orientation) / (b - 1)


def _hits(correlation: Float[np.ndarray, "b b"], orientation: Orientation) -> Int[np.ndarray, " b"]:
    """How many distractors each diagonal entry exceeds by more than a tie."""
    own = np.diagonal(correlation) - _TIE
    match orientation:
        case "columns":
            return (correlation < own[None, :]).sum(axis=0)
        case "rows":
            return (correlation < own[:, None]).sum(axis=1)
    raise InputError(f"Two-way orientation must be 'columns' or 'rows', found {orientation!r}.")


def two_way_pixels(
    images_true: UInt8[np.ndarray, "b y x c"],
    images_reconstructed: UInt8[np.ndarray, "b y x c"],
    orientation: Orientation = "columns",
) -> Float[np.ndarray, " b"]:
    """Two-way identification with the pixels themselves as features.

    Args:
        images_true: stimuli, 0..255.
        images_reconstructed: reconstructions, 0..255, same order.
        orientation: which side gives the distractors: "columns" the stimuli, "rows" the
            reconstructions.

    Returns:
        Scores in [0, 1], one per image; chance is 1/2.

    Raises:
        InputError: if the stacks are not uint8 RGB of one shape, fewer than two images are given,
            or the orientation is unknown.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.identification import two_way_pixels
        >>> stimuli = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
        >>> two_way_pixels(stimuli, stimuli).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    check_pairs(images_true, images_reconstructed)
    count = len(images_true)
    return two_way(
        images_true.reshape(count, -1), images_reconstructed.reshape(count, -1), orientation
    )
