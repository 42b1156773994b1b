"""The paper's ablation table: train, draw, score, tabulate.

    python launch/ablate.py --config configs/ablation.py [--out runs/ablation]

Each training and each drawing is a command of launch/, printed before it runs; the same command
goes on where a killed one stopped. All variants of one seed come first, then the table, then the
next seed. --config.train.* and --config.data.* go to every training; --config.ablation.* are this
command's own.
"""

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import command_line
from absl import flags
from ml_collections import ConfigDict
from ml_collections.config_flags import get_override_values
from train import settings_of

from neuroadapter_jax.files import write_json, write_text
from neuroadapter_jax.pipeline.reconstruct import load_reconstructions
from neuroadapter_jax.studies.ablation import (
    FULL,
    NO_SELECTION,
    ImageScores,
    ablation_results,
    score_choice,
    score_mean_candidate,
    tables,
)
from neuroadapter_jax.training.setup import check

FLAGS = flags.FLAGS


def variant_of(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The training configuration that FILE:name and a seed give."""
    variant = config.copy_and_resolve_references()
    with variant.ignore_type():
        variant.train.update(config.ablation.variants[name])
    variant.train.seed = seed
    return variant


def locked(out: Path) -> TextIO:
    """The lock of a folder, which commands that this process starts hold as well.

    So what a killed call left running is not joined by a second writer of the same files.
    """
    out.mkdir(parents=True, exist_ok=True)
    lock = (out / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{out} is being written by another call of this command, or by a training or drawing "
            "that such a call started; wait for it or end it."
        ) from None
    return lock


def stage(lock: TextIO, folder: Path, made: Path, *arguments: str) -> None:
    """Run `python launch/...` unless it has ended and what it made is there."""
    command = " ".join(["python", *arguments])
    record = folder / "seconds.json"
    seconds = json.loads(record.read_text()) if record.exists() else {}
    if command in seconds and made.exists():
        print(f"[done] {command}", flush=True)
        return
    print(f"[run]  {command}", flush=True)
    start = time.monotonic()
    if code := subprocess.run([sys.executable, *arguments], pass_fds=[lock.fileno()]).returncode:
        raise ValueError(
            f"`{command}` ended with exit code {code}; the same command goes on there."
        )
    write_json(record, seconds | {command: round(time.monotonic() - start)})


def scored(reconstructions: Path, name: str, score: Callable, simulated: str | None) -> ImageScores:
    """The scores of a folder of drawings, kept beside them."""
    path = reconstructions / f"{name}.npz"
    if not path.exists():
        score(load_reconstructions(reconstructions), simulated).save(path)
    return ImageScores.load(path)


def write_table(out: Path, runs: dict[str, list[ImageScores]], chosen: ConfigDict) -> None:
    """results.json and tables.md of the seeds that are complete."""
    results, missing = ablation_results(runs), runs[FULL][0].missing
    seeds = list(chosen.seeds)[: len(runs[FULL])]
    kept = {"ablation": chosen.to_dict(), "seeds": seeds, "missing": missing, "variants": results}
    write_json(out / "results.json", kept)
    of_all = f"{len(seeds)} of {len(chosen.seeds)} seeds, {chosen.num_images} test images each."
    text = f"{of_all}\n\n{tables(results, missing)}"
    write_text(out / "tables.md", text)
    print(text, flush=True)


def run(config: ConfigDict, file: str, overrides: list[str], out: Path) -> None:
    """Everything, seed after seed."""
    chosen = config.ablation
    folders = {
        (name, seed): out / name / f"seed{seed}"
        for seed in chosen.seeds
        for name in chosen.variants
    }
    for (name, seed), folder in folders.items():
        check(settings_of(variant_of(config, name, seed)), folder)
    lock = locked(out)
    encoder = Path(chosen.encoder or out / "encoder" / "model")
    if chosen.encoder is None:
        data = [a for a in overrides if a.startswith("--config.data.")]
        train = ["--config", chosen.encoder_config, *data, "--workdir", str(encoder.parent)]
        stage(lock, encoder.parent, encoder, "launch/train_encoder.py", *train)
    drawing = ["--prepared", config.data.prepared, "--encoder", str(encoder), "--keep_candidates"]
    for option in ("num_images", "num_candidates", "sampler", "num_steps"):
        drawing += [f"--{option}", str(chosen[option])]
    simulated = config.data.root if config.data.simulation is not None else None
    runs: dict[str, list[ImageScores]] = {name: [] for name in (*chosen.variants, NO_SELECTION)}
    for (name, seed), folder in folders.items():
        train = ["--config", f"{file}:{name}", *overrides, f"--config.train.seed={seed}"]
        train += ["--workdir", str(folder)]
        stage(lock, folder, folder / "metrics.jsonl", "launch/train.py", *train)
        reconstructions = folder / "drawn"
        reconstruct = [
            "--run",
            str(folder),
            *drawing,
            "--seed",
            str(seed),
            "--out",
            str(reconstructions),
        ]
        stage(lock, folder, reconstructions / "index.json", "launch/reconstruct.py", *reconstruct)
        runs[name].append(scored(reconstructions, "scores", score_choice, simulated))
        if name == FULL:
            mean = scored(reconstructions, "mean_scores", score_mean_candidate, simulated)
            runs[NO_SELECTION].append(mean)
        if name == list(chosen.variants)[-1]:
            write_table(out, runs, chosen)


def main(_) -> None:
    # A child that is told nothing would go on; the exception makes subprocess end it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    flag, out = FLAGS["config"], Path(FLAGS.out)
    overrides = [
        f"--config.{key}={value}"
        for key, value in get_override_values(flag).items()
        if not key.startswith("ablation.")
    ]
    try:
        if ":" in flag.config_filename:
            raise ValueError(
                f"--config is {flag.config_filename}; name the file alone, all its variants run."
            )
        run(_CONFIG.value, flag.config_filename, overrides, out)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"ablate: {error}")
    print(f"Table: {out / 'tables.md'}; scores: {out / 'results.json'}")


if __name__ == "__main__":
    _CONFIG = command_line.define_config()
    flags.DEFINE_string("out", "runs/ablation", "Folder for all runs, results.json and tables.md.")
    command_line.run(main)
