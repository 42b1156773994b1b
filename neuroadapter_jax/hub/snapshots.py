"""Models of the Hub by `owner/model` or `owner/model@revision`, and what came when they were asked.

A name alone stands for whatever the Hub holds today; with a revision (a branch, a tag or a commit)
it stays the same.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from neuroadapter_jax.errors import InputError, MissingFileError

_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"


def is_hub_id(name: str | Path) -> bool:
    """Whether a name can only be the Hub's: `owner/model`, with or without a revision, not here.

    Args:
        name: of a model, or a path.

    Examples:
        >>> from neuroadapter_jax.hub.snapshots import is_hub_id
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
    import huggingface_hub

    found = _ID.fullmatch(name)
    assert found is not None, name  # see `is_hub_id`
    if found["revision"] is None:
        return Path(huggingface_hub.snapshot_download(found["id"], allow_patterns=patterns))
    return Path(
        huggingface_hub.snapshot_download(
            found["id"], revision=found["revision"], allow_patterns=patterns
        )
    )


def published_folder(
    name: str | Path, patterns: Iterable[str], what: str, revision: str | None = None
) -> Path:
    """The folder of a published model's files, fetched where they are not in the Hub's cache.

    Args:
        name: `owner/model` or `owner/model@revision`, see `is_hub_id`.
        patterns: of the files.
        what: it should be, for the message.
        revision: a branch, a tag or a commit, where the name has none.

    Raises:
        InputError: a revision is given twice.
        MissingFileError: the Hub has no such model or revision, or cannot be reached.
    """
    text = str(name)
    if revision is not None:
        if "@" in text:
            raise InputError(
                f"{text} names a revision already, and revision is {revision!r}; give one of them."
            )
        text = f"{text}@{revision}"
    try:
        return snapshot(text, list(patterns))
    except Exception as error:  # whatever the network or the Hub answers with
        raise MissingFileError(
            f"{text}: no folder of this name is here, and {_reason(text, error)}; expected {what}."
        ) from error


def local_name(name: str | Path, revision: str | None) -> None:
    """Refuse a revision of what is a folder here, or ships with the package.

    Raises:
        InputError: there is a revision.
    """
    if revision is not None:
        raise InputError(
            f"{name} is no model of the Hub, and revision is {revision!r}; leave it out, since "
            "only the Hub's owner/model has revisions."
        )


def _reason(name: str, error: Exception) -> str:
    """What the Hub answered, and what to do, as a part of a sentence."""
    from huggingface_hub import errors

    model = name.partition("@")[0]
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(each, errors.RevisionNotFoundError) for each in causes):
        return f"the Hub's {model} has no such revision: check its branches, tags and commits"
    if any(isinstance(each, errors.GatedRepoError) for each in causes):
        return f"the Hub asks for its conditions first: accept them on the page of {model}"
    if any(isinstance(each, errors.RepositoryNotFoundError) for each in causes):
        return (
            f"the Hub has no model {model} or it is private: check the name and the path, or "
            f"{LOG_IN}"
        )
    if any(isinstance(each, errors.OfflineModeIsEnabled | ConnectionError) for each in causes):
        return (
            "it is not in the Hub's cache, which HF_HUB_OFFLINE leaves as the only place: check "
            "the path, or unset HF_HUB_OFFLINE"
        )
    said = " ".join(str(error).split())[:200].rstrip(".")
    return f"the Hub did not give it ({type(error).__name__}, {said}): check the name and the path"


def commit_of(folder: str | Path) -> str | None:
    """The commit that a folder of the Hub's cache is of; None for any other folder.

    Args:
        folder: any.
    """
    folder = Path(folder)
    is_snapshot = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if is_snapshot else None
