"""The released whole-brain encoder: DINOv2's queries of four blocks, one subject of NSD.

    neuroadapter train-encoder --config encoder_nsd \
        --config.data.root=<NSD's folder>

Hardware: one GPU of 16 GB or more, since a step takes 7.4 GiB (compiled, not run: docs/scaling.md);
13.3 GB of disk per block for the features.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    base = sibling_config(__file__, "nsd")()
    config = ConfigDict()
    config.workdir = "runs/nsd-encoder"
    config.backbone = base.backbone
    config.data = base.data

    config.encoder = ConfigDict()
    config.encoder.backbone = "facebook/dinov2-base"
    config.encoder.image_size = 425
    config.encoder.padded_size = 434
    config.encoder.blocks = (1, 3, 5, 7)
    config.encoder.num_runs = 2
    config.encoder.num_heads = 16
    config.encoder.mlp_width = 1024
    config.encoder.dropout = 0.1
    config.encoder.row_length = 64
    config.encoder.seed = 0
    config.encoder.batch_size = 16
    # Ten epochs over single trials, three of each image.
    config.encoder.num_epochs = 30.0
    config.encoder.num_steps = config_dict.placeholder(int)
    # One of the released scripts has 1e-4: --config.encoder.learning_rate=1e-4
    config.encoder.learning_rate = 5e-4
    config.encoder.warmup_steps = 0
    config.encoder.schedule = "step"
    config.encoder.decay_epochs = 12.0
    config.encoder.weight_decay = 1e-4
    config.encoder.clip_norm = 0.1
    config.encoder.ema_decay = config_dict.placeholder(float)
    config.encoder.repeats = "single"
    config.encoder.sharpness = 20.0
    config.encoder.log_every = 100
    config.encoder.evaluate_every = 2000
    config.encoder.checkpoint_every = 2000
    config.progress = True
    return config
