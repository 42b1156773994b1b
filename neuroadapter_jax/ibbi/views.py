"""IBBI's two views, reduced from attention inside the sampler: which region, and where."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuroadapter_jax.adapter.guidance import Guidance, expand, guided_prediction
from neuroadapter_jax.diffusion.attention import HeadSum, Stream, Tap
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel
from neuroadapter_jax.errors import InputError

Reduction = Literal["paper", "attention", "value_norm", "difference", "gradient"]
LayerWeighting = Literal["queries", "equal"]
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
DEFAULT_REDUCTION: Reduction = "attention"
# What a figure or report says of the numbers it shows.
DEFINITIONS: dict[Reduction, str] = {
    "paper": "softmax over regions, mean over heads; layers weighted by queries",
    "attention": "softmax over regions, mean over heads",
    "value_norm": "softmax x norm of what the region adds to the layer, summed over heads, over "
    "its sum",
    "difference": "softmax less the unconditional half's, positive part, mean over heads, over its "
    "sum",
    "gradient": "softmax x its gradient of the squared guidance difference, positive part, mean "
    "over heads, over its sum",
}

Maps = TypeVar("Maps", Array, np.ndarray)


class LayerViews(NamedTuple):
    """What one layer's attention is reduced to.

    Attributes:
        brain: each region's share, 0 to 1, sums to 1 over regions.
        image: how much each query (a pixel of the layer's feature map, row by row) attends to each
            ROI's regions, at least 0.
    """

    brain: Float[Array, "b p"]
    image: Float[Array, "b r q"]


class Views(NamedTuple):
    """Both views of one denoising step, from all layers.

    NeuroAdapter (arXiv 2509.23566), the definitions of IBBI. A pipeline's `Interpretation` has one
    of every step, with the steps as first axis.

    Attributes:
        brain: the brain view B: each region's share of the attention, 0 to 1; sums to 1 over
            regions.
        image: the image view I: where in the image a ROI is attended, at least 0; sums to 1 over y
            and x (the rows and columns of the latents), NaN for a ROI without regions.
        brain_by_layer: `brain` before the mean over layers.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.ibbi.views import combine_layers, layer_views
        >>> even = jnp.full((1, 2, 16, 4), 0.25)  # 2 heads, 4 x 4 queries, 4 regions
        >>> views = combine_layers([layer_views(even, roi_weights=jnp.eye(4)[:1])], side=4)
        >>> views.brain.tolist()
        [[0.25, 0.25, 0.25, 0.25]]
        >>> views.image.shape, round(float(views.image.sum()), 4)
        ((1, 1, 4, 4), 1.0)
    """

    brain: Float[Array, "b p"]
    image: Float[Array, "b r y x"]
    brain_by_layer: Float[Array, "b l p"]


def value_norms(unet: UNet2DConditionModel, brain: Stream) -> tuple[Float[Array, "b h p"], ...]:
    """||v_hp W_h||, what region p adds to the layer's output per unit of attention, per layer.

    v_hp is the region's value in head h, W_h the head's rows of the output projection
    (Kobayashi et al. 2020, arXiv 2004.10102, eq. 3). The paper's views do not use it.

    Args:
        unet: the frozen U-Net, whose output projections are read.
        brain: the regions' keys and values.

    Returns:
        Norms, at least 0, of every cross-attention layer in order of execution.
    """
    norms = []
    for (_, layer), values in zip(unet.cross_attentions(), brain.values, strict=True):
        heads, width = values.shape[1], values.shape[3]
        kernel = layer.to_out[0].kernel[...].astype(jnp.float32).reshape(heads, width, -1)
        gram = jnp.einsum("hdc,hec->hde", kernel, kernel)
        values = values.astype(jnp.float32)
        squares = jnp.einsum("bhpd,hde,bhpe->bhp", values, gram, values)
        norms.append(jnp.sqrt(jnp.maximum(squares, 0.0)))
    return tuple(norms)


def layer_views(
    weights: Float[Array, "b h q p"],
    roi_weights: Float[Array, "r p"],
    norms: Float[Array, "b h p"] | None = None,
) -> LayerViews:
    """One layer's views.

    ::

        M_qp = mean over heads of A_hqp
        M_qp = sum_h A_hqp n_hp / sum_hp' A_hqp' n_hp'      with norms
        brain_p = mean over queries of M_qp
        image_rq = sum_p w_rp M_qp

    Args:
        weights: the attention A to the regions, at least 0, summing to 1 over regions.
        roi_weights: each ROI's weights w over regions.
        norms: n of `value_norms`; None for the paper's views.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.ibbi.views import layer_views
        >>> weights = jnp.array([[[[1.0, 0.0], [0.5, 0.5]]]])  # 1 head, 2 queries, 2 regions
        >>> views = layer_views(weights, roi_weights=jnp.array([[0.0, 1.0]]))
        >>> views.brain.tolist(), views.image.tolist()
        ([[0.75, 0.25]], [[[0.0, 0.5]]])
    """
    if norms is None:
        return _shares_read(weights.mean(axis=1), roi_weights)
    return _shares_read(_over_regions(jnp.einsum("bhqp,bhp->bqp", weights, norms)), roi_weights)


def _over_regions(amounts: Float[Array, "b q p"]) -> Float[Array, "b q p"]:
    return amounts / amounts.sum(axis=-1, keepdims=True)


def _shares_read(mean: Float[Array, "b q p"], roi_weights: Float[Array, "r p"]) -> LayerViews:
    return LayerViews(mean.mean(axis=1), jnp.einsum("bqp,rp->brq", mean, roi_weights))


def difference_views(
    weights: Float[Array, "b h q p"], roi_weights: Float[Array, "r p"]
) -> LayerViews:
    """One layer's views of the attention that the conditional half pays beyond the other half.

    M_qp = mean over heads of max(A_hqp - U, 0), from which `positive_views` makes both views.

    In the unconditional half every token is dropped, so all keys are the same and the softmax is
    U = 1 / p at every query, whatever the query: that half need not be looked at.

    Args:
        weights: the attention A to the regions, summing to 1 over regions.
        roi_weights: each ROI's weights over regions.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.ibbi.views import difference_views
        >>> weights = jnp.array([[[[0.75, 0.25], [0.5, 0.5]]]])  # 1 head, 2 queries, 2 regions
        >>> difference_views(weights, roi_weights=jnp.eye(2)).brain.tolist()
        [[1.0, 0.0]]
    """
    return positive_views(jax.nn.relu(weights - 1.0 / weights.shape[-1]), roi_weights)


def gradient_views(
    weights: Float[Array, "b h q p"],
    gradient: Float[Array, "b h q p"],
    roi_weights: Float[Array, "r p"],
) -> LayerViews:
    """One layer's views of gradient times attention.

    M_qp = mean over heads of max(dS/dA_hqp A_hqp, 0), from which `positive_views` makes both views.
    Chefer et al. 2021 (arXiv 2103.15679, eq. 5), without their propagation through later layers:
    the scalar S is differentiated through them instead.

    Args:
        weights: the attention A to the regions.
        gradient: dS/dA, of the same shape; see `gradient_prediction` for S.
        roi_weights: each ROI's weights over regions.
    """
    return positive_views(jax.nn.relu(gradient * weights), roi_weights)


def positive_views(
    amounts: Float[Array, "b h q p"], roi_weights: Float[Array, "r p"]
) -> LayerViews:
    """One layer's views of amounts that sum to nothing in particular.

    ::

        M_qp = mean over heads of the amounts
        brain_p = sum_q M_qp / sum_qp' M_qp'      (1 / p where that is 0)
        image_rq = sum_p w_rp M_qp

    Args:
        amounts: at least 0.
        roi_weights: each ROI's weights w over regions.
    """
    return _amounts_read(amounts.mean(axis=1), roi_weights)


def _amounts_read(mean: Float[Array, "b q p"], roi_weights: Float[Array, "r p"]) -> LayerViews:
    brain = mean.sum(axis=1)
    total = brain.sum(axis=-1, keepdims=True)
    brain = jnp.where(total > 0, brain / jnp.where(total > 0, total, 1), 1 / brain.shape[-1])
    return LayerViews(brain, jnp.einsum("bqp,rp->brq", mean, roi_weights))


def validate_reduction(reduction: str, layer_weighting: str) -> tuple[Reduction, LayerWeighting]:
    """Both choices, checked; "paper" is "attention" with layers weighted by queries.

    Args:
        reduction: "paper", "attention", "value_norm", "difference" or "gradient".
        layer_weighting: "queries" or "equal".

    Raises:
        InputError: an unknown one, or "paper" with layers weighted equally.

    Examples:
        >>> from neuroadapter_jax.ibbi.views import validate_reduction
        >>> validate_reduction("paper", "queries")
        ('attention', 'queries')
    """
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction is {reduction!r}; expected one of {list(REDUCTIONS)}.")
    if layer_weighting not in get_args(LayerWeighting):
        raise InputError(f"layer weighting is {layer_weighting!r}; expected 'queries' or 'equal'.")
    if reduction == "paper" and layer_weighting != "queries":
        raise InputError(
            "The paper's reduction weights layers by queries, but layer weighting is "
            f"{layer_weighting!r}; ask for 'attention' with that."
        )
    chosen = "attention" if reduction == "paper" else reduction
    return cast(Reduction, chosen), cast(LayerWeighting, layer_weighting)


def prediction_with_views(
    unet: UNet2DConditionModel,
    guidance: Guidance,
    roi_weights: Float[Array, "r p"],
    reduction: Reduction = DEFAULT_REDUCTION,
) -> Callable[[Array, Array], tuple[Array, Any]]:
    """(latents, timestep) -> (guided prediction, every layer's views of the conditional half).

    Args:
        unet: the frozen U-Net.
        guidance: what the prediction is conditioned on.
        roi_weights: each ROI's weights w over regions.
        reduction: what of the attention A of head h at query q to region p counts: "attention",
            A itself, the paper's; "value_norm", A times `value_norms`; "difference", what A has
            beyond the even share 1 / p; "gradient", A times its gradient of the squared guidance
            difference, see `gradient_prediction`.
    """
    if reduction == "gradient":
        return gradient_prediction(unet, guidance, roi_weights)
    probes = attention_probes(unet, guidance.brain, roi_weights, reduction)
    return guided_prediction(unet, guidance, probes)


def attention_probes(
    unet: UNet2DConditionModel,
    brain: Stream,
    roi_weights: Float[Array, "r p"],
    reduction: Reduction,
) -> list[HeadSum]:
    """For every layer, a probe that gives what `layer_views` or `difference_views` would.

    The weights of all heads are never held at once, see `HeadSum`.

    Args:
        unet: the frozen U-Net.
        brain: the regions' keys and values.
        roi_weights: each ROI's weights over regions.
        reduction: "attention", "value_norm" or "difference".
    """

    def weighed(weights, shares):
        return weights * shares[:, None]

    def beyond_even(weights, shares):
        return jax.nn.relu(weights - 1.0 / weights.shape[-1]) * shares[:, None]

    def read_norms(amounts):
        return _shares_read(_over_regions(amounts), roi_weights)

    if reduction == "value_norm":
        return [HeadSum(weighed, norms, read_norms) for norms in value_norms(unet, brain)]
    head, read = weighed, _shares_read
    if reduction == "difference":
        head, read = beyond_even, _amounts_read
    means = [jnp.full((1, x.shape[1], x.shape[2]), 1 / x.shape[1]) for x in brain.keys]
    return [HeadSum(head, mean, functools.partial(read, roi_weights=roi_weights)) for mean in means]


def gradient_prediction(
    unet: UNet2DConditionModel, guidance: Guidance, roi_weights: Float[Array, "r p"]
) -> Callable[[Array, Array], tuple[Array, list[LayerViews]]]:
    """(latents, timestep) -> (guided prediction, every layer's `gradient_views`).

    The scalar is S = sum over latent pixels and channels of (eps_cond - eps_uncond)^2, what the
    regions together add to the prediction; the unconditional half is held fixed. It costs a
    derivative of the conditional half at every step, and the memory of one step's.

    Args:
        unet: the frozen U-Net.
        guidance: what the prediction is conditioned on.
        roi_weights: each ROI's weights over regions.
    """
    text, brain, unconditional, scale = guidance
    size = brain.keys[0].shape[0]
    without = expand(unconditional, size)

    def predict(x, timestep):
        timesteps = jnp.full((size,), timestep)
        others = [] if text is None else [text]
        base = unet(x, timesteps, [*others, without])

        def scalar(slots):
            taps = [
                Tap(lambda a, slot=slot: (_tapped(a, roi_weights, slot), None)) for slot in slots
            ]
            out, _ = unet(x, timesteps, [*others, brain], taps)
            return jnp.square(out - base).sum(), out

        p, r = brain.keys[0].shape[2], len(roi_weights)
        slots = [
            LayerViews(jnp.zeros((size, p)), jnp.zeros((size, r, side**2)))
            for side in layer_sides(unet)
        ]
        views, out = jax.grad(scalar, has_aux=True)(slots)
        if scale is not None:
            out = base + scale * (out - base)
        return out, views

    return predict


@jax.custom_vjp
def _tapped(
    weights: Float[Array, "b h q p"], roi_weights: Float[Array, "r p"], slot: LayerViews
) -> Float[Array, "b h q p"]:
    """The weights; the slot's "derivative" is the layer's `gradient_views`.

    So the derivative of a whole network leaves each layer reduced, one after the other.
    """
    del roi_weights, slot
    return weights


def _tapped_forward(weights, roi_weights, slot):
    del slot
    return weights, (weights, roi_weights)


def _tapped_backward(saved, gradient):
    weights, roi_weights = saved
    return gradient, jnp.zeros_like(roi_weights), gradient_views(weights, gradient, roi_weights)


_tapped.defvjp(_tapped_forward, _tapped_backward)


def combine_layers(
    layers: Sequence[LayerViews], side: int, weighting: LayerWeighting = "queries"
) -> Views:
    """Both views of all layers together.

    ::

        B_p = sum_l a_l brain_lp,   a_l = q_l / sum q   or   1 / (number of layers)

    I_r is the mean over layers of the layer's map, resized bilinearly to side x side and divided by
    its sum, divided by its sum again; a layer whose map is 0 everywhere has no part in it.

    NeuroAdapter (arXiv 2509.23566), the definitions of IBBI; the released code weights layers by
    queries. Its maps are resized to the image's size, these to the latents'.

    Args:
        layers: of every cross-attention layer; a layer's queries are the pixels of a square.
        side: rows and columns of the latents.
        weighting: a of the brain view, by a layer's number of "queries", or "equal".
    """
    queries = np.array([layer.image.shape[-1] for layer in layers], np.float64)
    shares = queries / queries.sum() if weighting == "queries" else np.full(len(layers), 1.0)
    shares = (shares / shares.sum()).astype(np.float32)
    by_layer = jnp.stack([layer.brain for layer in layers], axis=1)
    # Resizing is linear, so layers of one size are divided by what their sums will be, added, and
    # resized once.
    added: dict[int, Array] = {}
    for layer in layers:
        rows = math.isqrt(layer.image.shape[-1])
        square = layer.image.reshape(*layer.image.shape[:2], rows, rows)
        column_sums = _resizing(rows, side).sum(axis=0)
        total = jnp.einsum("bryx,y,x->br", square, column_sums, column_sums)[..., None, None]
        square = jnp.where(total > 0, square / jnp.where(total > 0, total, 1), 0)
        added[rows] = added.get(rows, 0.0) + square
    maps: Any = 0.0
    for rows, square in added.items():
        matrix = _resizing(rows, side)
        maps = maps + (
            square if rows == side else jnp.einsum("Yy,bryx,Xx->brYX", matrix, square, matrix)
        )
    return Views(jnp.einsum("blp,l->bp", by_layer, shares), normalised(maps), by_layer)


def _resizing(rows: int, side: int) -> Float[np.ndarray, "side rows"]:
    """The matrix that resizes an axis bilinearly; pixels' centres stand at half numbers."""
    centres = np.clip((np.arange(side) + 0.5) * rows / side - 0.5, 0, rows - 1)
    distances = np.abs(centres[:, None] - np.arange(rows))
    return np.maximum(1.0 - distances, 0.0).astype(np.float32)


def normalised(maps: Maps) -> Maps:
    """Maps divided by their sum over y and x; NaN where that is 0.

    Args:
        maps: with rows and columns as last axes, at least 0.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.views import normalised
        >>> normalised(np.array([[1.0, 1.0], [2.0, 0.0]])).tolist()
        [[0.25, 0.25], [0.5, 0.0]]
    """
    return maps / maps.sum(axis=(-2, -1), keepdims=True)


def relative_entropy(
    brain_view: Float[Array | np.ndarray, "*b p"],
) -> Float[Array, "*b"]:
    """-sum_p B_p ln B_p / ln p: 1 when all regions share equally, 0 when one has all.

    Args:
        brain_view: shares of at least two regions, summing to 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.views import relative_entropy
        >>> views = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]], np.float32)
        >>> [round(float(entropy), 3) for entropy in relative_entropy(views)]
        [1.0, 0.5]
    """
    p = brain_view.shape[-1]
    logarithm = jnp.log(jnp.maximum(brain_view, jnp.finfo(jnp.float32).tiny))
    return -(brain_view * logarithm).sum(axis=-1) / math.log(p)


def concentration(brain_view: Float[Array | np.ndarray, "*b p"]) -> Float[Array, "*b"]:
    """Share of the most attended tenth of the regions (rounded up); 0.1 when all share equally.

    Args:
        brain_view: shares of the regions, summing to 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.views import concentration
        >>> shares = np.array([0.5] + [0.5 / 9] * 9, np.float32)  # ten regions
        >>> float(concentration(shares))
        0.5
    """
    top = math.ceil(brain_view.shape[-1] / 10)
    return jnp.sort(brain_view, axis=-1)[..., -top:].sum(axis=-1)


def contrast(
    image_view: Float[np.ndarray, "b *t y x"],
) -> Float[np.ndarray, "b *t y x"]:
    """What a ROI attends to in this image beyond what it attends to in every image.

    I_b / (mean over samples of I), divided by its sum over y and x. Needs several samples; with one
    it is flat.

    Args:
        image_view: the image views of one ROI, at least 0.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.ibbi.views import contrast
        >>> views = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])  # two samples, 1 x 2 pixels
        >>> contrast(views).round(2).tolist()
        [[[0.25, 0.75]], [[1.0, 0.0]]]
    """
    return normalised(image_view / image_view.mean(axis=0, keepdims=True))


def attention_bytes(
    unet: UNet2DConditionModel, num_regions: int, num_samples: int = 1, num_steps: int = 1
) -> int:
    """Memory of the full attention matrices in float32, conditional half only.

    4 * samples * steps * sum over layers of h_l q_l p. At Stable Diffusion 1.5's size with 200
    regions 165 MiB per sample and step.

    Args:
        unet: whose cross-attention layers count.
        num_regions: the number p of regions.
        num_samples: responses.
        num_steps: denoising steps.
    """
    sides = layer_sides(unet)
    heads = [layer.num_heads for _, layer in unet.cross_attentions()]
    entries = sum(h * side**2 for h, side in zip(heads, sides, strict=True))
    return 4 * num_samples * num_steps * entries * num_regions


def layer_sides(unet: UNet2DConditionModel) -> list[int]:
    """Rows (and columns) of every cross-attention layer's feature map, in order of execution.

    Args:
        unet: any.
    """
    levels = len(unet.config.block_out_channels)
    sides = []
    for name, _ in unet.cross_attentions():
        kind, _, rest = name.partition(".")
        level = levels - 1 if kind == "mid_block" else int(rest.split(".")[0])
        level = levels - 1 - level if kind == "up_blocks" else level
        sides.append(unet.config.sample_size // 2**level)
    return sides
