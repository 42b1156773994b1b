"""Packing of cortical responses into regions of equal length: zero padding to v_max, inside jit."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.errors import InputError


@functools.partial(jax.tree_util.register_dataclass, data_fields=("index", "mask"), meta_fields=())
@dataclass(frozen=True)
class Packing:
    """Where each region's vertices lie on the cortex; a pytree.

    Attributes:
        index: int32 [p, v], index into the left-then-right cortex, 0 in empty slots; [u, p, v]
            where each of u subjects has its own regions, see `stack_packings`.
        mask: bool of the same shape, True where a slot holds a vertex.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> packing = make_packing(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3)))
        >>> packing.index.tolist(), packing.mask.tolist()
        ([[0, 2], [4, 0]], [[True, True], [True, False]])
    """

    index: Int32[Array, "*u p v"]
    mask: Bool[Array, "*u p v"]


def make_packing(regions: Parcellation, v_max: int | None = None) -> Packing:
    """Lays out regions as rows of v_max vertex slots, vertices in ascending order.

    Args:
        regions: the p chosen regions, in token order.
        v_max: slots per region; the largest region's size when None.

    Raises:
        InputError: a region is larger than v_max.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> regions = Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3))
        >>> make_packing(regions, v_max=5).index.shape
        (2, 5)
    """
    sizes = [len(v) for v in regions.vertices]
    largest = int(np.argmax(sizes))
    v_max = sizes[largest] if v_max is None else v_max
    if v_max < sizes[largest]:
        raise InputError(
            f"Region {regions.names[largest]!r} has {sizes[largest]} vertices, but v_max is "
            f"{v_max}; a model trained with this v_max needs the regions it was trained with."
        )
    index = np.zeros((len(regions), v_max), dtype=np.int32)
    mask = np.zeros((len(regions), v_max), dtype=bool)
    for i, size in enumerate(sizes):
        index[i, :size] = regions.cortex_indices(i)
        mask[i, :size] = True
    return Packing(index=jnp.asarray(index), mask=jnp.asarray(mask))


def stack_packings(packings: Sequence[Packing]) -> Packing:
    """One packing [u, p, v] of u subjects' packings [p, v], for a model of several subjects.

    Args:
        packings: one per subject, all of the same numbers of regions and slots.
    """
    return jax.tree.map(lambda *each: jnp.stack(each), *packings)


def compact(packing: Packing) -> tuple[Int32[np.ndarray, "*u m"], Packing]:
    """The vertices that a packing reads, and the same packing of responses that hold no others.

    pack(betas[vertices], compacted) = pack(betas, packing), so that a reader of large responses
    can leave the rest of the cortex where it is.

    Args:
        packing: index and mask [p, v]; [u, p, v] of u subjects.

    Returns:
        The vertices [m], ascending; of u subjects [u, m], where m is that of the subject with the
        most and the others' rows are filled up with vertex 0. And the packing by places among
        them.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing
        >>> from neuroadapter_jax.cortex.packing import compact
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> packing = make_packing(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3)))
        >>> vertices, compacted = compact(packing)
        >>> vertices.tolist(), compacted.index.tolist()
        ([0, 2, 4], [[0, 1], [2, 0]])
    """
    index, mask = np.asarray(packing.index), np.asarray(packing.mask)
    indices, masks = (array.reshape(-1, *index.shape[-2:]) for array in (index, mask))
    own = [np.unique(i[m]) for i, m in zip(indices, masks, strict=True)]
    vertices = np.zeros((len(own), max(map(len, own))), np.int32)
    places = np.zeros_like(indices)
    for u, each in enumerate(own):
        vertices[u, : len(each)] = each
        places[u][masks[u]] = np.searchsorted(each, indices[u][masks[u]])
    compacted = Packing(jnp.asarray(places.reshape(index.shape)), packing.mask)
    return vertices.reshape(*index.shape[:-2], -1), compacted


def pack(
    betas: Float[Array | np.ndarray, "*b n"],
    packing: Packing,
    subject: Int[Array | np.ndarray, " b"] | None = None,
) -> Float[Array, "*b p v"]:
    """Gathers responses into regions, with 0 in empty slots.

    ::

        out[b, p, v] = betas[b, index[p, v]]
        out[b, p, v] = betas[b, index[subject[b], p, v]]      with subjects

    Args:
        betas: responses of the whole cortex, left then right hemisphere, any unit.
        packing: from `make_packing`; from `stack_packings` with subjects.
        subject: which subject's regions each response [b, n] is packed by, 0 to u - 1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing, pack
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> packing = make_packing(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3)))
        >>> betas = np.arange(10.0, 16.0, dtype=np.float32)[None]  # one response of six vertices
        >>> pack(betas, packing).tolist()
        [[[10.0, 12.0], [14.0, 0.0]]]
    """
    if subject is None:
        return jnp.where(packing.mask, jnp.take(betas, packing.index, axis=-1), 0)
    index, mask = packing.index[subject], packing.mask[subject]
    taken = jnp.take_along_axis(jnp.asarray(betas), index.reshape(len(index), -1), axis=-1)
    return jnp.where(mask, taken.reshape(index.shape), 0)


def unpack(
    values: Float[Array | np.ndarray, "*b p"],
    packing: Packing,
    num_vertices: int,
    fill: float | Float[Array, ""] = jnp.nan,
) -> Float[Array, "*b n"]:
    """Spreads one value per region over the region's vertices.

    Args:
        values: one number per region.
        packing: from `make_packing`.
        num_vertices: vertices of both hemispheres; static under jit.
        fill: value of the vertices in no region.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing, unpack
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> packing = make_packing(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3)))
        >>> unpack(np.array([0.5, 0.25], np.float32), packing, num_vertices=6, fill=0.0).tolist()
        [0.5, 0.0, 0.5, 0.0, 0.25, 0.0]
    """
    spread = jnp.broadcast_to(values[..., None], (*values.shape, packing.index.shape[1]))
    return unpack_slots(spread, packing, num_vertices, fill)


def unpack_slots(
    values: Float[Array | np.ndarray, "*b p v"],
    packing: Packing,
    num_vertices: int,
    fill: float | Float[Array, ""] = jnp.nan,
) -> Float[Array, "*b n"]:
    """Puts packed values back to their vertices, the inverse of `pack`.

    Args:
        values: one number per slot; those of empty slots are dropped.
        packing: from `make_packing`.
        num_vertices: vertices of both hemispheres; static under jit.
        fill: value of the vertices in no region.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.cortex import Parcellation, make_packing, pack
        >>> from neuroadapter_jax.cortex.packing import unpack_slots
        >>> a, b = np.array([0, 2], np.int32), np.array([1], np.int32)
        >>> packing = make_packing(Parcellation(("A", "B"), ("lh", "rh"), (a, b), (3, 3)))
        >>> packed = pack(np.arange(10.0, 16.0, dtype=np.float32), packing)
        >>> unpack_slots(packed, packing, num_vertices=6, fill=0.0).tolist()
        [10.0, 0.0, 12.0, 0.0, 14.0, 0.0]
    """
    # Empty slots point past the end and are dropped.
    target = jnp.where(packing.mask, packing.index, num_vertices)
    cortex = jnp.full((*values.shape[:-2], num_vertices), fill, dtype=values.dtype)
    return cortex.at[..., target].set(values, mode="drop")
