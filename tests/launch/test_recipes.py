"""The recipes for clusters: what they ask SLURM for, what they start, what containers hold."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuroadapter_jax.commands import program, runner
from neuroadapter_jax.commands.config_values import check_data, training_settings
from neuroadapter_jax.commands.prepare import read_share
from neuroadapter_jax.processes import slurm_devices

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "launch" / "containers"
RECIPES = sorted((ROOT / "launch" / "slurm").glob("*.sbatch"))
# SLURM's, as far as a recipe needs it: starts its command once per task, with the task's variables.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
for (( task = 0; task < SLURM_NTASKS; task++ )); do
    SLURM_PROCID=$task SLURM_NODEID=$task SLURM_LOCALID=0 SLURM_STEP_NODELIST=nodes "$@" || exit $?
done
"""
# Writes down what it was asked to do, and ends as it is told.
NEUROADAPTER = """#!{python}
import json, os, sys
slurm = {{key: value for key, value in os.environ.items() if key.startswith("SLURM")}}
with open("started.jsonl", "a") as file:
    print(json.dumps([sys.argv[1:], slurm]), file=file)
sys.exit(int(os.environ.get("ENDS_WITH", 0)))
"""
SCONTROL = '#!/bin/bash\necho "$@" >> scontrol.txt\n'


def asked_for(recipe):
    """The options of a recipe's #SBATCH lines, which have to stand before its first command."""
    lines = recipe.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])
    options = [line.split() for line in lines if line.startswith("#SBATCH")]
    assert all(len(each) == 2 and each[1].startswith("--") for each in options)
    return dict((each[1][2:] + "=").split("=")[:2] for each in options)


def dry_run(recipe, folder, *flags, index=1, ends_with=0):
    """Runs a recipe as SLURM would, with programs that only write down what is asked of them.

    Returns:
        The exit code; what was started: its arguments and SLURM's variables; calls of scontrol.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    stand_ins = {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "neuroadapter": NEUROADAPTER.format(python=sys.executable),
    }
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    options = asked_for(recipe)
    nodes = int(options["nodes"])
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "NSD": "a folder/nsd",
        "ENDS_WITH": str(ends_with),
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": str(index),
        "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
        "SLURM_NTASKS": str(nodes * int(options.get("ntasks-per-node", 1))),
        "SLURM_TASKS_PER_NODE": f"1(x{nodes})",
        "SLURM_GPUS_ON_NODE": options.get("gpus-per-node", ""),
    }
    ended = subprocess.run(["bash", recipe, *flags], cwd=folder, env=environment)
    started = (folder / "started.jsonl").read_text().splitlines()
    note = folder / "scontrol.txt"
    requeued = note.read_text() if note.exists() else ""
    return ended.returncode, list(map(json.loads, started)), requeued


def test_every_case_of_the_page_has_its_recipe():
    assert {recipe.stem for recipe in RECIPES} == {
        "one_gpu", "eight_gpus", "several_hosts", "prepare_shards", "prepare",
    }  # fmt: skip
    page = (ROOT / "docs" / "howto" / "gpus.md").read_text()
    for path in (*RECIPES, *CONTAINERS.iterdir()):
        assert path.relative_to(ROOT).as_posix() in page


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_bash_and_starts_a_command_that_its_parser_takes(recipe, tmp_path):
    subprocess.run(["bash", "-n", recipe], check=True)
    code, started, _ = dry_run(recipe, tmp_path, "--config.data.subject=2")
    options = asked_for(recipe)
    assert code == 0 and len(started) == int(options["nodes"])
    for arguments, variables in started:
        name, *words = arguments
        values, rest = runner.parse(name, program.command_module(name), words)
        assert rest == [] and values.config.data.subject == 2
        assert values.config.data.root == "a folder/nsd"
        check_data(values.config)
        if name == "train":
            gpus = int(options["gpus-per-node"])
            assert training_settings(values.config).batch_size % (gpus * len(started)) == 0
            # One task per host takes all of its GPUs.
            assert slurm_devices(variables, gpus) == list(range(gpus))
            assert values.num_processes is None  # SLURM's variables say it
        else:
            assert name == "prepare"


@pytest.mark.parametrize("name", ["one_gpu", "eight_gpus", "several_hosts"])
def test_a_training_that_was_saved_at_its_time_limit_goes_back_into_the_queue(name, tmp_path):
    recipe = ROOT / "launch" / "slurm" / f"{name}.sbatch"
    options = asked_for(recipe)
    signal, _, seconds = options["signal"].partition("@")
    # The step gets it, not the shell, which has to live on; well before SLURM kills.
    assert signal == "TERM" and int(seconds) >= 60 and "requeue" in options
    assert options["open-mode"] == "append"  # else the log begins anew
    assert dry_run(recipe, tmp_path / "saved", ends_with=143)[::2] == (143, "requeue 4711\n")
    for other in (0, 1, 137):
        assert dry_run(recipe, tmp_path / str(other), ends_with=other)[::2] == (other, "")


def test_the_array_has_one_job_per_shard(tmp_path):
    recipe = ROOT / "launch" / "slurm" / "prepare_shards.sbatch"
    first, last = map(int, asked_for(recipe)["array"].split("-"))
    shares = set()
    for index in range(first, last + 1):
        _, ((arguments, _),), _ = dry_run(recipe, tmp_path / str(index), index=index)
        name, *words = arguments
        shares.add(read_share(runner.parse(name, program.command_module(name), words)[0].shard))
    assert {share.number for share in shares} == set(range(1, last + 1))
    assert {share.count for share in shares} == {last}


def test_another_way_to_start_the_program_may_have_several_words(tmp_path):
    recipe = (ROOT / "launch" / "slurm" / "one_gpu.sbatch").read_text()
    own = 'NEUROADAPTER="env A=1 neuroadapter"\n'
    (tmp_path / "recipe").write_text(recipe.replace("status=0\n", own + "status=0\n"))
    code, ((arguments, _),), _ = dry_run(tmp_path / "recipe", tmp_path / "run")
    assert code == 0 and arguments[0] == "train"


# GPU hours in the recipes, from the table that they quote: steps x bound x GPUs / 3600.
@pytest.mark.parametrize(
    ("name", "steps", "devices"),
    [("one_gpu", 168_750, 1), ("eight_gpus", 168_750, 8), ("several_hosts", 84_375, 16)],
)
def test_the_cost_of_a_recipe_is_that_of_the_compiled_programs(name, steps, devices):
    rows = re.findall(
        r"^\| (H100|A100|L40) .*? \| (\d+) \| training step \|.*\*\*([\d.]+)\*\* \|$",
        (ROOT / "docs" / "scaling.md").read_text(),
        re.M,
    )
    bounds = {(card, int(count)): float(seconds) for card, count, seconds in rows}
    recipe = ROOT / "launch" / "slurm" / f"{name}.sbatch"
    text = " ".join(recipe.read_text().replace("#", " ").split())
    assert f"{steps:,} steps" in text
    assert "a bound, computed from compiled programs and not measured" in text
    said = re.findall(r"[\d.]*\d", text[text.index("at least") : text.index(f"{steps:,}")])
    expected = [
        steps * bounds[card, min(devices, 8)] * devices / 3600 for card in ("H100", "A100", "L40")
    ]
    for hours in expected:
        assert any(abs(float(number) - hours) < 0.11 for number in said), (hours, said)


def instructions(dockerfile):
    """(instruction, rest) of a Dockerfile."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]


