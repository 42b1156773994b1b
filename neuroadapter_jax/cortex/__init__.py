"""The cortical surface: parcellations, selection of regions, packing, ROIs, noise ceilings."""

from neuroadapter_jax.cortex.label_files import read_parcellation, write_annot
from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.packing import Packing, make_packing, pack, stack_packings, unpack
from neuroadapter_jax.cortex.parcellation import Atlas, Parcellation, match_regions
from neuroadapter_jax.cortex.roi import ROI_GROUPS, ROI_LEVELS, group_rois, read_rois
from neuroadapter_jax.cortex.selection import region_snr, select_group_regions, select_regions
from neuroadapter_jax.cortex.sphere import parcellate_sphere

__all__ = [
    "ROI_GROUPS",
    "ROI_LEVELS",
    "Atlas",
    "NoiseCeiling",
    "Packing",
    "Parcellation",
    "group_rois",
    "make_packing",
    "match_regions",
    "pack",
    "parcellate_sphere",
    "read_parcellation",
    "read_rois",
    "region_snr",
    "select_group_regions",
    "select_regions",
    "stack_packings",
    "unpack",
    "write_annot",
]
