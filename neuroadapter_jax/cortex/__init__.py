"""The cortical surface: parcellations, selection of regions, packing, areas, noise ceilings."""

from neuroadapter_jax.cortex.areas import AREA_GROUPS, group_areas, read_areas
from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.packing import Packing, make_packing, pack, unpack
from neuroadapter_jax.cortex.parcellation import (
    Parcellation,
    parcellate_sphere,
    read_parcellation,
    write_annot,
)
from neuroadapter_jax.cortex.selection import region_snr, select_regions

__all__ = [
    "AREA_GROUPS",
    "NoiseCeiling",
    "Packing",
    "Parcellation",
    "group_areas",
    "make_packing",
    "pack",
    "parcellate_sphere",
    "read_areas",
    "read_parcellation",
    "region_snr",
    "select_regions",
    "unpack",
    "write_annot",
]
