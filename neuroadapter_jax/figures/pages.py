"""What self-contained HTML pages share: names stay text, and nothing is fetched or run."""

import base64
import hashlib
import json
from typing import Any

# Besides these, only what separates lines in JavaScript could end a string early; JSON as ASCII
# has no such character.
_IN_SCRIPTS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def json_for_script(data: Any) -> str:
    """JSON that no name in it can turn into markup, for a script element of a page.

    "</script>" would end the element, and "<!--<script>" would keep it from ending.
    """
    text = json.dumps(data)
    for character, escaped in _IN_SCRIPTS.items():
        text = text.replace(character, escaped)
    return text


def content_policy(script: str | None = None) -> str:
    """A Content-Security-Policy that allows inline styles and pictures, and one script.

    Args:
        script: the text of the page's own script element; None for a page without one.
    """
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script is None:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"
