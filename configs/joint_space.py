"""The joint space of scenes and captions that ships with the package.

    neuroadapter pretrain-joint-space --config joint_space

Hardware: 2 CPU cores, about a minute. Scores: see neuroadapter_jax/assets/joint-space/README.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/joint_space"
    config.export = "neuroadapter_jax/assets/joint-space"
    config.vit = "tiny-vit"
    config.backbone = "tiny-sd"
    config.num_scenes = 2_000
    config.scene_seed = 2  # those of tiny-vit
    config.width = 64

    config.training = ConfigDict()
    config.training.batch_size = 256
    config.training.num_steps = 2_000
    config.training.learning_rate = 1e-2
    config.training.weight_decay = 1e-4
    return config
