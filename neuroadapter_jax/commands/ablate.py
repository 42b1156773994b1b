"""Train, reconstruct and score the paper's ablations.

    neuroadapter ablate --config ablation
    neuroadapter ablate --config ablation --config.ablation.seeds="(0,)" --out runs/ablation

Each training and each reconstruction is a command of its own, printed before it runs; the same
command goes on where a killed one stopped. All variants of one seed come first, then the table,
then the next seed. --config.train.* and --config.data.* go to every training; --config.ablation.*
are for this command itself.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ml_collections import ConfigDict
from ml_collections.config_flags import get_config_filename, get_override_values

from neuroadapter_jax.commands.config_values import training_settings
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage

if TYPE_CHECKING:
    from neuroadapter_jax.studies.ablation import ImageScores


def define(values: CommandFlags) -> None:
    define_config(values)
    define_shared(
        values, "out",
        defaults={"out": "runs/ablation"},
        helps={"out": "Folder for all runs, results.json and tables.md."},
    )  # fmt: skip


def variant_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The training configuration that FILE:name and a seed give."""
    variant = config.copy_and_resolve_references()
    with variant.ignore_type():
        variant.train.update(config.ablation.variants[name])
    variant.train.seed = seed
    return variant


def lock_folder(out: Path) -> TextIO:
    """The lock of a folder, which commands that this process starts hold as well.

    So what a killed call left running is not joined by a second writer of the same files.
    """
    import fcntl

    out.mkdir(parents=True, exist_ok=True)
    lock = (out / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{out} is being written by another call of this command, or by a training or "
            "reconstruction that such a call started; wait for it or end it."
        ) from None
    return lock


def load_or_score(
    reconstructions: Path, name: str, score: Callable, simulated: str | None
) -> "ImageScores":
    """The scores of a folder of reconstructions, which lie beside them once computed."""
    from neuroadapter_jax.pipeline.reconstruct import load_reconstructions
    from neuroadapter_jax.studies.ablation import ImageScores

    path = reconstructions / f"{name}.npz"
    if not path.exists():
        score(load_reconstructions(reconstructions), simulated).save(path)
    return ImageScores.load(path)


def write_table(out: Path, runs: dict[str, list["ImageScores"]], chosen: ConfigDict) -> None:
    """results.json and tables.md of the seeds that are complete."""
    from neuroadapter_jax.files import write_json, write_text
    from neuroadapter_jax.studies.ablation import FULL, ablation_results, tables

    results, missing = ablation_results(runs), runs[FULL][0].missing
    seeds = list(chosen.seeds)[: len(runs[FULL])]
    record = {"ablation": chosen.to_dict(), "seeds": seeds, "missing": missing, "variants": results}
    write_json(out / "results.json", record)
    of_all = f"{len(seeds)} of {len(chosen.seeds)} seeds, {chosen.num_images} test images each."
    text = f"{of_all}\n\n{tables(results, missing)}"
    write_text(out / "tables.md", text)
    print(text, flush=True)


def run(config: ConfigDict, file: str, overrides: list[str], out: Path) -> None:
    """Everything, seed after seed."""
    from neuroadapter_jax.studies.ablation import (
        FULL,
        NO_SELECTION,
        score_choice,
        score_mean_candidate,
    )
    from neuroadapter_jax.training.setup import check

    chosen = config.ablation
    folders = {
        (name, seed): out / name / f"seed{seed}"
        for seed in chosen.seeds
        for name in chosen.variants
    }
    for (name, seed), folder in folders.items():
        check(training_settings(variant_of(config, name, seed)), folder)
    lock = lock_folder(out)  # held until the end

    def stage(folder: Path, made: Path, command: str, *arguments: str) -> None:
        record = folder / "seconds.json"
        run_stage(
            record, made, command, *arguments, must_have_ended=True, pass_fds=(lock.fileno(),)
        )

    encoder = Path(chosen.encoder or out / "encoder" / "model")
    if chosen.encoder is None:
        data = [a for a in overrides if a.startswith("--config.data.")]
        train = ["--config", chosen.encoder_config, *data, "--workdir", str(encoder.parent)]
        stage(encoder.parent, encoder, "train-encoder", *train)
    sampling = ["--prepared", config.data.prepared, "--encoder", str(encoder), "--keep_candidates"]
    for option in ("num_images", "num_candidates", "sampler", "num_steps"):
        sampling += [f"--{option}", str(chosen[option])]
    simulated = config.data.root if config.data.simulation is not None else None
    runs: dict[str, list[ImageScores]] = {name: [] for name in (*chosen.variants, NO_SELECTION)}
    for (name, seed), folder in folders.items():
        train = ["--config", f"{file}:{name}", *overrides, f"--config.train.seed={seed}"]
        stage(folder, folder / "metrics.jsonl", "train", *train, "--workdir", str(folder))
        reconstructions = folder / "drawn"
        reconstruct = ["--run", str(folder), *sampling, "--seed", str(seed)]
        reconstruct += ["--out", str(reconstructions)]
        stage(folder, reconstructions / "index.json", "reconstruct", *reconstruct)
        runs[name].append(load_or_score(reconstructions, "scores", score_choice, simulated))
        if name == FULL:
            mean = load_or_score(reconstructions, "mean_scores", score_mean_candidate, simulated)
            runs[NO_SELECTION].append(mean)
        if name == list(chosen.variants)[-1]:
            write_table(out, runs, chosen)


def main(values: CommandFlags, arguments: list[str]) -> None:
    # A child that is told nothing would go on; the exception makes subprocess end it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    file, out = get_config_filename(values["config"]), Path(values.out)
    overrides = [
        f"--config.{key}={value}"
        for key, value in get_override_values(values["config"]).items()
        if not key.startswith("ablation.")
    ]
    if ":" in file:
        raise ValueError(f"--config is {file}; name the file alone, all its variants run.")
    run(values.config, file, overrides, out)
    print(f"Table: {out / 'tables.md'}; scores: {out / 'results.json'}")
