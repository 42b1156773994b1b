"""What the wheel carries, and what it leaves out."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import neuroadapter_jax

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "neuroadapter_jax"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that no build folder stays in the checkout."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in ROOT.iterdir():
        if path.name in ("neuroadapter_jax", "configs", "launch", "tests", "data", "docs"):
            (copy / path.name).symlink_to(path)
        elif path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(out), str(copy)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_it_carries_every_module_config_and_asset(names):
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("**/*.py", "assets/**/*", "py.typed")
        for path in PACKAGE.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    expected |= {f"neuroadapter_jax/configs/{p.name}" for p in (ROOT / "configs").glob("*.py")}
    assert expected - names == set()
    assert {"neuroadapter_jax/py.typed", "neuroadapter_jax/configs/demo.py"} <= names


def test_it_has_no_other_top_level_folder(names):
    version = neuroadapter_jax.__version__
    tops = {name.split("/")[0] for name in names}
    assert tops == {"neuroadapter_jax", f"neuroadapter_jax-{version}.dist-info"}
    assert not any(name.endswith(".pyc") for name in names)


def test_it_installs_the_program(wheel, names):
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    text = zipfile.ZipFile(wheel).read(entry).decode()
    assert "neuroadapter = neuroadapter_jax.commands.program:main" in text


def test_its_requirements_are_ranges(wheel, names):
    (metadata,) = [name for name in names if name.endswith("METADATA")]
    lines = zipfile.ZipFile(wheel).read(metadata).decode().splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist" in line]
    core = [line for line in required if "extra ==" not in line]
    assert "jax>=0.10.2" in core and not any("==" in line for line in core)
    assert "Requires-Python: >=3.11" in lines


def test_a_program_out_of_the_wheel_finds_its_configs(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    run = subprocess.run(
        [sys.executable, "-m", "neuroadapter_jax", "prepare", "--config=demo", "--dry-run"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Nothing to fetch: the subject is simulated into runs/simulated/nsd" in run.stdout
    code = "from neuroadapter_jax.commands.configs import configs_folder; print(configs_folder())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == str(tmp_path / "site" / "neuroadapter_jax" / "configs")
