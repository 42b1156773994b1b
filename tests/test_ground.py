import ast
import functools
import importlib
import json
import os
import pathlib
import pkgutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "neuroadapter_jax"
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], prefix="neuroadapter_jax.")
    if not module.name.rpartition(".")[2].startswith("_")
)
# The one module that is written in PyTorch. Others import it where a function needs it.
IN_PYTORCH = "neuroadapter_jax.studies.benchmark.released"


@functools.cache
def imports(path: pathlib.Path) -> set[str]:
    """Absolute names a source file imports, at any depth; `from a import b` gives `a.b` too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name):
    if name == IN_PYTORCH:
        for library in ("torch", "diffusers", "transformers"):
            pytest.importorskip(library)
    importlib.import_module(name)


@pytest.mark.slow
def test_the_package_needs_neither_tensorflow_nor_torch():
    core = [name for name in MODULES if name != IN_PYTORCH]
    heavy = ["tensorflow", "torch", "diffusers", "transformers"]
    script = (
        "import importlib, json, sys\n"
        f"for name in {core!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {heavy!r} if name in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout.splitlines()[-1]) == []


def test_import_contracts_hold():
    pytest.importorskip("importlinter")
    script = "from importlinter.cli import lint_imports_command as main; main()"
    run = subprocess.run(
        [sys.executable, "-c", script, "--no-cache"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


# Import contracts see an outside package as one name, so its parts are looked at here.
@pytest.mark.parametrize(
    ("part", "homes"),
    [
        ("nilearn.plotting", {"figures"}),
        ("nilearn.datasets", {"cortex", "figures", "simulation"}),
        ("launch", set()),
        ("configs", set()),
        ("data", set()),
        ("tests", set()),
    ],
)
def test_import_only_at_home(part, homes):
    found = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in homes
        and any(within(name, part) for name in imports(path))
    }
    assert found == set()


def test_a_built_package_carries_its_assets(tmp_path):
    assets = {
        path.relative_to(ROOT)
        for path in (PACKAGE / "assets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    built = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert assets <= built
    assert pathlib.Path("neuroadapter_jax/__init__.py") in built
    assert all(path.parts[0] == "neuroadapter_jax" for path in built)


def test_shapes_are_checked_here():
    from jaxtyping import TypeCheckError

    from neuroadapter_jax.metrics import pixels as metrics

    with pytest.raises(TypeCheckError):
        metrics.pixel_correlation("an image", "another")
