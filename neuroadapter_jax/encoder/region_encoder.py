"""From an image's features to the responses of the whole cortex, one token per region."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int32, PRNGKeyArray

from neuroadapter_jax.cortex.packing import Packing, make_packing
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.attention import Attention, attend, merge_heads, split_heads
from neuroadapter_jax.errors import InputError

ROW_LENGTH = 64


class Rows(NamedTuple):
    """Where the readout's outputs lie: rows of at most so many vertices, each of one region.

    Attributes:
        packing: of the rows, [rows, slots].
        region: int32 [rows], the region a row belongs to.
    """

    packing: Packing
    region: Int32[Array, " rows"]


def make_rows(parcellation: Parcellation, row_length: int = ROW_LENGTH) -> Rows:
    """Cuts regions into rows of at most `row_length` vertices.

    Schaefer's regions have 60 to 812 vertices of fsaverage. Padded to the largest they would need
    2.5 times the weights; rows of 64 need 1.1 times as many as there are vertices.

    Args:
        parcellation: all regions that are predicted.
        row_length: vertices of a full row, at least 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation
        >>> from neuroadapter_jax.encoder.region_encoder import make_rows
        >>> a, b = np.arange(5, dtype=np.int32), np.array([7], np.int32)
        >>> rows = make_rows(Parcellation(("A", "B"), ("lh", "lh"), (a, b), (9, 9)), row_length=3)
        >>> np.asarray(rows.region).tolist(), rows.packing.index.shape  # two rows for A, one for B
        ([0, 0, 1], (3, 3))
    """
    names, hemispheres, vertices, region = [], [], [], []
    for i, members in enumerate(parcellation.vertices):
        for start in range(0, len(members), row_length):
            names.append(f"{parcellation.names[i]}[{start}:]")
            hemispheres.append(parcellation.hemispheres[i])
            vertices.append(members[start : start + row_length])
            region.append(i)
    pieces = Parcellation(
        tuple(names), tuple(hemispheres), tuple(vertices), parcellation.num_vertices
    )
    return Rows(make_packing(pieces), jnp.asarray(region, jnp.int32))


def sine_positions(rows: int, columns: int, width: int) -> Float[np.ndarray, "k f"]:
    """DETR's normalised sine code of a grid, row by row (Carion et al. 2020, arXiv 2005.12872).

    The first half of the code is of the row, the second of the column; feature 2 i of each is
    sin(w_i 2 pi (j + 1) / size), feature 2 i + 1 the cosine, with w_i = 10000^(-4 i / width).

    Args:
        rows: of the grid.
        columns: of the grid.
        width: of the code, a multiple of 4.

    Raises:
        InputError: width is no multiple of 4.
    """
    if width % 4:
        raise InputError(f"The width of sine positions is {width}; it has to be a multiple of 4.")
    rates = 10000.0 ** (-np.arange(0, width // 2, 2) / (width // 2))

    def code(size):
        angles = (np.arange(size) + 1)[:, None] / size * 2 * np.pi * rates
        return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(size, -1)

    y, x = code(rows), code(columns)
    grid = np.concatenate([y.repeat(columns, axis=0), np.tile(x, (rows, 1))], axis=1)
    return grid.astype(np.float32)


@dataclass(frozen=True)
class RegionEncoderConfig:
    """Sizes of a `RegionEncoder`.

    Attributes:
        num_regions: P, regions of both hemispheres.
        num_rows: rows of the readout, see `make_rows`.
        row_length: slots of a row.
        width: f of the image features, the region tokens and all between.
        num_heads: of the cross-attention.
        mlp_width: of the layer after it.
        dropout: rate in training, at three places.
    """

    num_regions: int
    num_rows: int
    row_length: int
    width: int = 768
    num_heads: int = 16
    mlp_width: int = 1024
    dropout: float = 0.1


class RegionEncoder(nnx.Module):
    """Patch features [b, k, f] -> responses [b, rows, slots].

    Each region has a learned query u. One decoder layer without self-attention gives its token z,
    and every vertex v reads the token of its own region r(v)::

        a = LN(attention(u, features + positions, features))
        z = LN(a + W2 relu(W1 a + b1) + b2)
        y_v = w_v . LN(z_r(v)) + c_v

    Hwang et al. 2025 ("In Silico Mapping of Visual Categorical Selectivity ..."). Different from
    the released encoder: one model for both hemispheres; the readout computes each vertex from its
    region's token alone, where the released code computes all vertices from all tokens
    and masks: for 500 regions of a hemisphere, 1/500 of the products and of what they fill.

    Args:
        config: the sizes.
    """

    config_class = RegionEncoderConfig

    def __init__(self, config: RegionEncoderConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.config = config
        self.queries = nnx.Param(jax.random.normal(rngs.params(), (config.num_regions, width)))
        self.attention = Attention(width, config.num_heads, qkv_bias=True, rngs=rngs)
        self.norm1 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.linear1 = nnx.Linear(width, config.mlp_width, rngs=rngs)
        self.linear2 = nnx.Linear(config.mlp_width, width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-5, rngs=rngs)
        shape = (config.num_rows, config.row_length)
        limit = width**-0.5

        def uniform(shape):
            return jax.random.uniform(rngs.params(), shape, minval=-limit, maxval=limit)

        self.readout_weights = nnx.Param(uniform((*shape, width)))
        self.readout_bias = nnx.Param(jnp.zeros(shape))

    def part(self, rows: Rows, regions: Sequence[int]) -> tuple["RegionEncoder", Rows]:
        """The encoder of some regions, in this order, which computes nothing for the others.

        Args:
            rows: of all regions.
            regions: which of them.
        """
        of = np.asarray(rows.region)
        own = [np.flatnonzero(of == i) for i in regions]
        region = np.repeat(np.arange(len(own), dtype=np.int32), [len(each) for each in own])
        taken = np.concatenate(own)
        packing = Packing(rows.packing.index[taken], rows.packing.mask[taken])
        part = nnx.clone(self)
        part.config = replace(self.config, num_regions=len(regions), num_rows=len(taken))
        part.queries = nnx.Param(self.queries[...][np.asarray(regions)])
        part.readout_weights = nnx.Param(self.readout_weights[...][taken])
        part.readout_bias = nnx.Param(self.readout_bias[...][taken])
        return part, Rows(packing, jnp.asarray(region))

    def tokens(
        self,
        features: Float[Array, "b k f"],
        grid: tuple[int, int],
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b r f"]:
        """One token per region.

        Args:
            features: of the patches, row by row.
            grid: rows and columns of patches.
            dropout_key: for training; None drops nothing.
        """
        keys = [None] * 3 if dropout_key is None else jax.random.split(dropout_key, 3)
        attention, heads = self.attention, self.config.num_heads
        positions = sine_positions(*grid, self.config.width).astype(self.queries.dtype)
        q = split_heads(attention.to_q(self.queries[...])[None], heads)
        k = split_heads(attention.to_k(features + positions), heads)
        v = split_heads(attention.to_v(features), heads)
        out, _ = attend(jnp.broadcast_to(q, (len(features), *q.shape[1:])), k, v)
        x = self.norm1(self._dropped(attention.to_out[0](merge_heads(out)), keys[0]))
        hidden = self._dropped(jax.nn.relu(self.linear1(x)), keys[1])
        x = self.norm2(x + self._dropped(self.linear2(hidden), keys[2]))
        return self.norm(x)

    def __call__(
        self,
        features: Float[Array, "b k f"],
        grid: tuple[int, int],
        rows: Rows,
        dropout_key: PRNGKeyArray | None = None,
    ) -> Float[Array, "b rows slots"]:
        """Responses; slots that hold no vertex are 0.

        Args:
            features: of the patches, row by row.
            grid: rows and columns of patches.
            rows: where the readout's outputs lie.
            dropout_key: for training; None drops nothing.
        """
        tokens = self.tokens(features, grid, dropout_key)
        if self.config.num_rows > self.config.num_regions:
            # Every region has a row, in order; where it has one only, nothing is to be gathered.
            tokens = tokens[:, rows.region]
        weights = self.readout_weights[...]
        values = jnp.einsum("brf,rvf->brv", tokens, weights, preferred_element_type=jnp.float32)
        return jnp.where(rows.packing.mask, values + self.readout_bias[...], 0.0)

    def _dropped(self, x: Array, key: PRNGKeyArray | None) -> Array:
        rate = self.config.dropout
        if key is None or rate == 0.0:
            return x
        return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
