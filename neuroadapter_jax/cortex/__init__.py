"""The cortical surface: parcellations, selection of regions, packing, areas, noise ceilings."""

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.packing import Packing, make_packing, pack, stack_packings, unpack
from neuroadapter_jax.cortex.parcellation import (
    Atlas,
    Parcellation,
    match_regions,
    parcellate_sphere,
    read_parcellation,
    write_annot,
)
from neuroadapter_jax.cortex.roi import AREA_GROUPS, AREA_LEVELS, group_areas, read_areas
from neuroadapter_jax.cortex.selection import region_snr, select_group_regions, select_regions

__all__ = [
    "AREA_GROUPS",
    "AREA_LEVELS",
    "Atlas",
    "NoiseCeiling",
    "Packing",
    "Parcellation",
    "group_areas",
    "make_packing",
    "match_regions",
    "pack",
    "parcellate_sphere",
    "read_areas",
    "read_parcellation",
    "region_snr",
    "select_group_regions",
    "select_regions",
    "stack_packings",
    "unpack",
    "write_annot",
]
