"""launch/train.py as a user runs it: processes on a small simulated subject."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file
from shape_checks import unchecked

from neuroadapter_jax.commands import program
from neuroadapter_jax.cortex.label_files import write_annot
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.decoders.neuroadapter import pipeline_of_run
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.encoder.vit import Dinov2Config, Dinov2Model
from neuroadapter_jax.encoder.weights import save_dinov2
from neuroadapter_jax.pipeline import load_reconstructions
from neuroadapter_jax.simulation import subject as subject_module
from neuroadapter_jax.simulation.nsd_writer import write_nsd
from neuroadapter_jax.simulation.subject import SubjectConfig
from neuroadapter_jax.training.checkpoints import CheckpointStore
from neuroadapter_jax.training.metrics_log import read_metrics
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.setup import TrainingSetup

pytest.importorskip("tensorflow")

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SUBJECT = SubjectConfig(
    num_images=24, num_shared=5, trials_per_session=36, regions_per_hemisphere=11, seed=3
)
STEPS = 22
CONFIG = """
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("demo", {demo!r})
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    config = demo.get_config()
    config.workdir = {workdir!r}
    config.backbone = {backbone!r}
    config.progress = False
    config.data.simulation = None
    config.data.root = {root!r}
    config.data.prepared = {prepared!r}
    config.data.num_validation = 4
    config.data.parcellation = {parcellation!r}
    config.train.update(
        num_regions=6, batch_size=4, num_steps={steps}, warmup_steps=3, ema_decay=0.9,
        learning_rate=3e-3, drop_rate="uniform", repeats="random",
        log_every=1, evaluate_every=8, checkpoint_every=5, sample_steps=2,
    )
    return config
"""


class World:
    """A subject on disk, and config files that name it."""

    def __init__(self, folder, backbone, root):
        self.folder, self.backbone, self.root = folder, backbone, root
        label = root / "nsddata/freesurfer/fsaverage5/label"
        self.parcellation = tuple(str(p) for p in sorted(label.glob("*Parcels.annot")))

    def config(self, name="config", **changes):
        values = {
            "demo": str(ROOT / "configs" / "demo.py"),
            "workdir": str(self.folder / "run"),
            "backbone": str(self.backbone),
            "root": str(self.root),
            "prepared": str(self.folder / "prepared"),
            "parcellation": self.parcellation,
            "steps": STEPS,
        }
        path = self.folder / f"{name}.py"
        path.write_text(CONFIG.format(**values | changes))
        return path


def start(name, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, f"launch/{name}.py", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def here(name, *arguments):
    """Exit code, stdout and stderr of a command in this process, which has everything imported."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unchecked():
        try:
            program.main([name, *map(str, arguments)])
            code = 0
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):  # the interpreter writes it
                code = print(code, file=err) or 1
    return code or 0, out.getvalue(), err.getvalue()


def done(name, *arguments):
    code, out, err = here(name, *arguments)
    assert code == 0, err
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory, random_backbone):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject_module, "CALIBRATION_SCENES", 53)
        root = write_nsd(folder / "nsd", SUBJECT, progress=False)
    return World(folder, random_backbone, root)


@pytest.fixture(scope="module")
def whole(world):
    """A run that nothing interrupts; it prepares the data as well."""
    workdir = world.folder / "whole"
    process = start("train", "--config", world.config(), "--workdir", workdir)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert f"Trained: {workdir}" in out
    # Only the progress bars: the libraries' own log stays silent.
    assert "orbax" not in err and "xla_bridge" not in err
    return workdir


def states(workdir, like):
    """Steps and bytes of the last and the best checkpoint."""
    store = CheckpointStore(workdir)
    step, state, _ = store.restore(like)
    best_step, best = store.restore_best(like)
    store.close()
    return (step, best_step), [np.asarray(x).tobytes() for x in jax.tree.leaves((state, best))]


def read_json(path):
    return json.loads(path.read_text())


def test_a_whole_run(world, whole):
    assert (world.folder / "prepared" / "provenance.json").is_file()
    assert not (world.folder / "run").exists()  # --workdir goes before config.workdir
    lines = read_metrics(whole / "metrics.jsonl")
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == list(range(1, STEPS + 1))
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    assert [line["step"] for line in evaluations] == [8, 16, STEPS]
    assert all(line["validation/loss"] > 0 for line in evaluations)
    pictures = sorted(p.name for p in (whole / "validation").iterdir())
    assert pictures == ["000008.png", "000016.png", f"{STEPS:06d}.png"]


