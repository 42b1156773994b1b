r"""The shipped adapter: configs/demo.py, trained for longer.

    neuroadapter train --config simulated
    neuroadapter train --config simulated:nsd_like

clean, where nothing is named, and nsd_like are the subjects of configs/demo.py. The adapter that
ships is of the clean one; docs/pictures/shipped_models.sh makes everything that ships anew.

Hardware: 2 CPU cores. Time and scores: neuroadapter_jax/assets/neuroadapter-simulated/README.md.
"""

from ml_collections import ConfigDict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config(which: str = "clean") -> ConfigDict:
    config = sibling_config(__file__, "demo")(which)
    config.workdir = config.data.prepared.replace("prepared", "train")
    config.train.batch_size = 32
    config.train.num_steps = 4000
    config.train.ema_decay = 0.999
    config.train.evaluate_every = 250
    config.train.checkpoint_every = 250
    return config
