"""From a model to one that samples in a few steps: what `neuroadapter distill` calls."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from typing_extensions import TypedDict  # that of 3.11 lacks what pydantic needs

from neuroadapter_jax.cortex.packing import compact
from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.input_pipeline import make_batches, read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.datasets.subjects import PartsOfRecords
from neuroadapter_jax.diffusion.lora import Lora, init_lora
from neuroadapter_jax.diffusion.prompt import empty_ids
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import json_values, refuse_other_kind
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.metrics.pixels import pixel_correlation
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.readers import read_json_lines
from neuroadapter_jax.tables import markdown_table
from neuroadapter_jax.training.agreement import end_if_asked
from neuroadapter_jax.training.distillation import (
    TARGETS,
    DistillationSettings,
    Teacher,
    make_distillation_step,
)
from neuroadapter_jax.training.inputs import require_images_for_batch
from neuroadapter_jax.training.loop import Evaluation, fit
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.optimizers import make_optimizer, make_schedule
from neuroadapter_jax.training.run_config import RunConfig, require_checkpoints

_STEP_ARRAYS = ("betas", "latent_mean", "latent_std")
_MEASURE = "validation/pixel_correlation"


@runs_alone("workdir", "a distillation")
def distill(
    pipeline: NeuroAdapterPipeline,
    prepared: str | Path,
    workdir: str | Path,
    settings: DistillationSettings,
    *,
    progress: bool = True,
    log_to: Sequence[str] = (),
) -> NeuroAdapterPipeline:
    """Distil a model, or go on with it, in a work folder.

    Latent consistency distillation (Luo et al. 2023, arXiv 2310.04378 and 2311.05556): the teacher
    is the model with its guidance, the student the same model with a LoRA on the U-Net.

    Args:
        pipeline: the teacher, without a LoRA of its own.
        prepared: folder of the records that it was trained on.
        workdir: gets config.json, metrics.jsonl, timing.jsonl and checkpoints/.
        settings: of the run; a work folder of other settings is refused.
        progress: show a bar.
        log_to: what keeps the numbers beside metrics.jsonl: "tensorboard", "wandb".

    Returns:
        The student, whose own sampling is "lcm" without guidance.

    Raises:
        InputError: a model that has a LoRA already, records of other data, or fewer images than a
            batch; or see `fit`.
    """
    refuse_other_kind(workdir, "run")
    train, validation = (PreparedDataset(prepared, split) for split in ("train", "validation"))
    config = _run_config(pipeline, train, validation, settings)
    config.require_same(workdir)
    require_checkpoints(workdir, settings.checkpoint_every)
    for part in (train, validation):
        part.require_images()
    require_images_for_batch(settings.batch_size, len(train), prepared)
    networks, schedule = pipeline.networks, pipeline.backbone.schedule
    if settings.num_grid > (most := schedule.num_train_timesteps):
        wanted = f"at most {most}, the timesteps of {pipeline.backbone_name}"
        raise SettingError("num_grid", settings.num_grid, wanted)
    vertices, packing = compact(pipeline.packing)
    start = init_lora(
        pipeline.backbone.unet,
        jax.random.key(settings.seed),
        settings.rank,
        TARGETS[settings.targets],
    )
    scale = _teachers_scale(pipeline, settings)
    teacher = Teacher(
        networks.adapter,
        networks.unet,
        networks.text,
        pipeline.backbone.text_encoder(jnp.asarray(empty_ids(pipeline.backbone))),
        packing,
        pipeline.backbone.vae.config.scaling_factor,
        None if scale == 1.0 else jnp.float32(scale),
    )
    optimizer = make_optimizer(
        make_schedule(settings.learning_rate, settings.num_steps, settings.warmup_steps),
        clip_norm=settings.clip_norm,
        b2=settings.b2,
    )
    jitted = make_distillation_step(
        networks.architecture.adapter, networks.architecture.unet, schedule, optimizer, start,
        settings,
    )  # fmt: skip
    records = PartsOfRecords(train, _STEP_ARRAYS, vertices)
    params = {"down": start.down, "up": start.up}
    state = {
        "params": params,
        "ema": jax.tree.map(jnp.copy, params),
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    state = fit(
        lambda state, batch: jitted(state, teacher, {key: batch[key] for key in _STEP_ARRAYS}),
        state,
        make_batches(records, settings.batch_size, settings.seed),
        workdir=workdir,
        num_steps=settings.num_steps,
        intervals=settings.intervals,
        config=config,
        evaluation=Evaluation(
            _make_evaluation(pipeline, validation, start, settings),
            best_metric=_MEASURE,
            best_is_highest=True,
        ),
        progress=progress,
        log_to=log_to,
    )
    return student_of(pipeline, start.replace_arrays(state["ema"]), settings)


def student_of(
    pipeline: NeuroAdapterPipeline, lora: Lora, settings: DistillationSettings
) -> NeuroAdapterPipeline:
    """The model that samples in a few steps: the teacher with a LoRA, and what it was made by.

    Args:
        pipeline: the teacher.
        lora: of its U-Net, distilled.
        settings: of the distillation.
    """
    sampling = Sampling("lcm", settings.sample_steps, 1.0, start=pipeline.sampling.start)
    return pipeline.with_lora(lora, sampling, student_provenance(pipeline, settings))


def student_provenance(
    pipeline: NeuroAdapterPipeline, settings: DistillationSettings
) -> dict[str, Any]:
    """The teacher's provenance, and how the student was distilled from it."""
    made = json_values(dataclasses.asdict(settings))
    made["guidance_scale"] = _teachers_scale(pipeline, settings)
    return pipeline.provenance | {"distillation": made}