def test_the_rois_of_the_chosen_regions(world):
    out = world.folder / "rois.csv"
    printed = done("rois", "--config", world.config(), "--thresholds", "0.2", "--out", out)
    assert printed.startswith("subj01: 6 regions of Simulated22Parcels\n")
    rows = [line.split() for line in printed.splitlines()]
    (counts,) = [row for row in rows if row[:2] == [">", "0.2"]]
    assigned = [line.split(",")[5].strip() for line in out.read_text().splitlines()[1:]]
    assert len(assigned) == 6
    low = sum(roi in ("V1", "V2", "V3", "V4") for roi in assigned)
    high = sum(roi in ("Face", "Body", "Scene", "Word") for roi in assigned)
    assert counts[2:6] == [str(low), str(high), str(low + high), "6"]


def test_a_run_killed_at_a_random_step_goes_on_bit_for_bit(world, whole):
    workdir = world.folder / "killed"
    at = int(np.random.default_rng().integers(2, STEPS - 5))
    print("killed after step", at)  # shown if the test fails
    command = ("train", "--config", world.config(), "--workdir", workdir)
    process = start(*command)
    while process.poll() is None and len(read_metrics(workdir / "metrics.jsonl")) < at:
        time.sleep(0.002)
    process.kill()
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    assert read_metrics(workdir / "metrics.jsonl")[-1]["step"] < STEPS

    finish(start(*command))
    assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    like = TrainingSetup(Settings.from_dict(read_json(whole / "config.json"))).initial_state()
    (steps, ours), (expected, truth) = states(workdir, like), states(whole, like)
    assert steps == expected and steps[0] == STEPS
    assert ours == truth


def test_export_and_reconstruct(world, whole):
    model, reconstructions = world.folder / "model", world.folder / "reconstructions"
    done("export", "--run", whole, "--out", model)
    names = {"README.md", "config.json", "adapter.safetensors", "regions.npz"}
    assert {p.name for p in model.iterdir()} == names
    prepared = world.folder / "prepared"
    reconstruct = (
        "reconstruct",
        "--model",
        model,
        "--prepared",
        prepared,
        "--out",
        reconstructions,
    )
    done(*reconstruct, "--num_steps", 2, "--num_candidates", 2, "--batch_size", 3)
    index = read_json(reconstructions / "index.json")
    assert len(index["images"]) == SUBJECT.num_shared
    assert len(list((reconstructions / "images").iterdir())) == 2 * SUBJECT.num_shared
    assert (reconstructions / "grid.png").is_file()


def test_export_of_the_last_checkpoint(world, whole):
    model = world.folder / "last"
    done("export", "--run", whole, "--out", model, "--last")
    store = CheckpointStore(whole)
    like = TrainingSetup(Settings.from_dict(read_json(whole / "config.json"))).initial_state()
    step, state, _ = store.restore(like)
    store.close()
    assert step == STEPS
    assert (
        f"| steps trained, step exported | {STEPS}, {STEPS} |" in (model / "README.md").read_text()
    )
    exported = load_file(model / "adapter.safetensors")["region_projection.bias"]
    np.testing.assert_array_equal(exported, state["ema"]["region_projection"]["bias"][...])


