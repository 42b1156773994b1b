"""The shipped adapter of the simulated subject, distilled to sample in 1 to 4 steps.

    neuroadapter prepare --config simulated
    neuroadapter distill --config distill

Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378) of the U-Net's LoRA, with the
model's own guidance folded in. Published LCM-LoRA runs have rank 64, learning rate 1e-4, a grid of
50 points and a moving average of 0.95 (arXiv 2311.05556); on tiny-sd fewer points and a faster
average reach every noise level within a few hundred steps.

Hardware: one CPU core. Time and scores: docs/few-steps.md.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.model = "neuroadapter-simulated"
    config.prepared = "runs/simulated/prepared"
    config.workdir = "runs/simulated/distill"
    config.export = "runs/simulated/distilled"

    config.distillation = ConfigDict()
    config.distillation.seed = 0
    config.distillation.rank = 8
    # "attention" for the four projections of every attention; "all" as published LCM-LoRA files.
    config.distillation.targets = "all"
    # None for the model's own.
    config.distillation.guidance_scale = config_dict.placeholder(float)
    config.distillation.num_grid = 20
    config.distillation.batch_size = 16
    config.distillation.num_steps = 1000
    config.distillation.learning_rate = 1e-3
    config.distillation.warmup_steps = 20
    config.distillation.b2 = 0.99
    config.distillation.clip_norm = 1.0
    config.distillation.ema_decay = 0.9
    config.distillation.huber = 1e-3
    config.distillation.sample_steps = 4
    config.distillation.num_validation = 20
    config.distillation.log_every = 20
    config.distillation.evaluate_every = 250
    config.distillation.checkpoint_every = 100
    config.progress = True
    return config
