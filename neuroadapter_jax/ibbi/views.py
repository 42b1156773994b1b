"""IBBI's two views, reduced from attention inside the sampler: which region, and where."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuroadapter_jax.diffusion.attention import Probe, Stream
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel

Reduction = Literal["attention", "value_norm"]
LayerWeighting = Literal["queries", "equal"]
REDUCTIONS: tuple[Reduction, ...] = ("attention", "value_norm")


class LayerViews(NamedTuple):
    """What one layer's attention is reduced to.

    Attributes:
        brain: each region's share, sums to 1 over regions.
        image: how much each query attends to each area's regions.
    """

    brain: Float[Array, "b p"]
    image: Float[Array, "b r q"]


class Views(NamedTuple):
    """Both views of one denoising step, from all layers.

    Attributes:
        brain: B, each region's share of the attention; sums to 1 over regions.
        image: I, where in the image an area is attended; sums to 1 over y and x, NaN for an area
            without regions.
        brain_by_layer: `brain` before the mean over layers.
    """

    brain: Float[Array, "b p"]
    image: Float[Array, "b r y x"]
    brain_by_layer: Float[Array, "b l p"]


def value_norms(unet: UNet2DConditionModel, brain: Stream) -> tuple[Float[Array, "b h p"], ...]:
    """||v_hp W_h||, what region p adds to the layer's output per unit of attention, per layer.

    v_hp is the region's value in head h, W_h the head's rows of the output projection
    (Kobayashi et al. 2020, arXiv 2004.10102, eq. 3).
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
    interest: Float[Array, "r p"],
    norms: Float[Array, "b h p"] | None = None,
) -> LayerViews:
    """One layer's views.

    M_qp = mean over heads of A_hqp, or with norms sum_h A_hqp n_hp / sum_hp' A_hqp' n_hp';
    brain_p = mean over queries of M_qp, image_rq = sum_p w_rp M_qp.

    Args:
        weights: A, the attention to the regions.
        interest: w, each area's weights over regions.
        norms: n, from `value_norms`.
    """
    if norms is None:
        mean = weights.mean(axis=1)
    else:
        mean = jnp.einsum("bhqp,bhp->bqp", weights, norms)
        mean = mean / mean.sum(axis=-1, keepdims=True)
    return LayerViews(mean.mean(axis=1), jnp.einsum("bqp,rp->brq", mean, interest))


def make_probes(
    unet: UNet2DConditionModel,
    brain: Stream,
    interest: Float[Array, "r p"],
    reduction: Reduction = "attention",
) -> list[Probe]:
    """A probe per layer for `draw_latents`.

    Args:
        unet: the frozen U-Net.
        brain: the samples' stream.
        interest: see `layer_views`.
        reduction: "attention", the paper's, or "value_norm", see `value_norms`.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; expected one of {list(REDUCTIONS)}.")
    if reduction == "attention":
        return [lambda weights: layer_views(weights, interest)] * len(brain.keys)
    return [
        lambda weights, norms=norms: layer_views(weights, interest, norms)
        for norms in value_norms(unet, brain)
    ]


def combine_layers(
    layers: Sequence[LayerViews], side: int, weighting: LayerWeighting = "queries"
) -> Views:
    """Both views of all layers together.

    B_p = sum_l a_l brain_lp with a_l = q_l / sum q, or 1 / L;
    I_r = mean over layers of the layer's map, resized bilinearly to side x side and divided by its
    sum, divided by its sum again.

    NeuroAdapter (arXiv 2509.23566), the definitions of IBBI; the released code weights layers by
    queries. Its maps are resized to the image's size, these to the latents'.

    Args:
        layers: of every cross-attention layer; a layer's queries are the pixels of a square.
        side: rows and columns of the latents.
        weighting: a, of the brain view.

    Raises:
        ValueError: an unknown weighting.
    """
    if weighting not in ("queries", "equal"):
        raise ValueError(f"layer weighting is {weighting!r}; expected 'queries' or 'equal'.")
    queries = np.array([layer.image.shape[-1] for layer in layers], np.float64)
    shares = queries / queries.sum() if weighting == "queries" else np.full(len(layers), 1.0)
    shares = (shares / shares.sum()).astype(np.float32)
    by_layer = jnp.stack([layer.brain for layer in layers], axis=1)
    maps = 0.0
    for layer in layers:
        b, r, q = layer.image.shape
        rows = math.isqrt(q)
        square = layer.image.reshape(b, r, rows, rows)
        resized = jax.image.resize(square, (b, r, side, side), "linear", antialias=False)
        maps = maps + normalised(resized)
    return Views(jnp.einsum("blp,l->bp", by_layer, shares), normalised(maps), by_layer)


def normalised(
    maps: Float[Array | np.ndarray, "*b y x"],
) -> Float[Array | np.ndarray, "*b y x"]:
    """Maps divided by their sum over y and x; NaN where that is 0."""
    return maps / maps.sum(axis=(-2, -1), keepdims=True)


def relative_entropy(
    brain_view: Float[Array | np.ndarray, "*b p"],
) -> Float[Array, "*b"]:
    """-sum_p B_p ln B_p / ln p: 1 when all regions share alike, 0 when one has all."""
    p = brain_view.shape[-1]
    logarithm = jnp.log(jnp.maximum(brain_view, jnp.finfo(jnp.float32).tiny))
    return -(brain_view * logarithm).sum(axis=-1) / math.log(p)


def concentration(brain_view: Float[Array | np.ndarray, "*b p"]) -> Float[Array, "*b"]:
    """Share of the most attended tenth of the regions (rounded up); 0.1 when all share alike."""
    top = math.ceil(brain_view.shape[-1] / 10)
    return jnp.sort(brain_view, axis=-1)[..., -top:].sum(axis=-1)


def contrast(
    image_view: Float[np.ndarray, "b *t y x"],
) -> Float[np.ndarray, "b *t y x"]:
    """I_b / mean over samples of I, divided by its sum over y and x.

    What an area looks at in this image beyond what it looks at in every image. Needs several
    samples; with one it is flat.
    """
    return normalised(image_view / image_view.mean(axis=0, keepdims=True))


def attention_bytes(
    unet: UNet2DConditionModel, num_regions: int, num_samples: int = 1, num_steps: int = 1
) -> int:
    """Memory of the full attention matrices in float32, conditional half only.

    4 * samples * steps * sum over layers of h_l q_l p. At Stable Diffusion 1.5's size with 200
    regions 165 MiB per sample and step.
    """
    sides = layer_sides(unet)
    heads = [layer.num_heads for _, layer in unet.cross_attentions()]
    entries = sum(h * side**2 for h, side in zip(heads, sides, strict=True))
    return 4 * num_samples * num_steps * entries * num_regions


def layer_sides(unet: UNet2DConditionModel) -> list[int]:
    """Rows (and columns) of every cross-attention layer's feature map, in order of execution."""
    levels = len(unet.config.block_out_channels)
    sides = []
    for name, _ in unet.cross_attentions():
        kind, _, rest = name.partition(".")
        level = levels - 1 if kind == "mid_block" else int(rest.split(".")[0])
        level = levels - 1 - level if kind == "up_blocks" else level
        sides.append(unet.config.sample_size // 2**level)
    return sides
