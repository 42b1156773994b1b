"""MindEye's contrastive losses: MixCo, BiMixCo and SoftCLIP, and the temperature's schedule."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_Rows = Float[Array, "b f"]


class Mixed(NamedTuple):
    """Responses mixed with one another, and how.

    Attributes:
        fmri: mixed responses.
        permutation: with whose responses each was mixed.
        share: lambda, what is left of its own; 1 where nothing was mixed.
    """

    fmri: Float[Array, "b n"]
    permutation: Int[Array, " b"]
    share: Float[Array, " b"]


def mix_responses(
    key: Array, fmri: Float[Array, "b n"], beta: float = 0.15, mixed_share: float = 0.5
) -> Mixed:
    """x_i <- lambda_i x_i + (1 - lambda_i) x_perm(i), lambda ~ Beta(beta, beta) for half of them.

    MixCo (Kim et al. 2020, arXiv 2010.06300) as in MindEye (Scotti et al. 2023, arXiv 2305.18274,
    section 2.1). MindEye mixes in place, so that the prior sees mixed responses as well, beside
    the unmixed embedding; hand `fmri` to both to have the same.

    Args:
        key: random key.
        fmri: of one batch.
        beta: of the Beta distribution, > 0.
        mixed_share: chance of a sample to be mixed, 0 to 1.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.decoders.contrastive import mix_responses
        >>> mixed = mix_responses(jax.random.key(0), jnp.ones((4, 3)))
        >>> mixed.fmri.shape, bool(((mixed.share >= 0) & (mixed.share <= 1)).all())
        ((4, 3), True)
    """
    order, draw, choice = jax.random.split(key, 3)
    size = len(fmri)
    permutation = jax.random.permutation(order, size)
    share = jax.random.beta(draw, beta, beta, (size,), fmri.dtype)
    share = jnp.where(jax.random.bernoulli(choice, mixed_share, (size,)), share, 1.0)
    column = share[:, None]
    return Mixed(fmri * column + fmri[permutation] * (1.0 - column), permutation, share)


def unit_rows(values: Float[Array, "b *f"]) -> Float[Array, "b _f"]:
    """Embeddings, flattened, at unit length: a dot product is then a cosine.

    Args:
        values: one row or stack of tokens per image.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.decoders.contrastive import unit_rows
        >>> [round(float(x), 2) for x in unit_rows(jnp.array([[3.0, 4.0]]))[0]]
        [0.6, 0.8]
    """
    flat = values.reshape(len(values), -1)
    squares = jnp.sum(jnp.square(flat), axis=1, keepdims=True)
    return flat * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))


def _cross_entropy(scores: Float[Array, "b b"], targets: Float[Array, "b b"]) -> Array:
    return -(targets * jax.nn.log_softmax(scores, axis=-1)).sum(axis=-1).mean()


def bimixco_loss(
    predicted: _Rows,
    target: _Rows,
    temperature: float | Float[Array, ""],
    mixed: Mixed | None = None,
) -> Float[Array, ""]:
    """The contrastive loss of mixed responses, from both sides.

    With S = p q' / tau and M = diag(lambda) + sum_i (1 - lambda_i) e_i e_perm(i)'::

        loss = (CE(softmax S, M) + CE(softmax S', M')) / 2,   each a mean over rows

    MindEye (Scotti et al. 2023, arXiv 2305.18274, equation 1). Its code writes 1 - lambda over the
    diagonal where perm(i) = i, which leaves a row whose target sums to less than 1; here both
    shares are added, so that it stays 1.

    Args:
        predicted: p, unit rows of the projector's output; see `unit_rows`.
        target: q, unit rows of the images' embeddings, unmixed.
        temperature: tau, > 0; MindEye's is 0.006.
        mixed: how the responses were mixed; None for plain InfoNCE from both sides.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.decoders.contrastive import bimixco_loss
        >>> round(float(bimixco_loss(jnp.eye(3), jnp.eye(3), temperature=0.1)), 4)
        0.0001
    """
    scores = predicted @ target.T / temperature
    rows = jnp.arange(len(predicted))
    weights = jnp.eye(len(predicted), dtype=scores.dtype)
    if mixed is not None:
        weights = weights * mixed.share[:, None]
        weights = weights.at[rows, mixed.permutation].add(1.0 - mixed.share)
    return (_cross_entropy(scores, weights) + _cross_entropy(scores.T, weights.T)) / 2


def soft_clip_loss(
    predicted: _Rows, target: _Rows, temperature: float | Float[Array, ""]
) -> Float[Array, ""]:
    """The contrastive loss whose targets are how alike the images are.

    loss = (CE(p q' / tau, softmax(q q' / tau)) + CE(q p' / tau, softmax(q q' / tau))) / 2

    MindEye (Scotti et al. 2023, arXiv 2305.18274, equation 2).

    Args:
        predicted: p, unit rows of the projector's output; see `unit_rows`.
        target: q, unit rows of the images' embeddings.
        temperature: tau, > 0; see `soft_clip_temperature`.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.decoders.contrastive import soft_clip_loss
        >>> right = soft_clip_loss(jnp.eye(3), jnp.eye(3), temperature=0.1)
        >>> wrong = soft_clip_loss(jnp.eye(3)[::-1], jnp.eye(3), temperature=0.1)
        >>> bool(right < wrong)
        True
    """
    targets = jax.nn.softmax(target @ target.T / temperature, axis=-1)
    scores = predicted @ target.T / temperature
    return (_cross_entropy(scores, targets) + _cross_entropy(scores.T, targets)) / 2


def soft_clip_temperature(
    epoch: int,
    num_epochs: int,
    mixco_share: float = 0.33,
    first: float = 0.004,
    last: float = 0.0075,
) -> float:
    """tau of `soft_clip_loss` in an epoch: from `first` to `last` along half a cosine.

    tau(e) = last + (first - last) (1 + cos(pi e / (E - 1))) / 2, e from 0 to E - 1 over the E
    epochs that follow on the epochs with BiMixCo.

    Args:
        epoch: counted from 0 over the whole training.
        num_epochs: of the whole training.
        mixco_share: share of epochs with BiMixCo, which come first.
        first: tau of the first epoch without mixing.
        last: tau of the last.

    Examples:
        >>> from neuroadapter_jax.decoders.contrastive import soft_clip_temperature
        >>> soft_clip_temperature(79, 240), soft_clip_temperature(239, 240)
        (0.004, 0.0075)
    """
    num_mixed = int(mixco_share * num_epochs)
    count = num_epochs - num_mixed
    place = min(max(epoch - num_mixed, 0), count - 1) / max(count - 1, 1)
    return last + (first - last) * (1.0 + math.cos(math.pi * place)) / 2.0


def uses_mixing(epoch: int, num_epochs: int, mixco_share: float = 0.33) -> bool:
    """Whether an epoch has BiMixCo; SoftCLIP follows without mixing.

    Args:
        epoch: counted from 0.
        num_epochs: of the whole training.
        mixco_share: share of epochs that mix.

    Examples:
        >>> from neuroadapter_jax.decoders.contrastive import uses_mixing
        >>> uses_mixing(78, 240), uses_mixing(79, 240)
        (True, False)
    """
    return epoch < int(mixco_share * num_epochs)
