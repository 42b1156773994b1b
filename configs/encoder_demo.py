"""The simulated subject's brain encoder, trained in about three minutes.

    neuroadapter train-encoder --config encoder_demo
    neuroadapter train-encoder --config encoder_demo:nsd_like

clean, where nothing is named, and nsd_like are the subjects of configs/demo.py.

Hardware: 2 CPU cores. Accuracy: docs/encoder.md.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config(which: str = "clean") -> ConfigDict:
    demo = sibling_config(__file__, "demo")(which)
    config = ConfigDict()
    config.workdir = demo.data.prepared.replace("prepared", "encoder")
    config.backbone = "tiny-sd"  # of the prepared records, which the adapter's training shares
    config.data = demo.data

    config.encoder = ConfigDict()
    config.encoder.backbone = "tiny-vit"
    config.encoder.image_size = 64
    config.encoder.padded_size = 64
    config.encoder.blocks = (1,)
    config.encoder.num_runs = 1
    config.encoder.num_heads = 8
    config.encoder.mlp_width = 192
    config.encoder.dropout = 0.1
    config.encoder.row_length = 32
    config.encoder.seed = 0
    config.encoder.batch_size = 16
    config.encoder.num_steps = 600
    config.encoder.num_epochs = config_dict.placeholder(float)
    config.encoder.learning_rate = 3e-3
    config.encoder.warmup_steps = 50
    config.encoder.schedule = "cosine"
    config.encoder.decay_epochs = 4.0
    config.encoder.weight_decay = 1e-4
    config.encoder.clip_norm = 1.0
    config.encoder.ema_decay = 0.99
    config.encoder.repeats = "single"
    config.encoder.sharpness = 20.0
    config.encoder.log_every = 20
    config.encoder.evaluate_every = 200
    config.encoder.checkpoint_every = 200
    config.progress = True
    return config
