"""What the Hub calls licences; https://huggingface.co/docs/hub/repositories-licenses lists them."""

import difflib
import re

from neuroadapter_jax.errors import InputError

OTHER = "other"
# fmt: off
LICENCES = (
    "apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
    "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0",
    "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0",
    "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0",
    "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0",
    "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0",
    "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "agpl-3.0", "gfdl", "gpl", "gpl-2.0",
    "gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by",
    "odbl", "openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl",
    "lgpl-lr", "deepfloyd-if-license", "llama2", "gemma",
)
# fmt: on


def check_licence(licence: str, name: str | None, link: str | None) -> None:
    """Refuse a licence that the Hub does not know, or one of the user's own without name and text.

    Args:
        licence: the Hub's identifier, or "other".
        name: of another licence.
        link: to the text of another licence.

    Raises:
        InputError: so it is.
    """
    if licence == OTHER:
        lacking = [key for key, x in {"licence_name": name, "licence_link": link}.items() if not x]
        if lacking:
            raise InputError(
                f"licence is 'other', which needs {' and '.join(lacking)}; give the licence's name "
                "and a link to its text."
            )
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name or ""):
            raise InputError(
                f"licence_name is {name!r}; expected small letters, digits, dots and hyphens, such "
                "as my-data-licence-1.0, as the Hub asks for."
            )
        return
    if name or link:
        raise InputError(
            f"licence_name and licence_link have no effect beside the licence {licence!r}; leave "
            "them out, or give 'other' as the licence."
        )
    if licence not in LICENCES:
        near = difflib.get_close_matches(licence.lower().replace(" ", "-"), LICENCES, 3, 0.5)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"licence is {licence!r}, which the Hub does not know; {hint}expected one of "
            "https://huggingface.co/docs/hub/repositories-licenses, or 'other' with its name and "
            "link."
        )
