"""The whole method at small size: simulate, prepare, train, reconstruct, score, report."""

from pathlib import Path
from typing import Any

from neuroadapter_jax.evaluation.results import read_results
from neuroadapter_jax.evaluation.score_table import score_table
from neuroadapter_jax.figures.cortex_maps import roi_figure
from neuroadapter_jax.figures.grids import image_grid
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.figures.report import write_report
from neuroadapter_jax.files import refuse_foreign, require_folder_place, write_json
from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.pipeline import load_reconstructions
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.simulation.nsd_writer import load_truth
from neuroadapter_jax.simulation.subject import ROIS
from neuroadapter_jax.studies.first_pictures import (
    EXTRA_ATLAS,
    LICENCE,
    SAMPLING,
    SHIPPED,
    first_pictures,
)
from neuroadapter_jax.studies.resume import RunStage
from neuroadapter_jax.training.metrics_log import read_metrics

ROOT, PREPARED = "runs/simulated/nsd", "runs/simulated/prepared"
SUBJECT = 1
NUM_SHOWN = 30
# Fewer steps for more candidates: the choice makes up for them (docs/encoder.md).
CANDIDATES = ("--num_candidates", "8", "--num_steps", "6")
TITLES = {
    "minutes": "minutes of training",
    "hour": "an hour of training",
    "chosen": "the encoder's choice of 8",
}


@runs_alone("out", "a demo")
def run_quick_demo(out: str | Path, run_stage: RunStage) -> tuple[Path, Path]:
    """The first pictures alone, see `first_pictures`, in `out`/quick.

    Args:
        out: folder of a demo.
        run_stage: runs a command once.
    """
    return first_pictures(Path(out) / "quick", run_stage)


@runs_alone("out", "a demo")
def run_demo(out: str | Path, run_stage: RunStage) -> dict[str, Any]:
    """Every stage after the first pictures, each a command that runs once; then the report.

    Args:
        out: folder for everything but the simulated subject, which is under runs/simulated.
        run_stage: runs a command once.

    Returns:
        Title of each model -> its scores, see `score_folder`. report.html, results.json,
        reconstructions.png, rois.png and interpretation/report.html are in `out`.

    Raises:
        InputError: a command fails.
    """
    out = Path(out)
    check_demo(out)
    _run_stages(out, run_stage)
    results = {title: read_results(out / label / "own") for label, title in TITLES.items()}
    found = {label: load_reconstructions(out / label / "own") for label in TITLES}
    rows = {"Stimulus": found["minutes"].stimuli[:NUM_SHOWN]}
    rows |= {TITLES[label]: result.best[:NUM_SHOWN] for label, result in found.items()}
    save_picture(out / "reconstructions.png", image_grid(rows))
    save_picture(out / "rois.png", roi_figure(load_truth(ROOT, SUBJECT)["roi"], order=ROIS))
    write_json(out / "results.json", results)
    seconds = _read_seconds(out)
    write_report(
        out / "report.html",
        results=results,
        rows=rows,
        rois=out / "rois.png",
        metrics=read_metrics(out / "train" / "metrics.jsonl"),
        facts={command: f"{number} s" for command, number in seconds.items()},
    )
    return results


def check_demo(out: str | Path) -> None:
    """Refuse a folder that a whole demo cannot write, before anything is computed.

    Args:
        out: folder of the demo.

    Raises:
        InputError: it holds files of others or a damaged list of stages, or the simulated subject
            has no place.
    """
    out = Path(out)
    names = ("report.html", "results.json", "reconstructions.png", "rois.png")
    ours = (out / "seconds.json").is_file()
    refuse_foreign(out, names, ours=ours)
    if ours:
        _read_seconds(out)
    require_folder_place("the simulated subject", Path(ROOT).parent)


def _read_seconds(out: Path) -> dict[str, float]:
    path = out / "seconds.json"
    return read_json(path, "seconds of each command", dict[str, float], f"delete {path}")


def demo_summary(results: dict[str, Any]) -> str:
    """The scores of all models as lines for the terminal."""
    lines = [
        "  ".join([f"{row[0]:58s}", *(f"{cell:24s}" for cell in row[1:])])
        for row in score_table(results)
    ]
    return "\n".join(lines)


def _run_stages(out: Path, run_stage: RunStage) -> None:
    def stage(made: Path, command: str, *arguments: str) -> None:
        run_stage(out / "seconds.json", made, command, *arguments)

    def reconstruct(model: str, folder: Path, *options: str) -> None:
        known = ["--model", model, "--prepared", PREPARED, *SAMPLING, "--out", str(folder)]
        stage(folder / "index.json", "reconstruct", *known, *options)

    def score(folder: Path, permuted: Path, model: str) -> None:
        known = ["--permuted", str(permuted), "--model", model]
        known += ["--prepared", PREPARED, "--root", ROOT]
        stage(folder / "results.json", "evaluate", str(folder), *known)

    run, model = out / "train", out / "model"
    stage(Path(PREPARED) / "provenance.json", "prepare", "--config", "configs/demo.py")
    export = ["export", "--run", str(run), "--out", str(model)]
    train = ["train", "--config", "configs/demo.py", "--workdir", str(run)]
    stage(model / "config.json", *train)
    stage(model / "config.json", *export)
    for label, name in {"minutes": str(model), "hour": SHIPPED}.items():
        own, permuted = out / label / "own", out / label / "permuted"
        reconstruct(name, own)
        reconstruct(name, permuted, "--permute_responses")
        score(own, permuted, name)

    run_encoder, chosen = out / "encoder", out / "chosen" / "own"
    encoder = run_encoder / "model"
    train = ["--config", "configs/encoder_demo.py", "--workdir", str(run_encoder)]
    stage(encoder / "config.json", "train-encoder", *train)
    known = ["--encoder", str(encoder), "--prepared", PREPARED, "--root", ROOT]
    stage(encoder / "accuracy.json", "evaluate-encoder", *known)
    reconstruct(SHIPPED, chosen, *CANDIDATES, "--encoder", str(encoder))
    score(chosen, out / "hour" / "permuted", SHIPPED)

    views = out / "interpretation"
    known = ["--model", SHIPPED, "--prepared", PREPARED, *SAMPLING, "--out", str(views)]
    rois = ["--root", ROOT, "--extra_atlases", EXTRA_ATLAS, "--licence", LICENCE]
    stage(views / "report.html", "interpret", *known, *rois)
