"""Predicted responses and candidates' scores as pure functions of a brain encoder's parameters."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Shaped, UInt8

from neuroadapter_jax.cortex.packing import pack
from neuroadapter_jax.diffusion import attention_fused
from neuroadapter_jax.encoder.features import Features, prepare_images, read_features
from neuroadapter_jax.encoder.ranking import masked_correlation
from neuroadapter_jax.encoder.region_encoder import Rows

# ((states, shares), images) -> the weighted predictions [b, rows, slots].
PackedPrediction = Callable[[Any, UInt8[Array, "b y x c"]], Float[Array, "b rows slots"]]


def packed_prediction(
    graphs: Sequence[Any],
    features: Features,
    blocks: Sequence[int],
    grid: tuple[int, int],
    rows: Rows,
) -> PackedPrediction:
    """The ensemble's prediction as a function of ((states, shares), images).

    Args:
        graphs: NNX graphs of the vision transformer and of each member.
        features: what the transformer is given.
        blocks: which features each member reads; see `read_features`.
        grid: rows and columns of patches.
        rows: where the readout's outputs lie.
    """

    def predict(params, images):
        states, shares = params
        backbone, *members = map(nnx.merge, graphs, states)
        prepared = prepare_images(images, features)
        return sum(
            share * member(read_features(backbone, prepared, block), grid, rows)
            for member, block, share in zip(members, blocks, shares, strict=True)
        )

    return predict


def candidate_scores(packed: PackedPrediction, rows: Rows) -> Callable[..., Float[Array, "b s"]]:
    """(params, mask, images, fmri, chunk) -> the correlation of predicted and measured responses.

    Args:
        packed: from `packed_prediction`.
        rows: where its outputs lie.
    """

    def scores(
        params: Any,
        mask: Bool[Array, "rows slots"],
        images: UInt8[Array, "b s y x c"],
        fmri: Float[Array, "b n"],
        chunk: int,
    ) -> Float[Array, "b s"]:
        b, s = images.shape[:2]
        flat = images.reshape(b * s, *images.shape[2:])

        if attention_fused.hardware() == attention_fused.NONE:
            predicted = jax.lax.map(
                lambda image: packed(params, image[None])[0], flat, batch_size=chunk
            )
        else:
            # JAX cannot map the fused attention over images whose queries are the same for all.
            predicted = in_chunks(functools.partial(packed, params), flat, chunk)
        measured = pack(fmri, rows.packing).reshape(b, 1, -1)
        return masked_correlation(predicted.reshape(b, s, -1), measured, mask.reshape(-1))

    return scores


def in_chunks(
    function: Callable[[Array], Array], array: Shaped[Array, "b ..."], chunk: int
) -> Shaped[Array, "b ..."]:
    """A function of samples [b, ...], of so many at once, in the order of the samples.

    Args:
        function: of any number of samples.
        array: the samples.
        chunk: most samples at once; those that are left over go together at the end.
    """
    whole = len(array) // chunk * chunk
    parts = []
    if whole:
        groups = array[:whole].reshape(-1, chunk, *array.shape[1:])
        found = jax.lax.map(function, groups)
        parts.append(found.reshape(whole, *found.shape[2:]))
    if whole < len(array):
        parts.append(function(array[whole:]))
    return jnp.concatenate(parts)
