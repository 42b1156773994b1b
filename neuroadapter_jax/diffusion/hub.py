"""Models of the Hub by `owner/model` or `owner/model@revision`, and what came when they were asked.

A name alone stands for whatever the Hub holds today; with a revision (a branch, a tag or a commit)
it stays the same.
"""

import re
from pathlib import Path

import huggingface_hub

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub_id(name: str | Path) -> bool:
    """Whether a name can only be the Hub's: `owner/model`, with or without a revision, not here.

    Args:
        name: of a model, or a path.

    Examples:
        >>> from neuroadapter_jax.diffusion.hub import is_hub_id
        >>> is_hub_id("owner/model@main"), is_hub_id("tiny-sd")
        (True, False)
    """
    return _ID.fullmatch(str(name)) is not None and not Path(name).exists()


def snapshot(name: str, patterns: list[str]) -> Path:
    """The folder of a model's files, fetched where they are not in the Hub's cache.

    Args:
        name: `owner/model` or `owner/model@revision`.
        patterns: of the files.
    """
    found = _ID.fullmatch(name)
    assert found is not None, name  # see `is_hub_id`
    if found["revision"] is None:
        return Path(huggingface_hub.snapshot_download(found["id"], allow_patterns=patterns))
    return Path(
        huggingface_hub.snapshot_download(
            found["id"], revision=found["revision"], allow_patterns=patterns
        )
    )


def commit_of(folder: str | Path) -> str | None:
    """The commit that a folder of the Hub's cache is of; None for any other folder.

    Args:
        folder: any.
    """
    folder = Path(folder)
    is_snapshot = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if is_snapshot else None
