"""What the API reference needs beside autodoc: short names that link, and annotations to read."""

import re
from typing import Any

from docutils import nodes
from flax import nnx
from sphinx.application import Sphinx
from sphinx.util import inspect

_RANGE = re.compile(r"~?(?:typing\.)?Annotated\[([^,\[\]]+), [^\[\]]*\]")
_MODULES = re.compile(r"~?\b(?:jaxtyping|typing|numpy|jaxlib\._jax)\.(?=[A-Zn])")
# Float[ndarray, 'b n'] | Float[Array, 'b n'], as Float[np.ndarray | Array, "b n"] comes out.
_PAIR = re.compile(r"(\w+)\[ndarray, ('[^']*')\] \| \1\[Array, \2\]")


def shorten_annotations(
    app: Sphinx, what: str, name: str, member: Any, options: Any, arguments: str, result: str
) -> tuple[str | None, str | None]:
    """Write array annotations as the code has them, and the arguments of NNX modules."""
    del app, name, options
    if what == "class" and issubclass(member, nnx.Module):  # whose metaclass hides them
        signature = inspect.signature(member.__init__, bound_method=True)
        arguments = inspect.stringify_signature(signature, unqualified_typehints=True)
    return _shortened(arguments), _shortened(result)


def _shortened(text: str | None) -> str | None:
    """Without modules, ranges (the docstring has them) and factories."""
    if text is None:
        return None
    text = _MODULES.sub("", _RANGE.sub(r"\1", text)).replace("<factory>", "...")
    return _PAIR.sub(r"\1[ndarray | Array, \2]", text)


def skip_member(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool:
    """Leave out the fields of a named tuple, which its docstring describes already."""
    del app, what, name, options
    filler = "Alias for field number"
    return True if str(getattr(member, "__doc__", "")).startswith(filler) else skip


def shorten_types(
    app: Sphinx, what: str, name: str, member: Any, options: Any, lines: list[str]
) -> None:
    """The same for attributes; and the star of an axis such as "*b n" begins no emphasis."""
    del app, what, name, member, options
    for i, line in enumerate(lines):
        if line.startswith(":vartype "):
            lines[i] = str(_shortened(line)).replace("*", r"\*")


def link_short_name(app: Sphinx, env: Any, node: nodes.Element, content: nodes.Element) -> Any:
    """Link `views.Views` or `Views` to the one documented object whose name ends so."""
    if node.get("refdomain") != "py":
        return None
    objects, target = env.domains["py"].objects, node["reftarget"].lstrip(".")
    found = [name for name in objects if name.endswith("." + target)]
    if len(found) != 1:
        return None
    place = objects[found[0]]
    address = app.builder.get_relative_uri(node["refdoc"], place.docname) + "#" + place.node_id
    return nodes.reference("", "", content, internal=True, refuri=address, reftitle=found[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect them."""
    app.connect("autodoc-process-signature", shorten_annotations)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("autodoc-process-docstring", shorten_types, priority=900)  # after napoleon
    app.connect("missing-reference", link_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
