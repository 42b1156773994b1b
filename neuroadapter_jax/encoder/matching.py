"""Whether an encoder fits an adapter's images: the same mesh, regions and data."""

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from neuroadapter_jax.cortex.parcellation import Parcellation, region_keys
from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.errors import InputError

if TYPE_CHECKING:
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder


def check_fits(encoder: "BrainEncoder", regions: Parcellation, provenance: dict[str, Any]) -> None:
    """Refuse an encoder that does not fit an adapter's images.

    Args:
        encoder: what ranks the images.
        regions: the adapter's.
        provenance: the adapter's, as its config.json holds it.

    Raises:
        InputError: another mesh or parcellation, or trained on other data than the encoder's
            `allow_other` lets pass; see `made_for`.
    """
    matching_regions(encoder.regions, regions)
    adapter = Origin.of("the adapter", provenance)
    made_for(Origin.of("the encoder", encoder.provenance), adapter, encoder.allow_other)


def matching_regions(known: Parcellation, wanted: Parcellation) -> list[int]:
    """Which of an encoder's regions have the vertices of some regions.

    One by one, by vertices and not by name: other files give the same parcels other names and
    orders. Or together, for the control without region structure, whose regions are others of
    the same sizes over the same vertices (`shuffle_regions`).

    Args:
        known: the encoder's regions.
        wanted: those whose images it is to rank.

    Raises:
        InputError: another mesh or another parcellation, naming what differs.
    """
    if known.num_vertices != wanted.num_vertices:
        raise InputError(
            f"The encoder was trained on {known.num_vertices} vertices per hemisphere, the regions "
            f"are of {wanted.num_vertices}; use an encoder of the same surface."
        )
    place = {key: i for i, key in enumerate(region_keys(known))}
    keys = region_keys(wanted)
    if all(key in place for key in keys):
        return [place[key] for key in keys]
    inside = vertices_inside(wanted)
    within = [i for i in range(len(known)) if inside[known.cortex_indices(i)].all()]
    found = known.subset(within)
    if np.array_equal(vertices_inside(found), inside) and _sizes(found) == _sizes(wanted):
        return within
    name, (h, _) = next(
        (name, key) for name, key in zip(wanted.names, keys, strict=True) if key not in place
    )
    raise InputError(
        f"The encoder was trained with another parcellation: it has no region {name!r} "
        f"({h}) of the same vertices; use an encoder of the parcellation the adapter was "
        f"trained with."
    )


def vertices_inside(regions: Parcellation) -> Bool[np.ndarray, " n"]:
    """The vertices of the whole cortex that lie in some region."""
    inside = np.zeros(sum(regions.num_vertices), bool)
    for i in range(len(regions)):
        inside[regions.cortex_indices(i)] = True
    return inside


def _sizes(regions: Parcellation) -> list[tuple[str, int]]:
    """Hemisphere and number of vertices of every region, sorted."""
    return sorted((h, len(v)) for h, v in zip(regions.hemispheres, regions.vertices, strict=True))