def test_the_papers_configuration_with_its_variants(world):
    """At small size and random weights: bf16, learned queries, shuffled regions, grey start."""
    config = world.config(
        "nsd",
        demo=str(ROOT / "configs" / "nsd.py"),
        backbone=f"random:{world.backbone}",
        prepared=str(world.folder / "prepared32"),
        steps=None,
    )
    workdir, model, reconstructions = (
        world.folder / f"nsd-{name}" for name in ("run", "model", "reconstructions")
    )
    variants = {
        "data.space": "fsaverage5",
        "data.split": "shared",  # the published splits need the published design
        "data.image_size": 32,  # half of what the backbone's configuration names
        "train.token_queries": 5,
        "train.region_structure": False,
        "train.num_candidates": 2,
        "train.num_epochs": 1,
    }
    overrides = [f"--config.{key}={value}" for key, value in variants.items()]
    finish(start("train", "--config", config, "--workdir", workdir, *overrides))
    stored = read_json(workdir / "config.json")
    assert (stored["precision"], stored["token_queries"]) == ("bf16", 5)
    assert stored["region_structure"] is False
    assert (stored["sampling"]["sampler"], stored["sampling"]["start"]) == ("ddpm", "grey")
    # Fifteen images in batches of four.
    assert read_metrics(workdir / "metrics.jsonl")[-1]["step"] == 4

    done("export", "--run", workdir, "--out", model)
    tensors = load_file(model / "adapter.safetensors")
    assert tensors["token_mapper.queries"].shape == (5, 8)
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float32)}
    prepared = world.folder / "prepared32"
    reconstruct = (
        "reconstruct",
        "--model",
        model,
        "--prepared",
        prepared,
        "--out",
        reconstructions,
    )
    done(*reconstruct, "--num_steps", 2, "--batch_size", 3)
    settings = read_json(reconstructions / "index.json")["settings"]
    assert settings["num_candidates"] == 2
    own = {key: settings["sampling"][key] for key in ("sampler", "start", "guidance_scale")}
    assert own == {"sampler": "ddpm", "start": "grey", "guidance_scale": 4.0}
    images = list((reconstructions / "images").iterdir())
    assert len(images) == 2 * SUBJECT.num_shared
    with Image.open(images[0]) as image:
        assert image.size == (32, 32)


# ---- what is wrong is said in one sentence, before anything is written


def files(folder):
    paths = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".pyc"]
    return {p: p.stat().st_mtime_ns for p in paths}


def refused(world, *arguments, config=None, words):
    config = config or world.config()
    before = files(world.folder)
    code, _, err = here("train", "--config", config, *arguments)
    assert code != 0
    sentences = [line for line in err.splitlines() if line.startswith("train: ")]
    assert len(sentences) == 1, err
    for word in words:
        assert word in sentences[0]
    assert files(world.folder) == before


def test_a_work_folder_of_another_config(world, whole):
    refused(
        world,
        *("--workdir", whole, "--config.train.learning_rate=0.25", "--config.train.drop_rate=0.5"),
        words=(
            "config.json holds a run made with other settings",
            "drop_rate is 'uniform' there, 0.5 here",
            "learning_rate is 0.003 there, 0.25 here",
            "choose another work folder",
        ),
    )


def test_an_unknown_key(world):
    refused(
        world,
        "--config.train.num_step=1",
        words=(
            "config.train.num_step is no key of the config file",
            "did you mean --config.train.num_steps?",
        ),
    )


