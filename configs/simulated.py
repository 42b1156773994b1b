r"""The shipped adapter of the simulated subject: configs/demo.py, trained for longer.

    neuroadapter train --config simulated
    neuroadapter export --run runs/simulated/train --half --last \
        --out neuroadapter_jax/assets/neuroadapter-simulated

The last checkpoint, because its validation images show more objects that can be named (61 % against
57 % at step 2,000, where the validation loss is lowest). The subject is the clean one. With
simulated:nsd_like it is the subject of configs/nsd_like.py; docs/pictures/shipped_models.py trains,
exports and scores its adapter and brain encoder.

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
