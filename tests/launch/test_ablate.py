"""`neuroadapter ablate` in a process, with stand-ins for the commands that it calls."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neuroadapter_jax.studies.ablation import ImageScores

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"""
import importlib.util

def get_config(variant="full"):
    spec = importlib.util.spec_from_file_location("base", {str(ROOT / "configs" / "ablation.py")!r})
    base = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(base)
    config = base.get_config(variant)
    config.data.simulation = None
    del config.ablation.variants
    config.ablation.variants = {{"full": {{}}, "no_min_snr": {{"gamma": None}}}}
    config.ablation.seeds = (3, 5)
    config.ablation.encoder = "encoder"
    return config
"""
# The command, with another program for its stages.
ABLATE = """
import sys
from neuroadapter_jax.commands import program, stages
stages.PROGRAM = (sys.executable, "stage.py")
program.run_command("ablate", sys.argv[1:])
"""
# Both note that they were called; the training of no_min_snr at seed 5 takes for ever at first.
STAGE = """
import pathlib, sys
with open("calls", "a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
exec(pathlib.Path(sys.argv.pop(1) + ".py").read_text())
"""
TRAIN = """
import os, pathlib, sys, time
from neuroadapter_jax.locks import only_run
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
run = pathlib.Path(given["--workdir"])
with only_run(run, "a training"):  # as the command does
    if run.parts[-2:] == ("no_min_snr", "seed5") and not pathlib.Path("go").exists():
        pathlib.Path("pid.new").write_text(str(os.getpid()))
        pathlib.Path("pid.new").rename("pid")
        time.sleep(600)
    (run / "metrics.jsonl").touch()
"""
# The scores are there already: 1 for the full model's, 0.5 and 0.75 for the others.
RECONSTRUCT = """
import pathlib, sys
given = dict(zip(sys.argv, sys.argv[1:]))
images = pathlib.Path(given["--out"])
images.mkdir()
(images / "index.json").touch()
scores = pathlib.Path("full.npz" if "full" in images.parts else "other.npz").read_bytes()
(images / "scores.npz").write_bytes(scores)
(images / "mean_scores.npz").write_bytes(pathlib.Path("mean.npz").read_bytes())
"""


def start(folder):
    command = [sys.executable, "ablate.py", "--config", "config.py"]
    return subprocess.Popen(
        [*command, "--out", "out", "--config.train.batch_size=4"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def calls(folder):
    return [tuple(line.split()) for line in (folder / "calls").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ablate.py").write_text(ABLATE)
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "reconstruct.py").write_text(RECONSTRUCT)
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    (tmp_path / "encoder" / "validation.npz").touch()
    for name, value in {"full": 1.0, "other": 0.5, "mean": 0.75}.items():
        row = {"pixcorr": np.full(7, value)}
        one = {"pixcorr": np.ones(7)}
        ImageScores(np.arange(7), row, one, {}).save(tmp_path / f"{name}.npz")
    return tmp_path


@pytest.fixture
def first(folder):
    """A call that the test kills; its pipes stay open, since what it started may still write."""
    process = start(folder)
    yield process
    process.stdout.close()
    process.stderr.close()


def test_a_killed_call_goes_on_and_what_is_done_stays_done(folder, first):
    while first.poll() is None and not (folder / "pid").exists():
        time.sleep(0.01)
    first.kill()

    assert first.wait() == -signal.SIGKILL
    before = calls(folder)
    done = [(call[0], call[-1]) for call in before]
    order = [(v, s) for s in (3, 5) for v in ("full", "no_min_snr")]
    expected = [
        pair
        for v, s in order
        for pair in (
            ("train", f"out/{v}/seed{s}"),
            ("reconstruct", f"out/{v}/seed{s}/reconstructions"),
        )
    ]
    assert done == expected[:-1]
    given = before[2]
    assert "config.py:no_min_snr" in given and "--config.train.seed=3" in given
    assert "--config.train.batch_size=4" in given
    # The seed that is complete has its table.
    table = json.loads((folder / "out" / "results.json").read_text())
    assert table["seeds"] == [3]

    # Its training lives on, and the one that is tried beside it is refused.
    second = start(folder)
    _, err = second.communicate(timeout=120)
    assert second.returncode == 1 and "out/no_min_snr/seed5 is in use: a training by process" in err
    assert calls(folder) == [*before, before[-1]]
    before = calls(folder)

    os.kill(int((folder / "pid").read_text()), signal.SIGKILL)
    (folder / "go").touch()
    third = start(folder)
    out, err = third.communicate(timeout=120)
    assert third.returncode == 0, err
    assert [(call[0], call[-1]) for call in calls(folder)[len(before) :]] == expected[-2:]
    assert out.count("[done]") == 6
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["seeds"] == [3, 5]
    variants = results["variants"]
    assert variants["no_min_snr"]["difference"]["pixcorr"]["value"] == -0.5
    assert variants["no_encoder_selection"]["difference"]["pixcorr"]["value"] == -0.25
    assert "2 of 2 seeds" in (folder / "out" / "tables.md").read_text()

    # Runs of other settings are named before anything is done.
    (folder / "out" / "full" / "seed5" / "metrics.jsonl").write_text("{}\n")
    (folder / "out" / "full" / "seed5" / "config.json").write_text('{"batch_size": 8}')
    fourth = start(folder)
    _, err = fourth.communicate()
    assert fourth.returncode == 1 and "batch_size is 8 there, 4 here" in err
    assert err.startswith("ablate: out/full/seed5/config.json holds")
    assert "made with other settings" in err
