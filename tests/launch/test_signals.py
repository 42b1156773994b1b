"""Real commands that a signal ends: the exit code, the sentence, and what is kept."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny_pipeline import make_pipeline
from tiny_prepared import SPLITS, write_prepared

from neuroadapter_jax.pipeline import load_reconstructions

pytestmark = pytest.mark.slow


def test_ctrl_c_ends_a_reconstruction_after_its_batch(tmp_path, random_backbone):
    make_pipeline(random_backbone).save_pretrained(tmp_path / "model")
    write_prepared(tmp_path / "prepared", tmp_path / "nsd")
    out, names = tmp_path / "out", ("model", "prepared", "out")
    command = [sys.executable, "-m", "neuroadapter_jax", "reconstruct", "--noprogress"]
    command += [f"--{name}={tmp_path / name}" for name in names]
    command += ["--split=train", "--batch_size=1", "--num_steps=3"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start():
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    with start() as process:
        while process.poll() is None and not list(out.glob("images/*.png")):
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130, said
    assert "reconstruct: SIGINT: what was finished is kept; start it again to go on.\n" in said
    assert "Traceback" not in said and not (out / ".lock").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("images/*.png")}
    assert 0 < len(kept) < len(SPLITS["train"])
    with start() as process:
        assert process.wait() == 0
    assert len(load_reconstructions(out).image_ids) == len(SPLITS["train"])
    assert kept.items() <= {p.name: p.stat().st_mtime_ns for p in out.glob("images/*.png")}.items()
