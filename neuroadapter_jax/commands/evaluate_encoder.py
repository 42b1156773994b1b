"""Measure a brain encoder's accuracy on test images.

    neuroadapter evaluate-encoder --encoder DIR --prepared DIR
    neuroadapter evaluate-encoder --encoder DIR --prepared DIR --root DIR --out DIR

Per vertex, per ROI, and as a map of the cortex. Writes accuracy.json, correlation.npy and, on
fsaverage5, correlation.png.
"""

from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared

FSAVERAGE5 = 2 * 10_242


def define(values: CommandFlags) -> None:
    define_shared(
        values, "encoder", "prepared", "root", "out",
        required=("encoder", "prepared"),
        helps={
            "root": "The simulated subject's folder, for its ROIs.",
            "out": "Folder for the results; the encoder's when not given.",
        },
    )  # fmt: skip


def main(values: CommandFlags, arguments: list[str]) -> None:
    import numpy as np

    from neuroadapter_jax.datasets.input_pipeline import eval_batches
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.encoder.accuracy import encoding_accuracy
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.figures.cortex_maps import save_figure, value_figure
    from neuroadapter_jax.files import write_json
    from neuroadapter_jax.simulation.nsd_writer import load_truth

    encoder = BrainEncoder.from_pretrained(values.encoder)
    split = PreparedDataset(values.prepared, "test")
    if split.num_vertices != encoder.regions.num_vertices:
        raise ValueError(
            f"{values.prepared} has {split.num_vertices} vertices per hemisphere, the encoder "
            f"{encoder.regions.num_vertices}; use records of the encoder's surface."
        )
    roi = np.full(encoder.num_vertices, "")
    if values.root is not None:
        roi = load_truth(values.root)["roi"]
    images, measured = [], []
    for batch in eval_batches(split, 50):
        images.append(batch["image"][: batch["num_valid"]])
        measured.append(batch["betas"][: batch["num_valid"]].astype(np.float32))
    predicted = encoder.predict(np.concatenate(images))
    num_trials = len(split[0]["betas"])
    result, correlation = encoding_accuracy(
        predicted, np.concatenate(measured), split.ncsnr, num_trials, roi
    )
    out = Path(values.out or values.encoder)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "accuracy.json", result)
    np.save(out / "correlation.npy", correlation)
    if correlation.size == FSAVERAGE5:
        label = f"Pearson's r over {len(split)} test images, {num_trials} trials averaged"
        save_figure(out / "correlation.png", value_figure(correlation.astype(float), label))
    for name, value in result["predictable"].items():
        print(f"{name}: {value:.3f}")
    print(f"outside all ROIs: {result['median_correlation_without_roi']:.3f}")
    print(f"Accuracy: {out / 'accuracy.json'}")
