"""The whole method at small size: simulate, prepare, train, draw, score, report.

    python launch/demo.py [--out runs/demo]

Each stage is one command of launch/, printed before it runs; what is done is not done again.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import command_line
from absl import flags

from neuroadapter_jax.figures.cortex_maps import roi_figure, save_figure
from neuroadapter_jax.figures.grids import image_grid, save_picture
from neuroadapter_jax.figures.report import score_table, write_report
from neuroadapter_jax.files import write_json
from neuroadapter_jax.pipeline.reconstruct import load_reconstructions
from neuroadapter_jax.simulation.nsd_writer import load_truth
from neuroadapter_jax.simulation.subject import ROIS
from neuroadapter_jax.training.metrics_log import read_metrics

FLAGS = flags.FLAGS
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


def stage(done: Path, *arguments: str) -> None:
    """Run `python launch/...` unless `done` is there; its seconds go beside the results."""
    command = " ".join(["python", *arguments])
    if done.exists():
        print(f"[done] {command}", flush=True)
        return
    print(f"[run]  {command}", flush=True)
    start = time.monotonic()
    if code := subprocess.run([sys.executable, *arguments]).returncode:
        sys.exit(f"demo: `{command}` ended with exit code {code}; the same command goes on there.")
    path = Path(FLAGS.out) / "seconds.json"
    seconds = json.loads(path.read_text()) if path.exists() else {}
    write_json(path, seconds | {command: round(time.monotonic() - start)})


def reconstruct(model: str, out: Path, *options: str) -> None:
    """Draw the test images."""
    known = ["--model", model, "--prepared", PREPARED, *SAMPLING, "--out", str(out)]
    stage(out / "index.json", "launch/reconstruct.py", *known, *options)


def score(folder: Path, permuted: Path, model: str) -> None:
    """Score a folder beside one drawn from permuted responses."""
    known = ["--permuted", str(permuted), "--model", model, "--prepared", PREPARED, "--root", ROOT]
    stage(folder / "results.json", "launch/evaluate.py", str(folder), *known)


def main(_) -> None:
    out = Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    run, model = out / "train", out / "model"
    stage(Path(PREPARED) / "provenance.json", "launch/prepare.py", "--config", "configs/demo.py")
    export = ["launch/export.py", "--run", str(run), "--out", str(model)]
    train = ["launch/train.py", "--config", "configs/demo.py", "--workdir", str(run)]
    stage(model / "config.json", *train)
    stage(model / "config.json", *export)
    models = {"minutes": str(model), "hour": SHIPPED}
    for label, name in models.items():
        own, permuted = out / label / "own", out / label / "permuted"
        reconstruct(name, own)
        reconstruct(name, permuted, "--permute_responses")
        score(own, permuted, name)

    run_encoder, chosen = out / "encoder", out / "chosen" / "own"
    encoder = run_encoder / "model"
    train = ["--config", "configs/encoder_demo.py", "--workdir", str(run_encoder)]
    stage(encoder / "config.json", "launch/train_encoder.py", *train)
    known = ["--encoder", str(encoder), "--prepared", PREPARED, "--root", ROOT]
    stage(encoder / "accuracy.json", "launch/evaluate_encoder.py", *known)
    reconstruct(SHIPPED, chosen, *CANDIDATES, "--encoder", str(encoder))
    score(chosen, out / "hour" / "permuted", SHIPPED)

    views = out / "interpretation"
    known = ["--model", SHIPPED, "--prepared", PREPARED, *SAMPLING, "--out", str(views)]
    rois = ["--root", ROOT, "--extra_atlases", "simulated-vtc"]
    licence = ["--licence", "Scenes are composed of OpenMoji artwork (openmoji.org), CC BY-SA 4.0."]
    stage(views / "report.html", "launch/interpret.py", *known, *rois, *licence)

    results = {
        TITLES[label]: json.loads((out / label / "own" / "results.json").read_text())
        for label in TITLES
    }
    reconstructions = {label: load_reconstructions(out / label / "own") for label in TITLES}
    rows = {"seen": reconstructions["minutes"].stimuli[:NUM_SHOWN]}
    rows |= {label: result.best[:NUM_SHOWN] for label, result in reconstructions.items()}
    save_picture(out / "reconstructions.png", image_grid(rows))
    save_figure(out / "areas.png", roi_figure(load_truth(ROOT)["roi"], order=ROIS))
    write_json(out / "results.json", results)
    seconds = json.loads((out / "seconds.json").read_text())
    write_report(
        out / "report.html",
        results=results,
        grid=out / "reconstructions.png",
        rois=out / "areas.png",
        metrics=read_metrics(run / "metrics.jsonl"),
        facts={command: f"{number} s" for command, number in seconds.items()},
    )
    for row in score_table(results)[:]:
        print("  ".join([f"{row[0]:58s}", *(f"{cell:24s}" for cell in row[1:])]))
    print(f"\nReport:          {out / 'report.html'}")
    print(f"Which region:    {views / 'report.html'}")
    print(f"Reconstructions: {out / 'reconstructions.png'}")
    print(f"Scores:          {out / 'results.json'}")


if __name__ == "__main__":
    flags.DEFINE_string("out", "runs/demo", "Folder for everything but the simulated subject.")
    command_line.run(main)
