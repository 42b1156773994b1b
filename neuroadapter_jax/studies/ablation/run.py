"""The ablation from trainings to its table: every step is a command that runs once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen

from neuroadapter_jax.datasets.belonging import Origin, made_for
from neuroadapter_jax.datasets.prepared.records import PROVENANCE, SPLITS, PreparedDataset
from neuroadapter_jax.diffusion.sampling import Sampler
from neuroadapter_jax.files import (
    INPUTS,
    refuse_foreign,
    require_same_settings,
    write_json,
    write_text,
)
from neuroadapter_jax.fingerprints import of_files, of_values
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import Reconstructions, load_reconstructions
from neuroadapter_jax.ranges import Count, Seed, SettingError, check_fields
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.simulation.truth import TRUTH, truth_fingerprint
from neuroadapter_jax.studies.ablation.results import ablation_results
from neuroadapter_jax.studies.ablation.scores import (
    ImageScores,
    score_choice,
    score_mean_candidate,
)
from neuroadapter_jax.studies.ablation.tables import tables
from neuroadapter_jax.studies.ablation.variants import FULL, NO_SELECTION
from neuroadapter_jax.studies.resume import RunStage


@dataclass(frozen=True)
class AblationPlan:
    """What is trained, and how its test images are reconstructed.

    Attributes:
        variants: name -> training settings that differ from "full", which is among the names.
        seeds: of the trainings; each seed is a row of runs.
        num_images: the first so many of the test split.
        num_candidates: of which the encoder chooses one.
        sampler: for all reconstructions.
        num_steps: denoising steps.
        encoder_config: config file that the encoder is trained with.
        encoder: folder of a trained encoder, which is then not trained.
    """

    variants: Mapping[str, Mapping[str, Any]]
    seeds: Annotated[Sequence[Seed], MinLen(1)]
    num_images: Count
    num_candidates: Count
    sampler: Sampler
    num_steps: Count
    encoder_config: str
    encoder: str | Annotated[None, "to train one"] = None

    def __post_init__(self):
        check_fields(self)
        if FULL not in self.variants:
            raise SettingError("variants", list(self.variants), f"{FULL!r} among them")
        if len(set(self.seeds)) < len(self.seeds):
            raise SettingError("seeds", tuple(self.seeds), "each seed once")

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {
            **vars(self),
            "variants": {name: dict(own) for name, own in self.variants.items()},
            "seeds": list(self.seeds),
        }


@runs_alone("out", "an ablation")
def run_ablation(
    plan: AblationPlan,
    config: str,
    overrides: Sequence[str],
    out: str | Path,
    *,
    prepared: str | Path,
    simulated: str | Path | None,
    check_run: Callable[[str, int, Path], object],
    run_stage: RunStage,
) -> None:
    """Trains, reconstructs, scores and tabulates, seed after seed; a killed call goes on.

    Args:
        plan: what to run.
        config: config file, whose variants are named CONFIG:NAME.
        overrides: flags --config.KEY=VALUE for every training.
        out: gets a folder per variant and seed, the encoder, results.json and tables.md.
        prepared: folder of prepared records.
        simulated: the simulated subject's folder, with truth.npz; None for a real subject.
        check_run: called first with (variant, seed, folder); raises where the folder holds
            another run.
        run_stage: runs a command once.

    Raises:
        InputError: a command fails, another call writes to `out`, a folder holds another run, the
            encoder and the records are of different data, or one of them is no longer what it was.
    """
    out = Path(out)
    folders = {
        (name, seed): out / name / f"seed{seed}" for seed in plan.seeds for name in plan.variants
    }
    ours = any((folder / "seconds.json").is_file() for folder in folders.values())
    refuse_foreign(out, ["results.json", "tables.md"], ours=ours)
    for (name, seed), folder in folders.items():
        check_run(name, seed, folder)
    encoder = Path(plan.encoder or out / "encoder" / "model")

    def require_same_inputs() -> None:
        _require_same_inputs(out, Path(prepared), encoder, simulated)

    require_same_inputs()

    def once(folder: Path, made: Path, command: str, *arguments: str) -> None:
        run_stage(
            folder / "seconds.json",
            made,
            command,
            *arguments,
            must_have_ended=True,
        )

    if plan.encoder is None:
        data = [a for a in overrides if a.startswith("--config.data.")]
        train = ["--config", plan.encoder_config, *data, "--workdir", str(encoder.parent)]
        once(encoder.parent, encoder, "train-encoder", *train)
    how = ["--prepared", str(prepared), "--encoder", str(encoder), "--keep_candidates"]
    for option in ("num_images", "num_candidates", "sampler", "num_steps"):
        how += [f"--{option}", str(getattr(plan, option))]
    runs: dict[str, list[ImageScores]] = {name: [] for name in (*plan.variants, NO_SELECTION)}
    for (name, seed), folder in folders.items():
        train = ["--config", f"{config}:{name}", *overrides, f"--config.train.seed={seed}"]
        train += ["--workdir", str(folder)]
        once(folder, folder / "metrics.jsonl", "train", *train)
        require_same_inputs()
        # Version 0.1.0 named the folder "drawn".
        images = folder / "drawn"
        images = images if images.is_dir() else folder / "reconstructions"
        command = ["reconstruct", "--run", str(folder), *how, "--seed", str(seed)]
        once(folder, images / "index.json", *command, "--out", str(images))
        runs[name].append(load_or_score(images, "scores", score_choice, simulated))
        if name == FULL:
            mean = load_or_score(images, "mean_scores", score_mean_candidate, simulated)
            runs[NO_SELECTION].append(mean)
        if name == list(plan.variants)[-1]:
            write_results(out, runs, plan)


def _require_same_inputs(
    out: Path, prepared: Path, encoder: Path, simulated: str | Path | None
) -> None:
    """Refuses records, an encoder or a truth that are no longer what they were; notes new ones."""
    now: dict[str, Any] = {}
    if (prepared / PROVENANCE).is_file():
        splits = [PreparedDataset(prepared, split) for split in SPLITS]
        now["prepared"] = [split.fingerprint for split in splits]
        if (config := encoder / "config.json").is_file():
            found = read_json(config, "the configuration of a brain encoder")
            made_for(Origin.of("the encoder", found.get("provenance", {})), splits[0].origin, None)
    if encoder.is_dir():
        files = [p for p in sorted(encoder.iterdir()) if p.suffix in (".safetensors", ".npz")]
        now["encoder"] = of_values(list(of_files(files)))
    if simulated is not None and (Path(simulated) / TRUTH).is_file():
        now["simulated"] = truth_fingerprint(simulated)
    path, known = out / "inputs.json", {}
    if path.is_file():
        expected = "fingerprints of what the ablation was made from"
        known = read_json(path, expected).get(INPUTS, {})
    require_same_settings(out, {INPUTS: known}, {INPUTS: now}, "an ablation")
    if now.keys() - known.keys():
        write_json(path, {INPUTS: known | now})


def load_or_score(
    folder: Path,
    name: str,
    score: Callable[[Reconstructions, str | Path | None], ImageScores],
    simulated: str | Path | None,
) -> ImageScores:
    """The scores of a folder of reconstructions, from NAME.npz where they were stored.

    Args:
        folder: the reconstructions.
        name: of the file.
        score: computes the scores.
        simulated: the simulated subject's folder; None for a real subject.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        score(load_reconstructions(folder), simulated).save(path)
    return ImageScores.load(path)


def write_results(out: Path, runs: Mapping[str, Sequence[ImageScores]], plan: AblationPlan) -> None:
    """results.json and tables.md of the seeds that are complete; the table is printed.

    Args:
        out: the folder.
        runs: variant -> one run per complete seed.
        plan: what was run.
    """
    results, missing = ablation_results(runs), runs[FULL][0].missing
    seeds = list(plan.seeds)[: len(runs[FULL])]
    content = {"ablation": plan.to_dict(), "seeds": seeds, "missing": missing, "variants": results}
    write_json(out / "results.json", content)
    of_all = f"{len(seeds)} of {len(plan.seeds)} seeds, {plan.num_images} test images each."
    text = f"{of_all}\n\n{tables(results, missing)}"
    write_text(out / "tables.md", text)
    print(text, flush=True)
