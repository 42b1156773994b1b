"""Scene reader: reads the category in each slot of a 64 x 64 scene.

    neuroadapter train-scene-reader --config scene_reader

Time and accuracy: the card in neuroadapter_jax/assets/scene_reader. A smaller run:
--config.num_steps=100 --config.num_held_out=200 --out /tmp/scene_reader
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.num_steps = 2_000
    config.batch_size = 64
    config.learning_rate = 2e-3
    config.weight_decay = 1e-4
    config.num_held_out = 2_000
    config.held_out_seed = 1_000_003
    return config
