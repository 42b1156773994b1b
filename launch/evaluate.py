"""Score a folder of reconstructions; writes results.json, per_image.csv and results.md into it.

    python launch/evaluate.py runs/drawn [--convention mindeye|neuroadapter] [--weights DIR]

Of the simulated subject, whose truth is known, more can be said:

    python launch/evaluate.py runs/demo/minutes/own --permuted runs/demo/minutes/permuted \
        --model runs/demo/model --prepared runs/simulated/prepared --root runs/simulated/nsd

What the second of two scored folders has more, image by image:

    python launch/evaluate.py --compare runs/demo/minutes/own runs/demo/hour/own [--out DIR]

The networks of AlexNet, Inception, CLIP, EfficientNet and SwAV need the extra `pytorch` and their
weights: files under their published names in --weights, in PyTorch's or the Hub's cache, or
fetched with --download (2 GB). A metric whose network is not there is reported as missing.
"""

import sys
from pathlib import Path

import command_line
from absl import flags

from neuroadapter_jax.evaluation.protocol import CONVENTIONS
from neuroadapter_jax.evaluation.results import (
    difference_table,
    paired_differences,
    summary_lines,
    write_text,
)
from neuroadapter_jax.evaluation.score_folder import score_folder
from neuroadapter_jax.files import write_json

FLAGS = flags.FLAGS


def compare(folders: list[str]) -> None:
    differences = paired_differences(*folders)
    table = difference_table(differences)
    print(table, end="")
    if FLAGS.out is not None:
        out = Path(FLAGS.out)
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "comparison.md", table)
        write_json(out / "comparison.json", differences)
        print(f"Differences: {out / 'comparison.json'}, {out / 'comparison.md'}")


def main(arguments) -> None:
    folders = arguments[1:]
    try:
        if len(folders) != (2 if FLAGS.compare else 1):
            raise ValueError(
                f"found {len(folders)} folders; name one folder of reconstructions, or two with "
                "--compare."
            )
        if FLAGS.compare:
            compare(folders)
            return
        if FLAGS.out is not None:
            raise ValueError("--out belongs to --compare; scores go into the folder itself.")
        results = score_folder(
            folders[0],
            convention=FLAGS.convention,
            prepared=FLAGS.prepared,
            root=FLAGS.root,
            model=FLAGS.model,
            permuted=FLAGS.permuted,
            weights=FLAGS.weights,
            download=FLAGS.download,
            set_level=FLAGS.set_level,
        )
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate: {error}")
    for line in summary_lines(results):
        print(line)
    print(f"Scores: {Path(folders[0]) / 'results.json'}, per_image.csv, results.md")


if __name__ == "__main__":
    flags.DEFINE_enum(
        "convention", "mindeye", list(CONVENTIONS), "Whose preprocessing and orientation."
    )
    flags.DEFINE_string("prepared", None, "Prepared records that the folder has to show exactly.")
    flags.DEFINE_string("root", None, "The simulated subject's folder; needs --prepared.")
    flags.DEFINE_string("model", None, "With --root: whose regions a linear readout sees.")
    flags.DEFINE_string("permuted", None, "With --root: folder drawn with --permute_responses.")
    flags.DEFINE_string("weights", None, "Folder of the feature networks' weights.")
    flags.DEFINE_bool("download", False, "Fetch weights that are not here.")
    flags.DEFINE_bool("set_level", False, "Identify whole sets of candidates as well.")
    flags.DEFINE_bool("compare", False, "Compare two scored folders.")
    flags.DEFINE_string("out", None, "With --compare: folder for comparison.json and .md.")
    command_line.run(main)
