"""The gallery's scripts, without running them; `make docs` runs them."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GALLERY = ROOT / "examples" / "gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))


def own_imports(tree):
    """(module, name) of what a script imports from the package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "neuroadapter_jax":
            yield from ((node.module, alias.name) for alias in node.names)


def names_of(module):
    """What a module defines or hands on, read from its file: to import all of them takes long."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body = ast.parse(path.read_text("utf-8")).body
    body += [inner for node in body if isinstance(node, ast.If) for inner in node.body]
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imports = [node for node in body if isinstance(node, ast.ImportFrom)]
    return names | {alias.name for node in imports for alias in node.names}


def test_the_scripts_follow_the_method_in_order():
    assert len(SCRIPTS) >= 8
    numbers = [int(re.fullmatch(r"plot_(\d\d)_[a-z_]+\.py", path.name)[1]) for path in SCRIPTS]
    assert numbers == list(range(1, len(SCRIPTS) + 1))
    assert (GALLERY / "GALLERY_HEADER.rst").read_text("utf-8").startswith("Gallery\n=======\n")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_a_title_and_text_between_its_code(path):
    text = path.read_text("utf-8")
    title, line, *_ = ast.get_docstring(ast.parse(text)).split("\n")
    assert line == "=" * len(title) and not title.endswith(".")
    # Every block of text begins with a heading, which sphinx-gallery's contents show.
    blocks = re.findall(r"^# %%\n# (.+)\n# (-+)\n", text, re.MULTILINE)
    assert len(blocks) == text.count("# %%") >= 2
    assert all(len(heading) == len(line) for heading, line in blocks)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_uses_public_names_alone(path):
    tree = ast.parse(path.read_text("utf-8"))
    private = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr != "__file__"
    ]
    imports = list(own_imports(tree))
    private += [name for _, name in imports if name.startswith("_")]
    assert not private and imports
    for module, name in imports:
        assert name in names_of(module), (module, name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_short_enough_to_read(path):
    lines = path.read_text("utf-8").splitlines()
    code = [line for line in lines if line.strip() and not line.startswith("#")]
    assert 20 <= len(code) <= 90
    assert any("change me" in line for line in code)
