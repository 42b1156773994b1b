"""Turn a training run's best or last checkpoint into a folder for `from_pretrained`.

python launch/export.py --run runs/demo/train --out runs/demo/model
"""

import json
import sys
from pathlib import Path

import command_line
from absl import flags

from neuroadapter_jax.decoders.neuroadapter import export_run

FLAGS = flags.FLAGS


def main(_) -> None:
    try:
        results = FLAGS.results and json.loads(Path(FLAGS.results).read_text())
        export_run(
            FLAGS.run,
            FLAGS.out,
            half=FLAGS.half,
            last=FLAGS.last,
            subject=FLAGS.subject,
            results=results,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"export: {error}")
    print(f"Exported: {FLAGS.out}")


if __name__ == "__main__":
    flags.DEFINE_string("run", None, "Work folder of launch/train.py.")
    flags.DEFINE_string("out", None, "Folder to write.")
    flags.DEFINE_string("results", None, "results.json of launch/evaluate.py, for the card.")
    flags.DEFINE_string("subject", None, "Which subject's, of a model of several.")
    flags.DEFINE_bool("last", False, "Take the last checkpoint, not that of the best validation.")
    flags.DEFINE_bool("half", False, "Write float16 weights.")
    flags.mark_flags_as_required(["run", "out"])
    command_line.run(main)
