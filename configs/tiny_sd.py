"""tiny-sd: the small Stable Diffusion that ships with the package, trained on captioned scenes.

    neuroadapter pretrain-backbone --config tiny_sd

Hardware: 2 CPU cores. Time and losses: see neuroadapter_jax/assets/tiny-sd/README.md.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.workdir = "runs/tiny_sd"
    config.export = "neuroadapter_jax/assets/tiny-sd"
    config.num_scenes = 24_000
    config.scene_seed = 1

    config.vae = ConfigDict()
    config.vae.block_out_channels = (32, 48, 64)
    config.vae.layers_per_block = 1
    config.vae.norm_num_groups = 16
    config.vae.learning_rate = 2e-3
    config.vae.num_steps = 1_500
    config.vae.batch_size = 16
    config.vae.kl_weight = 1e-6
    config.vae.absolute_weight = 0.5

    config.text_encoder = ConfigDict()
    config.text_encoder.hidden_size = 64
    config.text_encoder.intermediate_size = 256
    config.text_encoder.num_hidden_layers = 3
    config.text_encoder.num_attention_heads = 4
    config.text_encoder.length = 24

    config.unet = ConfigDict()
    config.unet.block_out_channels = (64, 128)
    config.unet.layers_per_block = 1
    config.unet.num_heads = 4
    config.unet.norm_num_groups = 16
    config.unet.learning_rate = 2e-3
    config.unet.b2 = 0.99
    config.unet.num_steps = 4_500
    config.unet.batch_size = 32
    config.unet.gamma = 5.0
    config.unet.drop_rate = 0.1
    return config
