"""tiny-vit: the small vision transformer that ships with the package, trained on scenes.

    neuroadapter pretrain-vit --config tiny_vit

Hardware: 2 CPU cores. Time and losses: see neuroadapter_jax/assets/tiny-vit/README.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/tiny_vit"
    config.export = "neuroadapter_jax/assets/tiny-vit"
    config.num_scenes = 12_000
    config.scene_seed = 2

    config.model = ConfigDict()
    config.model.hidden_size = 192
    config.model.num_hidden_layers = 4
    config.model.num_attention_heads = 6
    config.model.image_size = 64
    config.model.patch_size = 8

    config.training = ConfigDict()
    config.training.batch_size = 64
    config.training.num_steps = 1_500
    config.training.learning_rate = 1e-3
    config.training.weight_decay = 1e-2
    config.training.ema_decay = 0.998
    config.training.pixel_weight = 1.0
    return config
