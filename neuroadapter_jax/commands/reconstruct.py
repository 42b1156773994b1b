r"""Reconstruct the images of a split from its responses.

    neuroadapter reconstruct --model DIR --prepared DIR --out DIR
    neuroadapter reconstruct --run runs/demo/train --prepared runs/simulated/prepared --out DIR
    neuroadapter reconstruct --model DIR --prepared IMAGERY --split imagery --out DIR \
        --allow_other dataset
    neuroadapter reconstruct --model DIR --prepared DIR --out DIR --num_candidates 8 \
        --encoder DIR --halving 6:4,10:1

--model is a folder of `neuroadapter export`, the name of a shipped model or a model of the Hub;
--run takes the best checkpoint of a training run instead. --out gets images/, grid.png and
index.json; a killed call goes on when it is given again. --derivatives gets the same images under
names of BIDS, with a table. Model, encoder and records have to be of the same subject, surface and
normalisation; --allow_other names what may differ, such as the dataset for NSD-Imagery.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from neuroadapter_jax.commands.given import exactly_one, excludes, must_exist, needs
from neuroadapter_jax.commands.machine import plan_memory, use_cpu_cores
from neuroadapter_jax.commands.shared_flags import (
    CommandFlags,
    define_sampling,
    define_shared,
    sampling_from,
    within,
)
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import ShareAboveZero

if TYPE_CHECKING:
    from neuroadapter_jax.diffusion.sampling import Sampling
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline


def define(values: CommandFlags) -> None:
    define_shared(
        values, "model", "run", "prepared", "out", "split", "num_images", "num_candidates", "seed",
        "batch_size", "images_at_once", "precision", "encoder", "allow_other", "progress",
        required=("prepared", "out"),
        helps={
            "out": "Folder for the images.",
            "encoder": "Brain encoder that chooses: a folder of `neuroadapter train-encoder`.",
        },
    )  # fmt: skip
    define_sampling(values)
    flags.DEFINE_string(
        "low_level_start", None, "Begin from these latents: an npz file or a folder of images.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "strength", 0.8, "With --low_level_start: share of the steps taken.", flag_values=values
    )
    flags.DEFINE_list(
        "halving", [],
        "With --encoder, STEPS:KEPT,...: after so many steps go on with the best so many only.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "keep_candidates", False, "With --encoder, write every candidate.", flag_values=values
    )
    flags.DEFINE_bool(
        "permute_responses", False,
        "Control: reconstruct each image from another image's response.",
        flag_values=values,
    )  # fmt: skip
    for name, help in {
        "derivatives": "BIDS-derivatives dataset that gets the images and a table of them as well.",
        "task": "With --derivatives: the task's label in the raw dataset; the dataset's name when "
        "not given.",
    }.items():
        flags.DEFINE_string(name, None, help, flag_values=values)
    within(values, "strength", ShareAboveZero)
    exactly_one(values, "model", "run")
    needs(values, "strength", "low_level_start")
    needs(values, "halving", "encoder")
    needs(values, "keep_candidates", "encoder")
    needs(values, "task", "derivatives")
    excludes(values, "low_level_start", "start")
    must_exist(values, "low_level_start")


def read_halving(pairs: list[str]) -> tuple[tuple[int, int], ...]:
    """["6:4", "10:1"] -> ((6, 4), (10, 1))."""
    try:
        return tuple((int(steps), int(kept)) for steps, kept in (pair.split(":") for pair in pairs))
    except ValueError:
        raise InputError(
            f"--halving is {','.join(pairs)}; expected STEPS:KEPT,... such as 6:4,10:1."
        ) from None


def read_own_sampling(model: str | None, run: str | None) -> tuple["Sampling", int]:
    """The sampling and the number of candidates of a model or a run; no weights are read."""
    from neuroadapter_jax.pipeline.saving import read_sampling
    from neuroadapter_jax.training.train import read_settings

    if run is not None:
        settings = read_settings(run)
        return settings.sampling, settings.num_candidates
    assert model is not None  # one of the two is given
    return read_sampling(model)


def read_pipeline(
    model: str | None, run: str | None, allow_other: Sequence[str] = ()
) -> "NeuroAdapterPipeline":
    """The model that exactly one of the two flags names."""
    from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

    if run is not None:
        return pipeline_of_run(run)
    assert model is not None  # one of the two is given
    return NeuroAdapterPipeline.from_pretrained(model, allow_other=allow_other)


def main(values: CommandFlags, arguments: list[str]) -> None:
    use_cpu_cores(values.batch_size * (values.num_candidates or 1))

    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.decoders.low_level_start import load_low_level_start
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.figures.grids import save_grid
    from neuroadapter_jax.metrics.recall import derangement
    from neuroadapter_jax.pipeline import (
        LowLevelStart,
        Ranking,
        ReconstructionSettings,
        reconstruct_split,
        write_derivatives,
    )
    from neuroadapter_jax.pipeline.derivatives import labels_of, require_derivatives_place
    from neuroadapter_jax.pipeline.rank import require_halving

    # What is cheap to read comes first, so that what is wrong is said before any model is loaded.
    halving = read_halving(values.halving)
    dataset = PreparedDataset(values.prepared, values.split)
    if values.derivatives:
        require_derivatives_place(values.derivatives)
        labels_of({"data": dict(dataset.origin.data)}, values.task)
    own, num_candidates = read_own_sampling(values.model, values.run)
    sampling = sampling_from(values, own)
    require_halving(halving, sampling.num_steps, values.num_candidates or num_candidates)
    pipeline = read_pipeline(values.model, values.run, values.allow_other)
    pipeline = pipeline.with_precision(values.precision)
    plan_memory(values, pipeline, sampling)
    ranking = low_level = None
    if values.encoder:
        encoder = BrainEncoder.from_pretrained(values.encoder, allow_other=values.allow_other)
        encoder = encoder.with_precision(values.precision)
        ranking = Ranking(encoder, halving=halving, keep_candidates=values.keep_candidates)
    if values.low_level_start is not None:
        latents = load_low_level_start(values.low_level_start, dataset.image_ids, pipeline)
        low_level = LowLevelStart(latents, values.strength)
    reconstruct_split(
        pipeline,
        dataset,
        Path(values.out),
        ReconstructionSettings(
            sampling=sampling,
            num_candidates=values.num_candidates,
            seed=values.seed,
            num_images=values.num_images,
            batch_size=values.batch_size,
            allow_other=tuple(values.allow_other),
        ),
        order=derangement(len(dataset), values.seed) if values.permute_responses else None,
        low_level=low_level,
        ranking=ranking,
        save_grid=save_grid,
        progress=values.progress,
    )
    print(f"Reconstructed: {values.out} (grid.png, images/, index.json)")
    if values.derivatives:
        table = write_derivatives(values.out, values.derivatives, task=values.task)
        print(f"BIDS derivatives: {table}")
