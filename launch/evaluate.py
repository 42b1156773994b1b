"""Score reconstructions of the simulated subject; writes results.json into their folder.

python launch/evaluate.py runs/demo/minutes/own --permuted runs/demo/minutes/permuted \
        --model runs/demo/model --prepared runs/embedded/prepared --root runs/embedded/nsd
"""

import sys
from pathlib import Path

import command_line
from absl import flags

from neuroadapter_jax.diffusion.weights import write_json
from neuroadapter_jax.evaluation.embedded_run import score_embedded

FLAGS = flags.FLAGS
SCORES = (
    "two_way_pixels",
    "pixel_correlation",
    "ssim",
    "semantic_recall",
    "thing_identification",
)


def main(arguments) -> None:
    if len(arguments) != 2:
        sys.exit("evaluate: name one folder of reconstructions.")
    folder = Path(arguments[1])
    try:
        results = score_embedded(
            folder,
            permuted=FLAGS.permuted,
            model=FLAGS.model,
            prepared=FLAGS.prepared,
            root=FLAGS.root,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate: {error}")
    write_json(folder / "results.json", results)
    for name in SCORES:
        print(f"{name}: {results[name]['value']:.3f}")
    print(f"recall relative to readout: {results['recall_relative_to_readout']['value']:.3f}")
    print(f"Scores: {folder / 'results.json'}")


if __name__ == "__main__":
    flags.DEFINE_string("permuted", None, "Folder drawn with --permute_responses.")
    flags.DEFINE_string("model", None, "The model's folder, or a shipped model's name.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records.")
    flags.DEFINE_string("root", None, "The simulated subject's folder.")
    flags.mark_flags_as_required(["permuted", "model", "prepared", "root"])
    command_line.run(main)
