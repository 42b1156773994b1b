"""A spatial adapter for tiny-sd that steers by coarse colours: configs/spatial_depth.py, but light.

    neuroadapter pretrain-spatial-adapter --config spatial_palette

Hardware: 2 CPU cores. The U-Net stays frozen.
"""

from ml_collections import ConfigDict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "spatial_depth")()
    config.workdir = "runs/spatial_palette"
    config.export = "runs/spatial_palette/export"
    config.adapter.condition = "palette"
    config.adapter.kind = "light"
    config.adapter.num_res_blocks = 4
    return config