@pytest.mark.parametrize(
    "case", ["no parcellation", "another parcellation", "no session", "a torn session"]
)
def test_wrong_files(world, case, tmp_path):
    betas = "nsddata_betas/ppdata/subj01/fsaverage5/betas_fithrf_GLMdenoise_RR"
    changes = {"prepared": str(world.folder / "other")}
    rh = world.parcellation[1]
    if case == "no parcellation":
        gone = str(world.folder / "lh.none.annot")
        changes["parcellation"] = (gone, rh)
        words = (f"The parcellation file {gone} does not exist",)
    elif case == "another parcellation":
        write_annot(tmp_path / "lh.annot", np.arange(101, dtype=np.int32) % 7, list("abcdefg"))
        changes["parcellation"] = (str(tmp_path / "lh.annot"), rh)
        words = ("lh.annot labels 101 vertices, but the lh surface has 10242",)
    else:
        root = tmp_path / "nsd"
        shutil.copytree(world.root, root, copy_function=os.link)
        session = root / betas / "rh.betas_session02.mgh"
        content = session.read_bytes()
        session.unlink()
        words = ("Session 2 is missing", "rh.betas_session02.mgh", "aws s3 cp")
        if case == "a torn session":
            session.write_bytes(content[: len(content) // 2])
            words = ("rh.betas_session02.mgh is truncated", "aws s3 cp")
        changes["root"] = str(root)
    config = world.config("wrong", **changes)
    refused(world, config=config, words=words)
    assert not (world.folder / "other").exists() and not (world.folder / "run").exists()


@pytest.mark.parametrize("name", ["reconstruct", "demo"])
def test_a_wrong_flag(name):
    process = start(name, "--num_stepz=3")
    out, err = process.communicate()
    assert process.returncode == 1 and out == ""
    assert err.startswith(f"{name}: Unknown command line flag 'num_stepz'")
    assert err.endswith("--help lists the flags)\n") and err.count("\n") == 1


def test_a_config_that_is_not_there(world):
    gone = world.folder / "gone.py"
    refused(world, config=gone, words=(f"the config file {gone} is not there",))


ENCODER = """
import importlib.util

def get_config():
    spec = importlib.util.spec_from_file_location("demo", {demo!r})
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    config = demo.get_config()
    config.backbone = {backbone!r}
    config.progress = False
    config.data.simulation = None
    config.data.root = {root!r}
    config.data.prepared = {prepared!r}
    config.data.num_validation = 4
    config.data.parcellation = {parcellation!r}
    config.encoder.update(
        backbone={vit!r}, blocks=(2, 0), num_heads=3, mlp_width=7, row_length=16, batch_size=4,
        num_steps=13, warmup_steps=2, log_every=1, evaluate_every=4, checkpoint_every=3,
    )
    return config
"""


@pytest.fixture(scope="module")
def encoder_config(world, whole):
    """On records without the test split: opening it would fail."""
    prepared, vit = world.folder / "prepared-no-test", world.folder / "vit"
    shutil.copytree(world.folder / "prepared", prepared)
    (gone,) = prepared.rglob("*-test.array_record-*")
    gone.unlink()
    size = Dinov2Config(12, 2, 3, 2, image_size=64, patch_size=16)
    save_dinov2(vit, Dinov2Model(size, rngs=nnx.Rngs(0)))
    path = world.folder / "encoder.py"
    values = {
        "demo": str(ROOT / "configs" / "encoder_demo.py"),
        "backbone": str(world.backbone),
        "root": str(world.root),
        "prepared": str(prepared),
        "parcellation": world.parcellation,
        "vit": str(vit),
    }
    path.write_text(ENCODER.format(**values))
    return path


def test_an_encoder_run_that_was_killed_gives_the_same_encoders(world, encoder_config):
    runs = [world.folder / name for name in ("encoder", "encoder-killed")]
    commands = [("train_encoder", "--config", encoder_config, "--workdir", run) for run in runs]
    out = finish(start(*commands[0]))
    assert f"Trained: {runs[0] / 'model'}" in out
    process = start(*commands[1])
    second = runs[1] / "block0_run0" / "metrics.jsonl"
    while process.poll() is None and len(read_metrics(second)) < 5:
        time.sleep(0.002)
    process.kill()
    _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, err
    assert not (runs[1] / "model").exists()
    finish(start(*commands[1]))
    names = ["encoder_0.safetensors", "encoder_1.safetensors", "regions.npz", "config.json"]
    for name in names:
        assert (runs[1] / "model" / name).read_bytes() == (runs[0] / "model" / name).read_bytes()
    first = runs[0] / "block0_run0" / "metrics.jsonl"
    assert second.read_bytes() == first.read_bytes()

    # One that ranks what the adapter reconstructs.
    reconstructions = world.folder / "chosen"
    model = world.folder / "encoder" / "model"
    reconstruct = (
        "reconstruct",
        "--run",
        world.folder / "whole",
        "--prepared",
        world.folder / "prepared",
    )
    options = ("--num_candidates", 3, "--num_steps", 2, "--batch_size", 5)
    ranked = ("--out", reconstructions, "--encoder", model, "--keep_candidates")
    done(*reconstruct, *ranked, *options)
    encoder, records = BrainEncoder.from_pretrained(model), load_reconstructions(reconstructions)
    pipeline = pipeline_of_run(world.folder / "whole")
    split = PreparedDataset(world.folder / "prepared", "test")
    fmri = np.stack([split[i]["betas"].mean(axis=0, dtype=np.float32) for i in range(len(split))])
    fmri = fmri.astype(np.float16).astype(np.float32)
    scores = encoder.rank(records.candidates, fmri, pipeline.regions)
    np.testing.assert_allclose(records.scores, scores, atol=1e-5)
    np.testing.assert_array_equal(records.chosen, scores.argmax(axis=1))