def _teachers_scale(pipeline: NeuroAdapterPipeline, settings: DistillationSettings) -> float:
    given = settings.guidance_scale
    return pipeline.sampling.guidance_scale if given is None else given


def _run_config(
    pipeline: NeuroAdapterPipeline,
    train: PreparedDataset,
    validation: PreparedDataset,
    settings: DistillationSettings,
) -> RunConfig:
    if pipeline.backbone.lora is not None:
        raise InputError(
            "The model has a LoRA already (lora.safetensors); expected the one that it was "
            "distilled from, so name that as the model."
        )
    made_for(Origin.of("the model", pipeline.provenance), train.origin)
    return RunConfig(
        {"distillation": student_provenance(pipeline, settings)["distillation"]},
        inputs={
            "prepared": [train.fingerprint, validation.fingerprint],
            "model": pipeline.fingerprint,
        },
    )


def _make_evaluation(
    pipeline: NeuroAdapterPipeline,
    validation: PreparedDataset,
    start: Lora,
    settings: DistillationSettings,
) -> Callable[[Any, int], dict[str, float]]:
    """How well images that the student samples correlate with the stimuli."""
    count = min(settings.num_validation, len(validation))
    found = read_split(validation, "betas", "image", num_images=count)
    fmri, stimuli = found["betas"].astype(np.float32), found["image"]

    def measure(state: Any, step: int) -> dict[str, float]:
        end_if_asked(step)
        student = student_of(pipeline, start.replace_arrays(state["ema"]), settings)
        images = student(fmri, num_candidates=1, seed=settings.seed)[:, 0]
        return {_MEASURE: float(pixel_correlation(stimuli, images).mean())}

    return measure


class _Timing(TypedDict):
    seconds: float


def card(name: str, model: str, student: NeuroAdapterPipeline, workdir: str | Path) -> str:
    """Markdown of a distilled model's card: what it was made of, how, and in what time.

    Args:
        name: of the exported folder.
        model: the teacher's folder or name.
        student: from `distill`.
        workdir: of the run.
    """
    made, lora = student.provenance["distillation"], student.backbone.lora
    workdir = Path(workdir)
    measured = [
        line[_MEASURE]
        for line in read_metrics(workdir / "metrics.jsonl")
        if line["kind"] == "evaluation"
    ]
    timing = read_json_lines(workdir / "timing.jsonl", "seconds of a distillation", _Timing)
    minutes = sum(line["seconds"] for line in timing) / 60
    facts = {
        "teacher": f"{model}, guidance {made['guidance_scale']:g}",
        "layers, rank, parameters of the LoRA": f"{len(lora.down)}, {made['rank']}, "
        f"{lora.num_parameters:,}",
        "steps, batch size, peak learning rate": f"{made['num_steps']}, {made['batch_size']}, "
        f"{made['learning_rate']:g}",
        "grid of timesteps, moving average": f"{made['num_grid']}, {made['ema_decay']:g}",
        f"pixel correlation of {made['num_validation']} validation images in "
        f"{made['sample_steps']} steps": f"{measured[-1]:.3f}",
        "minutes of training": f"{minutes:.0f}",
    }
    return (
        f"# {name}: a NeuroAdapter that samples in 1 to 4 steps\n\n"
        f"{markdown_table(['', ''], facts.items())}\n"
        "The adapter is the teacher's; lora.safetensors changes the frozen U-Net and holds "
        "diffusers' names, so that diffusers loads it too. Sample it with the sampler lcm and "
        "without guidance, which is folded in. docs/few-steps.md shows what is lost, and that the "
        "views of attention are this sampler's own.\n"
    )
