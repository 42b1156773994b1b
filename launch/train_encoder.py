"""Train the brain encoder that ranks candidate images.

    python launch/train_encoder.py --config configs/encoder_demo.py [--config.key=value]
        [--workdir DIR]

The data are prepared if they are not there. A run that was killed goes on where it stopped; the
encoder is in DIR/model at the end.
"""

import sys

import command_line
from absl import flags
from prepare import define_allow_pickle, prepare

from neuroadapter_jax.training.brain_encoder import EncoderSettings, train_encoders
from neuroadapter_jax.training.loop import Interrupted

FLAGS = flags.FLAGS


def main(_) -> None:
    config = _CONFIG.value
    workdir = FLAGS.workdir or config.workdir
    command_line.use_cpu_cores(config.encoder.batch_size)
    try:
        settings = EncoderSettings(
            prepared=config.data.prepared,
            parcellation=tuple(config.data.parcellation),
            parcels=config.data.get("parcels", "own"),
            **config.encoder.to_dict(),
        )
        prepare(config)
        folder = train_encoders(settings, workdir, progress=config.progress)
    except (ValueError, FileNotFoundError, FloatingPointError) as error:
        sys.exit(f"train_encoder: {error}")
    except Interrupted as end:
        print(f"train_encoder: {end}", file=sys.stderr)
        sys.exit(end.exit_code)
    print(f"Trained: {folder}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    define_allow_pickle()
    flags.DEFINE_string("workdir", None, "Goes before config.workdir.")
    command_line.run(main)
