"""One table of samplers and steps: cost, scores, determinism, and the agreement of IBBI's views."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.batches import map_batches
from neuroadapter_jax.datasets.input_pipeline import read_split
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import write_json, write_text
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import (
    NeuroAdapterPipeline,
    ReconstructionSettings,
    load_reconstructions,
    reconstruct_split,
)
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.ranges import Count, NonNegative, Positive, Seed, SettingError, check_fields
from neuroadapter_jax.studies.decoders.scores import Scores, make_score, summarise
from neuroadapter_jax.studies.few_steps import measures
from neuroadapter_jax.studies.few_steps.tables import page
from neuroadapter_jax.studies.resume import cached

REFERENCE, COMPARED = "ddim-50", "dpmsolver++-19"


@dataclass(frozen=True, kw_only=True)
class FewStepsSettings:
    """What is sampled, and how much of it.

    Attributes:
        num_images: test images that are scored; all when None.
        num_views: the first so many of them are interpreted as well.
        num_seeded: the first so many of them are sampled from further seeds.
        num_seeds: seeds of those, at least 2.
        batch_size: images per call.
        seed: of the noise, and of the bootstrap.
        guidance_low: lower noise level of the row with guidance in an interval.
        guidance_high: upper noise level of that row.

    Raises:
        SettingError: a value out of its range.
    """

    num_images: Count | None = None
    num_views: Count = 40
    num_seeded: Count = 20
    num_seeds: Count = 3
    batch_size: Count = 20
    seed: Seed = 0
    guidance_low: NonNegative = 0.5
    guidance_high: Positive = 4.0

    def __post_init__(self):
        check_fields(self)
        for name in ("num_seeds", "num_seeded"):
            if getattr(self, name) < 2:
                raise SettingError(name, getattr(self, name), "at least 2, for a variance")
        if self.guidance_high <= self.guidance_low:
            wanted = f"above guidance_low, which is {self.guidance_low}"
            raise SettingError("guidance_high", self.guidance_high, wanted)


@dataclass(frozen=True)
class Row:
    """One way of sampling.

    Attributes:
        name: of its folder.
        title: of its row in the table.
        sampling: its settings.
        distilled: whether the distilled model takes it.
    """

    name: str
    title: str
    sampling: Sampling
    distilled: bool = False


def rows_of(
    own: Sampling, distilled: Sampling | None, settings: FewStepsSettings
) -> tuple[Row, ...]:
    """The rows of the table, those of the reference and of the comparison first.

    Args:
        own: the model's settings, whose guidance and start all its rows have.
        distilled: the distilled model's settings; None leaves its rows out.
        settings: of the study.
    """
    plain = own.replace(eta=0.0)

    def row(sampler: Any, num_steps: int, title: str) -> Row:
        sampling = Sampling(sampler, num_steps, plain.guidance_scale, plain.start)
        return Row(f"{sampler}-{num_steps}", f"{title}, {num_steps} steps", sampling)

    solver = "DPM-Solver++"
    compared = row("dpmsolver++", 19, solver)
    low, high = settings.guidance_low, settings.guidance_high
    interval = Row(
        "interval-19",
        f"{solver}, 19 steps, guidance at noise levels {low:g} to {high:g}",
        compared.sampling.replace(guidance_low=low, guidance_high=high),
    )
    few = () if distilled is None else tuple(
        Row(
            f"lcm-{number}",
            f"distilled, LCM, {number} step{'s' if number > 1 else ''}",
            distilled.replace(sampler="lcm", num_steps=number),
            True,
        )
        for number in (4, 2, 1)
    )  # fmt: skip
    others = tuple(row("dpmsolver++", number, solver) for number in (10, 6, 4))
    return (compared, *few, row("ddim", 50, "DDIM"), *others, interval, row("ddpm", 50, "DDPM"))


@runs_alone("out", "a study of fewer steps")
def run_few_steps(
    model: NeuroAdapterPipeline,
    distilled: NeuroAdapterPipeline | None,
    prepared: str | Path,
    root: str | Path,
    out: str | Path,
    settings: FewStepsSettings | None = None,
    *,
    progress: bool = True,
) -> dict[str, Any]:
    """Sample the test images in every way, score them and write the table; a killed call goes on.

    After each row results.json and few-steps.md are written with the rows that there are.

    Args:
        model: the teacher.
        distilled: the student of `neuroadapter distill`; None leaves its rows out.
        prepared: folder of prepared records.
        root: the simulated subject's folder.
        out: gets a folder of reconstructions per row, measures/ROW.json, results.json and
            few-steps.md.
        settings: how many images, seeds and views; the defaults when None.
        progress: show bars.

    Returns:
        What results.json holds.

    Raises:
        InputError: the distilled model has no LoRA or other regions, the records are of other data,
            or `out` holds another study's reconstructions.
    """
    out, settings = Path(out), settings or FewStepsSettings()
    if distilled is not None:
        _check_student(model, distilled)
    test = PreparedDataset(prepared, "test")
    own = None if distilled is None else distilled.sampling
    rows = rows_of(model.sampling, own, settings)
    count = min(settings.num_images or len(test), len(test))
    fmri = read_split(
        test, "betas", num_images=min(count, max(settings.num_views, settings.num_seeded))
    )["betas"].astype(np.float32)
    score = None
    scores: dict[str, Scores] = {}
    found: dict[str, dict[str, Any]] = {}
    results: dict[str, Any] = {}
    bar = Bar(rows, desc="Rows", unit="row", disable=not progress)
    for row in bar:
        bar.set_postfix_str(row.name)
        pipeline = distilled if row.distilled else model
        if pipeline is None:
            continue
        how = ReconstructionSettings(
            sampling=row.sampling, num_candidates=1, seed=settings.seed, num_images=count,
            batch_size=min(settings.batch_size, count),
        )  # fmt: skip
        reconstruct_split(pipeline, test, out / row.name, how, progress=progress)
        loaded = load_reconstructions(out / row.name)
        if score is None:
            score = make_score(loaded.stimuli, loaded.image_ids, root)
        scores[row.name] = score(loaded.best)
        found[row.name] = _measured(pipeline, row, fmri, loaded.best, out, settings)
        results = _results(model, rows, scores, found, settings, count)
        write_json(out / "results.json", results)
        write_text(out / "few-steps.md", page(results))
    return results


def _check_student(model: NeuroAdapterPipeline, distilled: NeuroAdapterPipeline) -> None:
    if distilled.backbone.lora is None:
        raise InputError(
            "The distilled model has no lora.safetensors; expected a folder of `neuroadapter "
            "distill`."
        )
    if distilled.regions.fingerprint() != model.regions.fingerprint():
        raise InputError(
            "The distilled model has other regions than the model; expected the one that was "
            "distilled from it, so that their views can be compared."
        )


def _measured(
    pipeline: NeuroAdapterPipeline,
    row: Row,
    fmri: Float[np.ndarray, "b n"],
    images: UInt8[np.ndarray, "_b y x c"],
    out: Path,
    settings: FewStepsSettings,
) -> dict[str, Any]:
    """Seconds, determinism and brain views of a row, as JSON values."""
    seeds, seed = range(settings.seed + 1, settings.seed + settings.num_seeds), settings.seed
    seeded, viewed = fmri[: settings.num_seeded], fmri[: settings.num_views]

    def views(own: int) -> list[list[float]]:
        def some(rows: Int[np.ndarray, " b"]) -> Float[np.ndarray, "b p"]:
            return measures.brain_views(pipeline, viewed[rows], row.sampling, own, rows)

        size = min(settings.batch_size, len(viewed))
        return np.round(map_batches(some, len(viewed), size), 6).tolist()

    def compute() -> dict[str, Any]:
        more, seconds = measures.other_seeds(pipeline, seeded, row.sampling, seeds)
        all_seeds = np.concatenate([images[None, : len(seeded)], more])
        return {
            **seconds,
            "seed_variance": measures.seed_variance(all_seeds, seed),
            "brain": views(seed),
            "brain_of_other_seed": views(seed + 1000) if row.name == REFERENCE else None,
        }

    known = {
        "model": pipeline.fingerprint,
        "sampling": row.sampling.to_dict(),
        "images": [len(seeded), len(viewed), settings.num_seeds, seed, settings.batch_size],
    }
    result: dict[str, Any] = cached(out / "measures" / f"{row.name}.json", known, compute)
    return result


def _results(
    model: NeuroAdapterPipeline,
    rows: tuple[Row, ...],
    scores: Mapping[str, Scores],
    found: Mapping[str, Mapping[str, Any]],
    settings: FewStepsSettings,
    count: int,
) -> dict[str, Any]:
    """Everything of the table, of the rows that there are."""
    values = summarise(scores, seed=settings.seed)["methods"]
    reference = found.get(REFERENCE)
    entries = {}
    for row in rows:
        if row.name not in found:
            continue
        own = found[row.name]
        brain = np.array(own["brain"])
        entry = {
            "title": row.title,
            "sampling": row.sampling.to_dict(),
            "distilled": row.distilled,
            "passes": measures.passes(model.backbone.schedule, row.sampling),
            **{key: own[key] for key in ("seconds", "processor_seconds", "seed_variance")},
            "scores": values[row.name],
        }
        if reference is not None:
            entry["agreement"] = measures.agreement(
                brain, np.array(reference["brain"]), settings.seed
            )
        if COMPARED in scores and row.name != COMPARED:
            entry["less_compared"] = measures.paired(
                scores[row.name], scores[COMPARED], settings.seed
            )
        entries[row.name] = entry
    again = None
    if reference is not None:
        again = measures.agreement(
            np.array(reference["brain_of_other_seed"]), np.array(reference["brain"]), settings.seed
        )
    return {
        "num_images": count,
        "num_views": settings.num_views,
        "num_seeded": settings.num_seeded,
        "num_seeds": settings.num_seeds,
        "guidance_scale": model.sampling.guidance_scale,
        # Other work on the machine does not change them; an accelerator's work is not among them.
        "seconds_are": "processor_seconds" if jax.default_backend() == "cpu" else "seconds",
        "rows": entries,
        "agreement_of_other_seed": again,
        "lacking": [row.title for row in rows if row.name not in found],
    }
