"""The paper's ablations on the clean simulated subject: train, reconstruct, score, tabulate.

    neuroadapter ablate --config ablation

Hardware: 2 CPU cores. Time and table: docs/ablation.md. One variant alone:

    neuroadapter train --config ablation:no_min_snr

--config.train.* and --config.data.* go to the training of every variant.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config

# Name -> what differs from "full".
VARIANTS = {
    "full": {},
    "no_token_dropout": {"drop_rate": "0.0"},
    # The mean of the uniform rate.
    "fixed_drop_rate": {"drop_rate": "0.5"},
    "no_min_snr": {"gamma": None},
    "quarter_p": {"num_regions": 20},
    "double_p": {"num_regions": 160},
    "no_region_structure": {"region_structure": False},
}


def get_config(variant: str = "full") -> ConfigDict:
    if variant not in VARIANTS:
        raise ValueError(f"configs/ablation.py:{variant}: expected one of {list(VARIANTS)}.")
    config = sibling_config(__file__, "demo")("clean")
    config.workdir = f"runs/ablation/{variant}/seed0"
    config.train.num_steps = 300
    config.train.warmup_steps = 30
    # The paper's, which the demo replaces by what learns faster (docs/design.md).
    config.train.drop_rate = "uniform"
    config.train.drop_all = 0.0
    config.train.region_structure = True
    config.train.evaluate_every = 300
    config.train.checkpoint_every = 100
    config.train.sample_steps = 4
    with config.ignore_type():
        config.train.update(VARIANTS[variant])

    config.ablation = ConfigDict()
    config.ablation.variants = ConfigDict(VARIANTS)
    config.ablation.seeds = (0, 1, 2)
    config.ablation.num_images = 100  # of the test split
    # The encoder chooses one of these; "without encoder selection" is their mean, so it needs no
    # training and no images besides.
    config.ablation.num_candidates = 4
    config.ablation.sampler = "dpmsolver++"
    config.ablation.num_steps = 6
    # A folder of `neuroadapter train-encoder`; trained from encoder_config when not given.
    config.ablation.encoder = config_dict.placeholder(str)
    config.ablation.encoder_config = "configs/encoder_demo.py:clean"
    return config
