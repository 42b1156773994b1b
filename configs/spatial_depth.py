"""A spatial adapter for tiny-sd that steers by depth, trained on scenes.

    neuroadapter pretrain-spatial-adapter --config spatial_depth

Hardware: 2 CPU cores. The U-Net stays frozen.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/spatial_depth"
    config.export = "runs/spatial_depth/export"
    config.backbone = "tiny-sd"
    config.num_scenes = 12_000
    config.scene_seed = 1  # those of tiny-sd

    config.adapter = ConfigDict()
    config.adapter.condition = "depth"
    config.adapter.kind = "full"
    config.adapter.num_res_blocks = 2

    config.training = ConfigDict()
    config.training.batch_size = 32
    config.training.num_steps = 3_000
    config.training.learning_rate = (
        1e-3  # the paper's is 1e-5, for networks a thousand times as large
    )
    config.training.weight_decay = 0.0
    config.training.drop_text = 0.5  # the paper's is 0: every image has its caption
    config.training.timesteps = (
        "cubic"  # most steps at high noise; the released CoAdapter has "uniform"
    )
    return config
