"""Links to files of the repository, as they are written for a reader of the repository."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# The pages of the site that files outside of docs/ stand for. What is in no page, such as a script
# or a card, is offered for download, which is what MyST does with a link to a file.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "data/nsd/README.md": "records.md",
}
_LINK = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<file>[\w./-]+)(?P<anchor>#[\w-]*)?\)")


def to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Point `](../README.md)` of a Markdown page to the page of the site that stands for it."""
    if Path(app.env.doc2path(docname)).suffix == ".md":
        source[0] = _LINK.sub(_page, source[0])


def _page(link: re.Match[str]) -> str:
    page = PAGES.get(link["file"])
    return link[0] if page is None else f"]({link['up'].removeprefix('../')}{page})"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect it."""
    app.connect("source-read", to_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
