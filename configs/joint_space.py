"""A joint space of scenes and captions, over tiny-vit and tiny-sd's text encoder.

    neuroadapter pretrain-joint-space --config joint_space

Hardware: 2 CPU cores. The metric `evaluation.features.JOINT_SPACE` reads its export.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/joint_space"
    config.export = "runs/joint_space/export"
    config.vit = "tiny-vit"
    config.backbone = "tiny-sd"
    config.num_scenes = 12_000
    config.scene_seed = 2  # those of tiny-vit
    config.width = 64

    config.training = ConfigDict()
    config.training.batch_size = 256
    config.training.num_steps = 2_000
    config.training.learning_rate = 1e-2
    config.training.weight_decay = 1e-4
    return config
