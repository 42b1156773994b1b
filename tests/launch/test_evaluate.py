"""launch/evaluate.py as a user runs it, on folders of a few images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroadapter_jax.evaluation.results import PerImage, write_per_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
COUNT, SIDE = 3, 17


def start(*arguments, **variables):
    command = [sys.executable, str(ROOT / "launch" / "evaluate.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def finish(process):
    out, error = process.communicate()
    return process.returncode, out, error.strip().splitlines()[-1] if error.strip() else ""


def write(folder, mode="RGB"):
    images = np.random.default_rng(5).integers(0, 256, (2, COUNT, SIDE, SIDE, 3), np.uint8)
    entries = []
    folder.mkdir()
    for j in range(COUNT):
        names = [f"{what}{j}.png" for what in ("stimulus", "candidate")]
        entries.append({"image_id": 10 + j, "stimulus": names[0], "candidates": names[1:]})
        for name, stack in zip(names, images, strict=True):
            Image.fromarray(stack[j]).convert(mode).save(folder / name)
    (folder / "index.json").write_text(json.dumps({"images": entries}))
    return folder


def scored(folder, values):
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps({"convention": {"name": "mindeye"}}))
    table = PerImage(np.arange(COUNT), {"pixcorr": np.array(values)})
    write_per_image(folder / "per_image.csv", table)
    return folder


def test_scores_differences_and_refusals(tmp_path):
    folder, grey = write(tmp_path / "reconstructions"), write(tmp_path / "grey", "L")
    a, b = scored(tmp_path / "a", [0.25, 0.5, 0.5]), scored(tmp_path / "b", [0.5, 0.75, 0.75])
    cache = {"TORCH_HOME": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "cache")}
    running = [
        start(folder, "--convention", "neuroadapter", **cache),
        start("--compare", a, b, "--out", tmp_path / "differences"),
        start(grey),
    ]
    score, compare, refused = (finish(process) for process in running)

    assert score[0] == 0, score
    assert "PixCorr: " in score[1] and "missing: AlexNet(2), AlexNet(5)" in score[1]
    results = json.loads((folder / "results.json").read_text())
    assert results["convention"]["name"] == "neuroadapter" and results["num_images"] == COUNT
    assert len((folder / "per_image.csv").read_text().splitlines()) == 1 + COUNT
    assert (folder / "results.md").read_text().startswith("# Scores of reconstructions\n")

    assert compare[0] == 0, compare
    row = "| PixCorr | more | 0.417 | 0.667 | +0.2500 [+0.2500, +0.2500] |"
    assert row in compare[1] and row in (tmp_path / "differences" / "comparison.md").read_text()
    written = json.loads((tmp_path / "differences" / "comparison.json").read_text())
    assert written["scores"]["pixcorr"]["difference"]["value"] == 0.25

    code, _, sentence = refused
    assert code == 1 and not (grey / "results.json").exists()
    assert sentence.startswith("evaluate: ") and "mode L; expected RGB" in sentence
