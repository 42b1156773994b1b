"""Flags that do not go together, and wrong paths, are refused before a command's work begins."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from neuroadapter_jax.commands import program, runner
from neuroadapter_jax.commands.given import check_given
from neuroadapter_jax.errors import InputError

ROOT = Path(runner.__file__).resolve().parents[2]
SIMULATED = "--model neuroadapter-simulated"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with an empty file of each kind that the flags look for."""
    for name in (
        "prepared/index.npz",
        "encoder/config.json",
        "encoder/validation.npz",
        "run/config.json",
        "a.json",
        "file",
        "world/truth.npz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(line):
    """What the checks before a command's work say."""
    name, *arguments = shlex.split(line)
    try:
        values, _ = runner.parse(name, program.command_module(name), arguments)
    except SystemExit as end:
        return str(end.code)
    with pytest.raises(InputError) as error:
        check_given(values)
    return f"{name}: {error.value}"


RECONSTRUCT = f"reconstruct {SIMULATED} --prepared prepared --out new "
INTERPRET = f"interpret {SIMULATED} --prepared prepared --out new "
DECODERS = "decoders --prepared prepared --encoder encoder --out new "


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (RECONSTRUCT + "--strength 0.8", "--strength has no effect without --low_level_start;"),
        (RECONSTRUCT + "--keep_candidates", "--keep_candidates has no effect without --encoder;"),
        (RECONSTRUCT + "--halving 3:2", "--halving has no effect without --encoder;"),
        (
            RECONSTRUCT + "--low_level_start folder --start grey",
            "--start has no effect beside --low_level_start;",
        ),
        (RECONSTRUCT + "--run run", "give either --model or --run."),
        (RECONSTRUCT + "--low_level_start none.npz", "--low_level_start is none.npz, which is not"),
        (RECONSTRUCT + "--encoder folder", "--encoder is folder, in which there is no config.json"),
        (RECONSTRUCT + "--guidance_scale nan", "flag --guidance_scale=nan: expected a number"),
        (RECONSTRUCT + "--guidance_scale inf", "flag --guidance_scale=inf: expected a number"),
        (RECONSTRUCT + "--seed 4294967296", "flag --seed=4294967296: expected a whole number from"),
        (RECONSTRUCT + "--seed=-1", "flag --seed=-1: expected a whole number from 0 to below"),
        (RECONSTRUCT + "--eta 1.5", "flag --eta=1.5: expected a number from 0 to 1"),
        (RECONSTRUCT + "--num_candidates 0", "flag --num_candidates=0: 0 is not a positive"),
        (
            f"reconstruct {SIMULATED} --prepared folder --out new",
            "--prepared is folder, in which there is no index.npz; expected a folder of `neuro",
        ),
        (
            f"reconstruct {SIMULATED} --prepared prepared --out file",
            "--out is file, which is a file; name a folder.",
        ),
        (
            f"reconstruct {SIMULATED} --prepared prepared --out file/new",
            "file is a file, so nothing can be written into it; name another place.",
        ),
        ("reconstruct --model folder --prepared prepared --out new", "--model is folder, in which"),
        ("export --run folder --out new", "--run is folder, in which there is no config.json;"),
        ("export --run run --out new --results none", "--results is none, which is not there;"),
        (INTERPRET, "give either --rois or --root or --label_dir."),
        (INTERPRET + "--rois a.json --root folder", "give either --rois or --root or --label_dir."),
        (INTERPRET + "--rois a.json --subject 2", "--subject has no effect without --root;"),
        (INTERPRET + "--rois a.json --threshold 0.1", "--threshold has no effect without --root"),
        (INTERPRET + "--rois none.json", "--rois is none.json, which is not there;"),
        (INTERPRET + "--root none", "--root is none, which is no folder;"),
        (INTERPRET + "--root folder --threshold 1", "flag --threshold=1.0: expected a number from"),
        (DECODERS + "--strength 0", "flag --strength=0.0: expected a number above 0 to 1"),
        (DECODERS + "--linear_guidance_scale nan", "flag --linear_guidance_scale=nan: expected a"),
        (DECODERS + "--nsd_root folder", "--nsd_root has no effect without --captions;"),
        (DECODERS + "--captions a.json,none", "--captions is none, which is not there;"),
        ("evaluate folder --root folder", "--root has no effect without --prepared;"),
        (
            "evaluate folder --prepared prepared --root folder",
            "--root is folder, in which there is no truth.npz; expected a folder into which",
        ),
        ("evaluate folder --permuted folder", "--permuted has no effect without --root;"),
        ("evaluate --compare a b --set_level", "--set_level has no effect beside --compare;"),
        ("convert --out new", "give either --model or --released."),
        (f"convert {SIMULATED} --out new --regions a.json", "--regions has no effect without --re"),
        (f"convert {SIMULATED} --out new --guidance_scale 3", "--guidance_scale has no effect wi"),
        ("prepare --config demo --dry_run --verify", "--verify has no effect beside --dry_run;"),
        ("benchmark --quick --sizes tiny-sd", "--sizes has no effect beside --quick;"),
        (DECODERS + "--methods linear --gallery folder", "--gallery has no effect without retr"),
        (
            "reconstruct --run run --prepared prepared --out ./run",
            "--out is ./run, which is read as --run; name another folder.",
        ),
        (
            "reconstruct --run run --prepared prepared --encoder run --out new",
            "--encoder is run, in which there is no validation.npz; expected a folder of",
        ),
        ("demo --out=", "--out is empty; give a name, or leave the flag out."),
        ("reconstruct --model= --prepared prepared --out new", "--model is empty; give a name"),
        ("rois --config demo --out folder", "--out is folder, which is a folder; name a file."),
        ("train --config demo --workdir file", "--workdir is file, which is a file; name a folder"),
        ("train --config demo --num_processes 0", "flag --num_processes=0: 0 is not a positive"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(place, line, sentence):
    before = sorted(place.rglob("*"))
    assert sentence in refused(line)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    "line",
    [
        RECONSTRUCT + "--low_level_start folder --strength 0.5 --encoder encoder --halving 3:2",
        RECONSTRUCT + "--nokeep_candidates",
        "reconstruct --run run --prepared prepared --out folder",
        INTERPRET + "--rois a.json",
        INTERPRET + "--root folder --subject 2 --extra_atlases a --threshold 0",
        DECODERS + "--captions a.json --nsd_root folder",
        "evaluate --compare a b --out new",
        "evaluate folder --prepared prepared --root world --permuted folder",
        f"convert {SIMULATED} --to ip_adapter --out new/deep/file",
        "benchmark --views --num_steps 3",
        "rois --config demo --out file",
    ],
)
def test_what_goes_together_passes(place, line):
    name, *arguments = shlex.split(line)
    values, _ = runner.parse(name, program.command_module(name), arguments)
    check_given(values)


def test_a_folder_that_may_not_be_written_is_named(place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "folder")
    said = refused(f"reconstruct {SIMULATED} --prepared prepared --out folder/deep/new")
    assert said == (
        f"reconstruct: --out is folder/deep/new, but {place / 'folder'} may not be written by this "
        "user; name another place or change its permissions."
    )


def test_wrong_flags_and_paths_are_said_before_jax_is_loaded(tmp_path):
    program_text = (
        "import sys\n"
        "from neuroadapter_jax.commands.program import main\n"
        "try:\n"
        f"    main(['reconstruct', '--model', 'neuroadapter-simulated', '--prepared', 'none',"
        f" '--out', {str(tmp_path / 'new')!r}])\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'jax', 'flax'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program_text],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.startswith("reconstruct: --prepared is none, in which there is no index.npz")
    assert done.stdout == "1 []\n"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (RECONSTRUCT + "--sampler ddpm --eta 0.5", "--eta is 0.5; expected 0 with ddpm;"),
        (RECONSTRUCT + "--encoder encoder --halving 9", "--halving is 9; expected STEPS:KEPT,..."),
        (
            RECONSTRUCT + "--encoder encoder --halving 3:2 --num_candidates 2",
            "halving is ((3, 2),) with 2 candidates",
        ),
        (INTERPRET + "--root folder --sampler ddpm --eta 0.5", "--eta is 0.5; expected 0 with"),
        (INTERPRET + "--root folder --subject zwei", "--subject is 'zwei'; expected a number from"),
        (DECODERS + "--eta 0.5", "--eta is 0.5; expected 0 with dpmsolver++;"),
        (DECODERS + "--linear_guidance_scale 2", "so give strength (for neuroadapter_low_level,"),
        (DECODERS + "--methods linear", "linear: no captions of the training images given"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_said_before_its_weights_are_read(
    place, monkeypatch, capsys, line, sentence
):
    """The model's own sampling is read from its config.json."""
    from neuroadapter_jax.datasets.prepared import records
    from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
    from neuroadapter_jax.studies import decoders, interpretation  # noqa: F401
    from neuroadapter_jax.training import train  # noqa: F401 (before PreparedDataset is replaced)

    def load(folder):
        raise AssertionError("the model was loaded")

    class NoRecords:
        def __init__(self, prepared, split):
            pass

    monkeypatch.setattr(NeuroAdapterPipeline, "from_pretrained", load)
    monkeypatch.setattr(records, "PreparedDataset", NoRecords)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    name, *arguments = shlex.split(line)
    with pytest.raises(SystemExit) as end:
        runner.run(name, program.command_module(name), arguments)
    assert end.value.code == 1 and sentence in capsys.readouterr().err
    assert not (place / "new").exists()
