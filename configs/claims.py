"""The claims ledger: what the paper says of its method, tried on a subject as noisy as NSD's.

    neuroadapter claims --config claims
    neuroadapter claims --config claims --report

Hardware: CPU cores, a cell of less than 90 minutes on each. Time and table: docs/claims.md. One
training alone:

    neuroadapter train --config claims:no_min_snr
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config

# Name -> what differs from "full", in the order in which the cells are run.
ROWS = {
    "full": {},
    "no_token_dropout": {"drop_rate": "0.0"},
    "p20": {"num_regions": 20},
    "p160": {"num_regions": 160},
    # The mean of the uniform rate.
    "fixed_drop_rate": {"drop_rate": "0.5"},
    "no_min_snr": {"gamma": None},
    "p40": {"num_regions": 40},
    "p320": {"num_regions": 320},
    "no_region_structure": {"region_structure": False},
    "mlp": {"region_hidden": 64},
    "pixel_loss": {"pixel_weight": 1.0},
}


def get_config(row: str = "full") -> ConfigDict:
    if row not in ROWS:
        raise ValueError(f"configs/claims.py:{row}: expected one of {list(ROWS)}.")
    config = sibling_config(__file__, "nsd_like")("1")
    config.workdir = f"runs/claims/{row}"
    config.train.batch_size = 16
    config.train.num_steps = 2400
    # The paper's, which the shipped adapter replaces by what learns faster (docs/design.md).
    config.train.drop_rate = "uniform"
    config.train.drop_all = 0.0
    config.train.region_structure = True
    config.train.region_hidden = config_dict.placeholder(int)
    config.train.pixel_weight = 0.0
    config.train.ema_decay = 0.999
    config.train.evaluate_every = 200
    config.train.checkpoint_every = 200
    config.train.sample_steps = 4
    with config.ignore_type():
        config.train.update(ROWS[row])

    config.claims = ConfigDict()
    config.claims.rows = ConfigDict(ROWS)
    config.claims.seeds = (0, 1, 2)
    config.claims.num_images = 200  # of the test split, the same in all cells
    # The encoder chooses one of these; "without encoder selection" is their mean, so it needs no
    # training and no images besides.
    config.claims.num_candidates = 4
    config.claims.num_selected = 8  # where the ways to choose are compared
    config.claims.sampler = "dpmsolver++"
    config.claims.num_steps = 8
    config.claims.encoder_config = "configs/encoder_demo.py"
    return config
