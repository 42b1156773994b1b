"""image-adapter-tiny: the image adapter that ships with the package, for tiny-sd and tiny-vit.

    neuroadapter train-image-adapter --config image_adapter_tiny

Hardware: 2 CPU cores. Time and scores: see neuroadapter_jax/assets/image-adapter-tiny/README.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/image_adapter_tiny"
    config.export = "neuroadapter_jax/assets/image-adapter-tiny"
    config.backbone = "tiny-sd"
    config.embedder = "tiny-vit"
    config.num_scenes = 8_000
    config.scene_seed = 1  # tiny-sd's own; the simulated subject looks at others

    config.resampler = ConfigDict()
    config.resampler.width = 64
    config.resampler.depth = 2
    config.resampler.heads = 4
    config.resampler.head_width = 16
    config.resampler.queries = 16

    config.training = ConfigDict()
    config.training.batch_size = 32
    config.training.num_steps = 2_000
    config.training.learning_rate = 1e-3
    config.training.weight_decay = 1e-2
    config.training.ema_decay = 0.998
    config.training.gamma = 5.0
    config.training.caption_rate = 0.5
    config.training.drop_rate = 0.1
    return config
