"""Run the whole method at small size, with a report.

    neuroadapter demo
    neuroadapter demo --out runs/demo

Simulate, prepare, train, reconstruct, score, interpret. About 20 minutes on two CPU cores. Each
stage is one command, printed before it runs; what is done is not done again.
"""

import json
from functools import partial
from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage

SHIPPED = "neuroadapter-simulated"
ROOT, PREPARED = "runs/simulated/nsd", "runs/simulated/prepared"
SAMPLING = ["--sampler", "dpmsolver++", "--num_steps", "19"]
NUM_SHOWN = 30
# Fewer steps for more candidates: the choice makes up for them (docs/encoder.md).
CANDIDATES = ["--num_candidates", "8", "--num_steps", "6"]
TITLES = {
    "minutes": "minutes of training",
    "hour": "an hour of training",
    "chosen": "the encoder's choice of 8",
}


def define(values: CommandFlags) -> None:
    define_shared(
        values, "out",
        defaults={"out": "runs/demo"},
        helps={"out": "Folder for everything but the simulated subject."},
    )  # fmt: skip


def run_stages(out: Path) -> None:
    """Everything but the report."""
    stage = partial(run_stage, out / "seconds.json")
    run, model = str(out / "train"), out / "model"

    def reconstruct(model: str, folder: Path, *options: str) -> None:
        known = ["--model", model, "--prepared", PREPARED, *SAMPLING, "--out", str(folder)]
        stage(folder / "index.json", "reconstruct", *known, *options)

    def score(folder: Path, permuted: Path, model: str) -> None:
        known = ["--permuted", str(permuted), "--model", model]
        known += ["--prepared", PREPARED, "--root", ROOT]
        stage(folder / "results.json", "evaluate", str(folder), *known)

    stage(Path(PREPARED) / "provenance.json", "prepare", "--config", "configs/demo.py")
    stage(model / "config.json", "train", "--config", "configs/demo.py", "--workdir", run)
    stage(model / "config.json", "export", "--run", run, "--out", str(model))
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
    rois = ["--root", ROOT, "--extra_atlases", "simulated-vtc"]
    licence = ["--licence", "Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0."]
    stage(views / "report.html", "interpret", *known, *rois, *licence)


def main(values: CommandFlags, arguments: list[str]) -> None:
    out = Path(values.out)
    out.mkdir(parents=True, exist_ok=True)
    run_stages(out)

    from neuroadapter_jax.figures.cortex_maps import roi_figure, save_figure
    from neuroadapter_jax.figures.grids import image_grid, save_picture
    from neuroadapter_jax.figures.report import score_table, write_report
    from neuroadapter_jax.files import write_json
    from neuroadapter_jax.pipeline.reconstruct import load_reconstructions
    from neuroadapter_jax.simulation.nsd_writer import load_truth
    from neuroadapter_jax.simulation.subject import ROIS
    from neuroadapter_jax.training.metrics_log import read_metrics

    results = {
        TITLES[label]: json.loads((out / label / "own" / "results.json").read_text())
        for label in TITLES
    }
    reconstructions = {label: load_reconstructions(out / label / "own") for label in TITLES}
    rows = {"stimulus": reconstructions["minutes"].stimuli[:NUM_SHOWN]}
    rows |= {label: result.best[:NUM_SHOWN] for label, result in reconstructions.items()}
    save_picture(out / "reconstructions.png", image_grid(rows))
    save_figure(out / "rois.png", roi_figure(load_truth(ROOT)["roi"], order=ROIS))
    write_json(out / "results.json", results)
    seconds = json.loads((out / "seconds.json").read_text())
    write_report(
        out / "report.html",
        results=results,
        grid=out / "reconstructions.png",
        rois=out / "rois.png",
        metrics=read_metrics(out / "train" / "metrics.jsonl"),
        facts={command: f"{number} s" for command, number in seconds.items()},
    )
    for row in score_table(results)[:]:
        print("  ".join([f"{row[0]:58s}", *(f"{cell:24s}" for cell in row[1:])]))
    print(f"\nReport:          {out / 'report.html'}")
    print(f"Which region:    {out / 'interpretation' / 'report.html'}")
    print(f"Reconstructions: {out / 'reconstructions.png'}")
    print(f"Scores:          {out / 'results.json'}")
