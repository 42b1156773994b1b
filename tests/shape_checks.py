"""Shape annotations, enforced: beartype checks every annotated function of the package.

Under pytest every module of `neuroadapter_jax` is imported through jaxtyping's hook, so a wrong
shape, dtype or type in any call fails with the name of the argument. Nothing is checked, and
nothing is slower, outside pytest.
"""

import ast
import contextlib
import functools
from collections.abc import Iterator
from typing import Self

from beartype import beartype
from jaxtyping import _import_hook, install_import_hook

_enforced = True


def checked(function):
    """The type checker that the hook puts around every function of the package."""
    # A method is checked without its class here, so nobody knows what Self is.
    hints = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in hints.items() if hint is not Self}
    checking = beartype(function)

    @functools.wraps(function)
    def call(*args, **kwargs):
        return (checking if _enforced else function)(*args, **kwargs)

    return call


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Calls as a user makes them, to test the sentence that wrong input is answered with."""
    global _enforced
    _enforced = False
    try:
        yield
    finally:
        _enforced = True


def enforce(package: str) -> None:
    """Installs the hook; to be called before the package is imported."""

    # JAX rebuilds registered dataclasses around placeholders (shapes, axes, sentinels), so a
    # checked __init__ would refuse jax.eval_shape and jax.vmap. Methods are still checked.
    def visit_class(self, node: ast.ClassDef) -> ast.ClassDef:
        self._parents.append(node)
        self.generic_visit(node)
        self._parents.pop()
        return node

    _import_hook.JaxtypingTransformer.visit_ClassDef = visit_class
    install_import_hook(package, "shape_checks.checked")
