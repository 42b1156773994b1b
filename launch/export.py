"""Turn a training run's best checkpoint into a folder for `NeuroAdapterPipeline.from_pretrained`.

python launch/export.py --run runs/demo/train --out runs/demo/model
"""

import sys

import numpy as np
from absl import app, flags

from neuroadapter_jax.export import pipeline_of_run

FLAGS = flags.FLAGS


def main(_) -> None:
    try:
        pipeline = pipeline_of_run(FLAGS.run)
        pipeline.save_pretrained(FLAGS.out, np.float16 if FLAGS.half else np.float32)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"export: {error}")
    print(f"Exported: {FLAGS.out}")


if __name__ == "__main__":
    flags.DEFINE_string("run", None, "Work folder of launch/train.py.")
    flags.DEFINE_string("out", None, "Folder to write.")
    flags.DEFINE_bool("half", False, "Write float16 weights.")
    flags.mark_flags_as_required(["run", "out"])
    app.run(main)
