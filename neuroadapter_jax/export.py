"""From a training run to a pipeline folder."""

import dataclasses
from pathlib import Path

from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.training.neuroadapter import load_run


def pipeline_of_run(workdir: str | Path) -> NeuroAdapterPipeline:
    """The pipeline of a run's best checkpoint."""
    task, adapter, step = load_run(workdir)
    provenance = task.train.provenance["request"]
    return NeuroAdapterPipeline(
        adapter,
        task.backbone,
        task.regions,
        backbone_name=task.settings.backbone,
        guidance_scale=task.settings.guidance_scale,
        provenance={
            "step": step,
            "training": dataclasses.asdict(task.settings),
            "data": provenance,
        },
    )
