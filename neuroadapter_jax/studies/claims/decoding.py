"""The cells that reconstruct with trained adapters: selection, lost regions, other test sets."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.linear_map import fit_latents, fit_states
from neuroadapter_jax.decoders.linear_two_stage import LinearTwoStage
from neuroadapter_jax.encoder.ranking import choose
from neuroadapter_jax.metrics.recall import derangement
from neuroadapter_jax.pipeline import LowLevelStart
from neuroadapter_jax.simulation.truth import load_truth
from neuroadapter_jax.simulation.unseen import UNSEEN_SETS
from neuroadapter_jax.studies.claims.cells import EVALUATIONS, FULL, Cell
from neuroadapter_jax.studies.claims.images import TestImages, of_all, rank, reconstruct
from neuroadapter_jax.studies.claims.models import Work

# Shares of the regions that are lost, where decoding's robustness is measured.
LOST = (0.0, 0.25, 0.5, 0.75, 0.9)
# Of the low-level start, and the linear decoder's guidance (docs/decoders.md).
STRENGTH, LINEAR_GUIDANCE = 0.6, 2.0


def run_selection(work: Work, cell: Cell) -> dict[str, Any]:
    """Scores of four ways to take one of the candidates, and what an independent judge says.

    "chosen" is the encoder's choice, "mean" a candidate's expected score, "random" one of them, and
    "oracle" the one whose pixels correlate best with the stimulus. "judge" is the correlation of
    the response that another encoder, which chose nothing, predicts for the image.
    """
    plan, test, pipeline = work.plan, work.test, work.adapter(FULL, cell.seed)
    images = reconstruct(pipeline, test.fmri, plan.sampling, plan.num_selected, cell.seed)
    ranks = {
        name: rank(work.encoder(name), pipeline, images, test) for name in ("encoder", "judge")
    }
    columns = [test.scores(np.ascontiguousarray(x)) for x in np.moveaxis(images, 1, 0)]
    scores = {name: np.stack([x[name] for x in columns], axis=1) for name in columns[0]}
    scores["judge"] = np.nan_to_num(ranks["judge"]).astype(float)
    rows, rng = np.arange(len(images)), np.random.default_rng(cell.seed)
    taken = {
        "chosen": choose(ranks["encoder"]),
        "random": rng.integers(images.shape[1], size=len(images)),
        "oracle": scores["pixel_correlation"].argmax(axis=1),
    }
    ways = {way: {k: x[rows, own] for k, x in scores.items()} for way, own in taken.items()}
    ways["mean"] = {name: x.mean(axis=1) for name, x in scores.items()}
    return {"shown": test.shown.tolist(), "ways": {way: of_all(x) for way, x in ways.items()}}


def lost_masks(count: int, num_regions: int, share: float, seed: int) -> Bool[np.ndarray, "b p"]:
    """Which tokens stay when each image loses its own random share of the regions.

    A region that is lost at one share is lost at every larger one.

    Args:
        count: images.
        num_regions: regions of the adapter.
        share: that is lost, 0 to 1.
        seed: of the orders in which they are lost.
    """
    order = np.random.default_rng(seed).random((count, num_regions)).argsort(axis=1).argsort(axis=1)
    return order >= round(share * num_regions)


def run_lost_regions(work: Work, cell: Cell) -> dict[str, Any]:
    """Scores as regions are lost, of adapters that trained with and without token dropout.

    Both with the paper's guidance and without ("unguided"), whose unconditional half an adapter
    that never dropped a token has not seen.
    """
    test, found = work.test, {}
    for row in EVALUATIONS["lost_regions"]:
        pipeline = work.adapter(row, cell.seed)
        for name, scale in (("guided", None), ("unguided", 1.0)):
            sampling = work.plan.sampling
            sampling = sampling if scale is None else sampling.replace(guidance_scale=scale)
            for share in LOST:
                keep = lost_masks(len(test.fmri), len(pipeline.regions), share, cell.seed)
                images = reconstruct(pipeline, test.fmri, sampling, 1, cell.seed, keep=keep)
                found[f"{row}, {name}, {share}"] = of_all(test.scores(images[:, 0]))
    return {"shown": test.shown.tolist(), "scores": found}


def run_low_level(work: Work, cell: Cell) -> dict[str, Any]:
    """NeuroAdapter with and without a low-level start, beside a linear decoder that has one.

    The start is the linear prediction of the VAE's latents: the low-level path of
    Brain-Diffuser, whose VDVAE is here the backbone's own autoencoder.
    """
    test, pipeline = work.test, work.adapter(FULL, cell.seed)
    folder, prepared = work.out / "data" / "linear", work.plan.prepared
    low = LowLevelStart(
        fit_latents(prepared, pipeline, folder, progress=False)(test.fmri), STRENGTH
    )
    texts = {i: [text] for i, text in enumerate(load_truth(work.root)["captions"].tolist())}
    states = fit_states(prepared, pipeline, texts, folder, progress=False)
    linear = LinearTwoStage(pipeline.backbone, pipeline.regions, states)
    own = work.plan.sampling.replace(guidance_scale=LINEAR_GUIDANCE, start="noise")
    methods: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "neuroadapter": (pipeline, work.plan.sampling, {}),
        "neuroadapter_low_level": (pipeline, work.plan.sampling, {"low_level": low}),
        "linear": (linear, own, {}),
        "linear_low_level": (linear, own, {"low_level": low}),
    }
    found = {
        name: of_all(test.scores(reconstruct(m, test.fmri, how, 1, cell.seed, **start)[:, 0]))
        for name, (m, how, start) in methods.items()
    }
    return {"shown": test.shown.tolist(), "scores": found}


def run_unseen(work: Work, cell: Cell, prepared: Path) -> dict[str, Any]:
    """Scores on the sets of things that training never showed; see `simulation.unseen`."""
    return _other_sets(work, cell, prepared, "unseen", UNSEEN_SETS)


def run_imagery(work: Work, cell: Cell, prepared: Path) -> dict[str, Any]:
    """Scores on targets that were seen and imagined, twelve of each."""
    return _other_sets(work, cell, prepared, "imagery", ("vision", "imagery"))


def _other_sets(
    work: Work, cell: Cell, prepared: Path, root: str, names: tuple[str, ...]
) -> dict[str, Any]:
    """Scores of each set, and "chance": objects found where another image's were shown."""
    plan, pipeline, found = work.plan, work.adapter(FULL, cell.seed), {}
    for name in names:
        test = TestImages.read(prepared, name, work.root / root, None)
        images = reconstruct(pipeline, test.fmri, plan.sampling, plan.num_candidates, cell.seed)
        ranks = rank(work.encoder(), pipeline, images, test)
        taken = images[np.arange(len(images)), choose(ranks)]
        other = derangement(len(taken), cell.seed)
        found[name] = {
            "shown": test.shown.tolist(),
            "scores": of_all(test.scores(taken)),
            "chance": of_all(test.scores(taken[other])),
        }
    return {"sets": found, "splits": _sizes(prepared, names)}


def _sizes(prepared: Path, names: tuple[str, ...]) -> dict[str, int]:
    return {name: len(PreparedDataset(prepared, name)) for name in names}