def sections(definition):
    """Header and sections of an Apptainer definition: name -> lines."""
    found, name = {"": []}, ""
    for line in definition.read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            found[name].append(line.strip())
    return found


def docker_recipe():
    """What a Dockerfile copies, source -> target, and the command that installs it."""
    found = instructions(CONTAINERS / "Dockerfile")
    copies = {}
    for name, rest in found:
        assert name in {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "CMD"}
        if name == "COPY":
            *sources, target = rest.split()
            into = "" if len(sources) == 1 else target
            copies |= {s: os.path.normpath(into + s if into else target) for s in sources}
    (run,) = (rest for name, rest in found if name == "RUN")
    ends = dict(found)
    assert json.loads(ends["ENTRYPOINT"]) == ["neuroadapter"] and json.loads(ends["CMD"])
    return ends["FROM"], copies, run


def apptainer_recipe():
    """The same of an Apptainer definition."""
    found = sections(CONTAINERS / "neuroadapter.def")
    assert set(found) == {"", "files", "post", "environment", "test", "runscript"}
    header = dict(line.split(": ", 1) for line in found[""])
    assert header["Bootstrap"] == "docker"
    home, run = found["post"]
    folder = home.removeprefix("cd ")
    copies = {}
    for line in found["files"]:
        source, target = line.split()
        copies[source] = os.path.relpath(target, folder)
    assert found["runscript"] == ['exec neuroadapter "$@"']
    return header["From"], copies, run


@pytest.mark.parametrize("read", [docker_recipe, apptainer_recipe])
def test_a_container_is_given_all_that_its_installation_reads(read, tmp_path):
    image, copies, run = read()
    version = re.search(r"target-version = \"py3(\d+)\"", (ROOT / "pyproject.toml").read_text())[1]
    assert image.startswith(f"python:3.{version}")
    for source, target in copies.items():
        assert (ROOT / source).exists() and target == source  # as in the checkout
    # Setuptools finds all that it reads among the copies. The modules themselves are of no account.
    for source in copies.keys() - {"neuroadapter_jax"}:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    (tmp_path / "neuroadapter_jax").mkdir()
    shutil.copy(ROOT / "neuroadapter_jax" / "__init__.py", tmp_path / "neuroadapter_jax")
    assert "neuroadapter_jax" in copies
    subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    (info,) = tmp_path.glob("*.egg-info")
    offered = re.findall(r"^\[(\w+)\]$", (info / "requires.txt").read_text(), re.M)
    words = shlex.split(run)
    assert words[:2] == ["pip", "install"]
    (wanted,) = re.findall(r"\.\[([\w,]+)\]", run)
    assert wanted.split(",") == ["cuda"] and set(wanted.split(",")) <= set(offered)
    assert words[words.index("--constraint") + 1] in copies


def test_both_containers_hold_the_same():
    assert docker_recipe()[:3] == apptainer_recipe()[:3]
