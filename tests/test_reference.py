"""The pages of the API reference: what they name exists, and its arguments are described."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest
from flax import nnx

import neuroadapter_jax
from neuroadapter_jax import cortex, interop, pipeline

_PAGES = Path(__file__).parents[1] / "docs" / "api"
_ENTRY = re.compile(r"^   ([A-Za-z][\w.]*)$", re.MULTILINE)


def _named() -> list[str]:
    """What the pages of the packages list; the index repeats some of it and names the pages."""
    pages = sorted(page for page in _PAGES.glob("*.rst") if page.stem != "index")
    return [name for page in pages for name in _ENTRY.findall(page.read_text())]


def _found(name: str) -> object:
    module, _, last = name.rpartition(".")
    return getattr(
        importlib.import_module(".".join(filter(None, ["neuroadapter_jax", module]))), last
    )


NAMES = _named()


def test_every_page_is_in_the_index():
    listed = (_PAGES / "index.rst").read_text().split("toctree::")[1]
    assert set(_ENTRY.findall(listed)) == {p.stem for p in _PAGES.glob("*.rst")} - {"index"}


def test_nothing_is_listed_twice():
    assert sorted(NAMES) == sorted(set(NAMES))


def test_what_the_packages_export_is_in_the_reference():
    exported = {name for name in neuroadapter_jax.__all__ if not name.startswith("_")}
    for package, prefix in ((cortex, "cortex."), (interop, "interop."), (pipeline, "pipeline.")):
        functions = {n for n in package.__all__ if callable(getattr(package, n))}
        exported |= {prefix + n for n in functions - exported}
    assert exported - set(NAMES) == set()


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described(name):
    found = _found(name)
    text = inspect.getdoc(found) or ""
    assert text.strip()
    if isinstance(found, type):
        if issubclass(found, BaseException) or getattr(found, "_is_protocol", False):
            return
        fields = getattr(found, "_fields", None)
        signature = inspect.signature(found.__init__ if issubclass(found, nnx.Module) else found)
        arguments = set(fields or signature.parameters) - {"self"}
        if dataclasses.is_dataclass(found):  # a default that nobody gives is no argument
            arguments -= {f.name for f in dataclasses.fields(found) if not f.init}
    else:
        arguments = set(inspect.signature(found).parameters)
    described = {
        word.strip(" *")
        for line in re.findall(r"^ {2,4}([\w, *]+):", text, re.MULTILINE)
        for word in line.split(",")
    }
    assert arguments - described - {"rngs"} == set()
