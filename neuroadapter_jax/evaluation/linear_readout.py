"""A linear readout of the scene from the responses: the ceiling for semantic recall."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import RidgeCV

from neuroadapter_jax.errors import InputError

ALPHAS = tuple(10.0**exponent for exponent in range(0, 7))


@dataclasses.dataclass(frozen=True)
class LinearReadout:
    """Ridge weights from packed responses to empty and each category, in each slot."""

    weights: Float[np.ndarray, "f slot k"]
    bias: Float[np.ndarray, "slot k"]
    alphas: Float[np.ndarray, "slot k"]

    def read(
        self, responses: Float[np.ndarray, "b p v"], *, may_be_empty: bool = True
    ) -> Int[np.ndarray, "b slot"]:
        """Reads the highest-scoring category, or -1 for empty, in each slot.

        Args:
            responses: packed responses, of the regions the readout was fitted on.
            may_be_empty: whether a slot may be read as empty; if not, the choice is forced among
                the categories, and says something of the slots alone that hold one.

        Returns:
            int8 categories, -1 for empty.

        Raises:
            InputError: if the responses have another number of values per image.
        """
        features = _features(responses)
        if features.shape[1] != len(self.weights):
            raise InputError(
                f"The linear readout was fitted on {len(self.weights)} values per image, found "
                f"{features.shape[1]}: pack the same regions as in fitting."
            )
        scores = np.einsum("bf,fsk->bsk", features, self.weights, optimize=True) + self.bias
        if not may_be_empty:
            return scores[..., 1:].argmax(axis=-1).astype(np.int8)
        return (scores.argmax(axis=-1) - 1).astype(np.int8)


def _features(responses: Float[np.ndarray, "b p v"]) -> Float[np.ndarray, "b f"]:
    return np.asarray(responses, np.float32).reshape(len(responses), -1)


def fit_linear_readout(
    responses: Float[np.ndarray, "b p v"],
    categories: Int[np.ndarray, "b slot"],
    num_categories: int,
) -> LinearReadout:
    """Fits ridge regression from responses to the one-hot contents of each slot.

    Each of the slot x (empty + category) targets has its own penalty out of 1, 10, ..., 10^6,
    chosen by leave-one-out error on the training images (scikit-learn's RidgeCV).

    Args:
        responses: packed responses of the training images; padding is zero.
        categories: true category per slot, -1 for empty.
        num_categories: number of categories.

    Returns:
        The fitted readout.

    Raises:
        InputError: if the counts of images differ.
    """
    if len(responses) != len(categories):
        raise InputError(
            "The linear readout needs one response per image, found "
            f"{len(responses)} responses and {len(categories)} images."
        )
    targets = np.eye(num_categories + 1, dtype=np.float32)[categories + 1]
    shape = targets.shape[1:]
    ridge = RidgeCV(alphas=ALPHAS, alpha_per_target=True)
    ridge.fit(_features(responses), targets.reshape(len(targets), -1))
    return LinearReadout(
        weights=ridge.coef_.T.reshape(-1, *shape),
        bias=ridge.intercept_.reshape(shape),
        alphas=ridge.alpha_.reshape(shape),
    )
