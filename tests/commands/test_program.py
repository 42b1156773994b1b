"""The program as a whole: its help, its commands, and the public names of the package."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import neuroadapter_jax
from neuroadapter_jax.commands import program

ROOT = Path(__file__).resolve().parents[2]
# What takes seconds to import, or may not be installed.
HEAVY = ["jax", "flax", "matplotlib", "nilearn", "tensorflow", "torch", "pandas", "grain"]


def run(*arguments, code=""):
    """A fresh process that has the checkout on its path."""
    command = [sys.executable, *(["-c", code] if code else ["-m", "neuroadapter_jax"])]
    return subprocess.run(
        [*command, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_no_help_and_no_public_import_waits_for_jax():
    code = f"""
import contextlib, io, sys
import neuroadapter_jax
from neuroadapter_jax.commands import program
for name in ["", *program.NAMES]:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        program.main([name, "--help"] if name else ["--help"])
    assert text.getvalue().startswith(("neuroadapter " + name).strip()), name
neuroadapter_jax.Sampling(num_steps=3)
print([name for name in {HEAVY} if name in sys.modules])
"""
    result = run(code=code)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_help_lists_every_command_with_one_line():
    text = program.help_text()
    for name in program.NAMES:
        (line,) = [line for line in text.splitlines() if line.startswith(f"  {name} ")]
        assert 25 < len(line) <= 82 and line.endswith("."), line
    assert neuroadapter_jax.__version__ in text


def test_every_command_has_a_launch_script_that_calls_it():
    scripts = {path.stem for path in (ROOT / "launch").glob("*.py")}
    assert scripts == {name.replace("-", "_") for name in program.NAMES}
    for name in program.NAMES:
        text = (ROOT / "launch" / f"{name.replace('-', '_')}.py").read_text()
        assert f'run_command("{name}")' in text and len(text.splitlines()) <= 12


@pytest.mark.parametrize("name", program.NAMES)
def test_the_help_of_a_command_says_what_it_does_by_example(name, capsys):
    program.main([name, "--help"])
    text = capsys.readouterr().out
    assert f"    neuroadapter {name}" in text
    assert "[flags]" in text.splitlines()[0]
    assert all(len(line) <= 100 for line in text.splitlines())
    # The flags of the command come before those that others have as well.
    headings = ["Flags of this command:", "Sampling:", "Flags that several", "For all commands:"]
    places = [text.find(heading) for heading in headings if heading in text]
    assert places == sorted(places) and "For all commands:" in text


@pytest.mark.parametrize("script", ["train", "train_encoder"])
def test_a_launch_script_runs_from_a_checkout_that_is_not_installed(script, tmp_path):
    code = f"""
import runpy, sys
sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]
sys.argv[:] = ["{script}.py", "--help"]
runpy.run_path({str(ROOT / "launch" / f"{script}.py")!r}, run_name="__main__")
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"neuroadapter {script.replace('_', '-')}")


@pytest.mark.parametrize(
    ("name", "near"), [("recnstruct", "reconstruct"), ("train_encodr", "train-encoder")]
)
def test_an_unknown_command_names_the_nearest(name, near, capsys):
    with pytest.raises(SystemExit) as end:
        program.main([name])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"neuroadapter: there is no command {name!r}; did you mean {near}")


def test_no_command_is_a_wrong_use(capsys):
    with pytest.raises(SystemExit) as end:
        program.main([])
    assert end.value.code == 2
    assert "neuroadapter COMMAND" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    program.main(["--version"])
    assert capsys.readouterr().out == f"{neuroadapter_jax.__version__}\n"


@pytest.mark.parametrize("name", sorted(neuroadapter_jax._PUBLIC))
def test_a_public_name_is_that_of_its_module(name):
    module = importlib.import_module(neuroadapter_jax._PUBLIC[name])
    assert getattr(neuroadapter_jax, name) is getattr(module, name)
    assert name in neuroadapter_jax.__all__ and name in dir(neuroadapter_jax)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Pipelin'"):
        _ = neuroadapter_jax.Pipelin
