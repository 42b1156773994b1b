"""Accuracy of a brain encoder on test images: per vertex, per area, and as a map of the cortex.

    python launch/evaluate_encoder.py --encoder DIR --prepared DIR [--root DIR] [--out DIR]

Writes accuracy.json, correlation.npy and, on fsaverage5, correlation.png.
"""

import sys
from pathlib import Path

import command_line
import numpy as np
from absl import flags

from neuroadapter_jax.datasets.input_pipeline import eval_batches
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.encoder.accuracy import encoding_accuracy
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.figures.cortex_maps import save_figure, value_figure
from neuroadapter_jax.files import write_json
from neuroadapter_jax.simulation.nsd_writer import load_truth

FLAGS = flags.FLAGS
FSAVERAGE5 = 2 * 10_242


def main(_) -> None:
    try:
        encoder = BrainEncoder.from_pretrained(FLAGS.encoder)
        split = PreparedDataset(FLAGS.prepared, "test")
        if split.num_vertices != encoder.regions.num_vertices:
            raise ValueError(
                f"{FLAGS.prepared} has {split.num_vertices} vertices per hemisphere, the encoder "
                f"{encoder.regions.num_vertices}; use records of the encoder's surface."
            )
        roi = np.full(encoder.num_vertices, "")
        if FLAGS.root is not None:
            roi = load_truth(FLAGS.root)["roi"]
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate_encoder: {error}")
    images, measured = [], []
    for batch in eval_batches(split, 50):
        images.append(batch["image"][: batch["num_valid"]])
        measured.append(batch["betas"][: batch["num_valid"]].astype(np.float32))
    predicted = encoder.predict(np.concatenate(images))
    num_trials = len(split[0]["betas"])
    result, correlation = encoding_accuracy(
        predicted, np.concatenate(measured), split.ncsnr, num_trials, roi
    )
    out = Path(FLAGS.out or FLAGS.encoder)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "accuracy.json", result)
    np.save(out / "correlation.npy", correlation)
    if len(correlation) == FSAVERAGE5:
        label = f"Pearson's r over {len(split)} test images, {num_trials} trials averaged"
        save_figure(out / "correlation.png", value_figure(correlation.astype(float), label))
    for name, value in result["predictable"].items():
        print(f"{name}: {value:.3f}")
    print(f"without area: {result['median_correlation_without_roi']:.3f}")
    print(f"Accuracy: {out / 'accuracy.json'}")


if __name__ == "__main__":
    flags.DEFINE_string("encoder", None, "Folder of launch/train_encoder.py, or a shipped name.")
    flags.DEFINE_string("prepared", None, "Folder of prepared records.")
    flags.DEFINE_string("root", None, "The simulated subject's folder, for its areas.")
    flags.DEFINE_string("out", None, "Folder for the results; the encoder's when not given.")
    flags.mark_flags_as_required(["encoder", "prepared"])
    command_line.run(main)
