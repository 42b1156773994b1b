"""Measure a brain encoder's accuracy on test images.

    neuroadapter evaluate-encoder --encoder DIR --prepared DIR
    neuroadapter evaluate-encoder --encoder DIR --prepared DIR --root DIR --out DIR

Per vertex, per ROI, and as a map of the cortex. Writes accuracy.json, correlation.npy and, on
one of FreeSurfer's average surfaces or with --meshes on a subject's own, correlation.png.
"""

from pathlib import Path

from neuroadapter_jax.commands.given import SIMULATED, holds, must_exist, pair
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared


def define(values: CommandFlags) -> None:
    define_shared(
        values, "encoder", "prepared", "root", "out", "meshes", "allow_other",
        required=("encoder", "prepared"),
        helps={
            "root": "The simulated subject's folder, for its ROIs.",
            "out": "Folder for the results; the encoder's when not given.",
        },
    )  # fmt: skip
    holds(values, "root", *SIMULATED)
    pair(values, "meshes")
    must_exist(values, "meshes")


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.cortex.shown_surface import ShownSurface
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.studies.encoder_accuracy import evaluate_encoder

    surface = None
    if values.meshes:  # before the encoder is loaded
        surface = ShownSurface.from_files(values.meshes)
        surface.require_of(
            PreparedDataset(values.prepared, "test").num_vertices,
            f"the responses of {values.prepared}",
        )
    encoder = BrainEncoder.from_pretrained(values.encoder, allow_other=values.allow_other)
    out = values.out or values.encoder
    result = evaluate_encoder(encoder, values.prepared, out, values.root, surface)
    found = dict(result["predictable"])
    count = f"{found.pop('num_vertices'):,} vertices with a noise ceiling above"
    print(f"Medians over {count} {result['least_ceiling']}:")
    for name, value in found.items():
        print(f"  {name.replace('_', ' ')}: {value:.3f}")
    if values.root is not None:
        print(f"  correlation outside all ROIs: {result['median_correlation_without_roi']:.3f}")
    print(f"Accuracy: {Path(out) / 'accuracy.json'}")
