"""The cells that train: brain encoders, and adapters with their reconstructions' scores."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.ranking import choose
from neuroadapter_jax.studies.claims.cells import EVALUATIONS, Cell
from neuroadapter_jax.studies.claims.images import of_all, rank, reconstruct
from neuroadapter_jax.studies.claims.models import Work, models_folder
from neuroadapter_jax.training.brain_encoder import train_encoders
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.train import train

# Rows whose adapters the evaluations read.
KEPT = frozenset(row for rows in EVALUATIONS.values() for row in rows)


def run_encoder(work: Work, cell: Cell) -> dict[str, Any]:
    """Trains a brain encoder; its accuracy on the validation images."""
    workdir = work.out / "work" / cell.name
    folder = train_encoders(work.plan.of_encoder(cell.name), workdir, progress=False)
    target = models_folder(work.out, cell.name)
    if not target.exists():
        shutil.copytree(folder, target)
    correlation = np.nan_to_num(BrainEncoder.from_pretrained(target).correlations.max(axis=0))
    best = np.sort(correlation)[-2000:]
    return {"median_correlation_of_the_best_2000_vertices": float(np.median(best))}


def run_training(work: Work, cell: Cell) -> dict[str, Any]:
    """Trains an adapter, keeps it where it is needed later, and scores its reconstructions.

    "scores" are those of the encoder's choice, "mean_scores" those that a candidate taken at random
    is expected to have, "unguided" those of one candidate without classifier-free guidance, whose
    unconditional half a training that drops no token never sees.
    """
    plan, test, workdir = work.plan, work.test, work.out / "work" / cell.name
    train(plan.training(cell.row, cell.seed), workdir, progress=False)
    curve = _curve(workdir)
    pipeline = pipeline_of_run(workdir)
    target = models_folder(work.out, cell.name)
    if cell.row in KEPT and not target.exists():
        pipeline.save_pretrained(target, np.float16)
    candidates = reconstruct(pipeline, test.fmri, plan.sampling, plan.num_candidates, cell.seed)
    chosen = choose(rank(work.encoder(), pipeline, candidates, test))
    each = [test.scores(np.ascontiguousarray(x)) for x in np.moveaxis(candidates, 1, 0)]
    rows = np.arange(len(candidates))
    taken = test.scores(candidates[rows, chosen])
    unguided = reconstruct(
        pipeline, test.fmri, plan.sampling.replace(guidance_scale=1.0), 1, cell.seed
    )
    return {
        "curve": curve,
        "shown": test.shown.tolist(),
        "scores": of_all(taken),
        "mean_scores": of_all({k: np.mean([x[k] for x in each], axis=0) for k in taken}),
        "unguided": of_all(test.scores(unguided[:, 0])),
    }


def _curve(workdir: Path) -> dict[str, list[Any]]:
    """The validation loss by step, and the training loss beside it."""
    lines = read_metrics(workdir / "metrics.jsonl")
    evaluated = [x for x in lines if x["kind"] == "evaluation"]
    trained = [x for x in lines if x["kind"] == "train"]
    steps = [x["step"] for x in evaluated]

    def mean_before(step: int, previous: int) -> float | None:
        own = [x["loss"] for x in trained if previous < x["step"] <= step]
        return float(np.mean(own)) if own else None

    return {
        "step": steps,
        "validation": [x["validation/loss"] for x in evaluated],
        "training": [mean_before(b, a) for a, b in zip([0, *steps], steps, strict=False)],
    }
