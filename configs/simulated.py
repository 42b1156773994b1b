r"""The shipped adapter of the simulated subject: configs/demo.py, trained for longer.

    python launch/train.py --config configs/simulated.py
    python launch/export.py --run runs/simulated/train --half --last \
        --out neuroadapter_jax/assets/neuroadapter-simulated

The last checkpoint, because its validation images show more things that can be named (61 % against
57 % at step 2,000, where the validation loss is lowest).

Hardware: 2 CPU cores. Time and scores: neuroadapter_jax/assets/neuroadapter-simulated/README.md.
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    spec = importlib.util.spec_from_file_location("demo", Path(__file__).with_name("demo.py"))
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    config = demo.get_config()
    config.workdir = "runs/simulated/train"
    config.train.batch_size = 32
    config.train.num_steps = 4000
    config.train.ema_decay = 0.999
    config.train.evaluate_every = 250
    config.train.checkpoint_every = 250
    return config
