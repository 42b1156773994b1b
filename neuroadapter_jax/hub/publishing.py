"""A model's folder made ready for the Hub, and sent there."""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from neuroadapter_jax.errors import InputError, MissingFileError, reading
from neuroadapter_jax.files import (
    ASSETS,
    differing_keys,
    without_local_paths,
    write_json,
    write_text,
)
from neuroadapter_jax.hub.cards import REPORT, CardDetails, model_card, table_of_card
from neuroadapter_jax.hub.kinds import CARD, CONFIG, KINDS, Kind, require_kind
from neuroadapter_jax.hub.snapshots import LOG_IN, is_hub_id
from neuroadapter_jax.readers import read_json

VIEWS = str(PurePosixPath(REPORT).parent)
# Of a folder of `neuroadapter interpret`. The views themselves, gigabytes that hold every stimulus,
# stay here.
_OF_VIEWS = ("report.html", "rois.csv", "figures/*", "maps/*")


def check_repo(repo: str) -> None:
    """Refuse a name that the Hub would refuse.

    Raises:
        InputError: it is not `owner/model`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        valid = re.fullmatch(r"[^/]+/[^/]+", repo) is not None
    except HFValidationError:
        valid = False
    if not valid:
        raise InputError(
            f"the repository is {repo!r}; expected owner/model, each of letters, digits, '-', '_' "
            "and '.', such as my-lab/neuroadapter-subj01."
        )


def prepare_publication(
    folder: str | Path,
    place: str | Path,
    repo: str,
    kind: Kind,
    details: CardDetails,
    views: str | Path | None = None,
) -> list[str]:
    """Write what would be sent to the Hub: the model, its card, and the page of its interpretation.

    config.json is as it was but for the paths of this machine, of which the last name is left, and
    the backbone, where `details` names it.

    Args:
        folder: the model's.
        place: folder to write.
        repo: `owner/model`.
        kind: of the model.
        details: what the folder cannot say about itself.
        views: folder of `neuroadapter interpret`, of which the page, the pictures and the maps are
            taken.

    Returns:
        The names of the files.

    Raises:
        MissingFileError: a file of the model, or the page, is not there.
        InputError: a model of another kind, a backbone that nobody else has, or scores or views of
            another model.
    """
    check_repo(repo)
    folder, place = Path(folder), Path(place)
    found = require_kind(folder, kind)
    if details.scores is not None:
        _require_same_model(folder, found, "the scores", details.scores.model)
    pages = [] if views is None else _files_of_views(Path(views))
    if views is not None and (settings := Path(views) / "settings.json").is_file():
        made = read_json(settings, "the settings of `neuroadapter interpret`")
        _require_same_model(folder, found, str(views), made.get("model"))
    with reading(folder / CONFIG, f"the settings of {kind.what}"):
        config = _public_config(found, folder, kind, details)
    place.mkdir(parents=True, exist_ok=True)
    names = {path.name for pattern in kind.patterns for path in folder.glob(pattern)}
    for name in sorted(names - {CONFIG}):
        shutil.copyfile(folder / name, place / name)
    write_json(place / CONFIG, config)
    for page in pages:
        target = place / VIEWS / page
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(str(views)) / page, target)
    names |= {CARD, *(f"{VIEWS}/{page}" for page in pages)}
    files = sorted(names)
    facts = table_of_card(folder / CARD)
    if details.base_model is not None:
        facts = [[k, details.base_model if k == "backbone" else x] for k, x in facts]
    write_text(place / CARD, model_card(repo, kind, config, details, facts, files))
    return files


def publish(
    folder: str | Path,
    repo: str,
    kind: Kind,
    details: CardDetails,
    *,
    views: str | Path | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
) -> str:
    """Send a model to the Hub, with its card.

    The repository is made if it is not there. Files of an earlier version of the model that the new
    one lacks are removed from it, other files stay.

    Args:
        folder: the model's.
        repo: `owner/model`.
        kind: of the model.
        details: see `prepare_publication`.
        views: see `prepare_publication`.
        private: whether a new repository is private; the owner's default when None.
        token: of the Hub; that of `hf auth login` or of HF_TOKEN when None.
        commit_message: of the upload.
        revision: the branch, which has to be there; main when None.

    Returns:
        The address of the repository.

    Raises:
        MissingFileError, InputError: see `prepare_publication`; or nobody is logged in, the user
            may not write there, the repository holds a model of another kind, or the Hub cannot be
            reached.
    """
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory(prefix="neuroadapter-publish-") as place:
        prepare_publication(folder, place, repo, kind, details, views)
        api = HfApi(library_name="neuroadapter-jax", token=token)
        with _told_in_words(repo):
            address = api.create_repo(repo, private=private, exist_ok=True)
            there = api.list_repo_files(repo, revision=revision)
        for other in KINDS:
            if other is not kind and other.files[0] in there:
                raise InputError(
                    f"the Hub's {repo} holds {other.what} ({other.files[0]}), with which "
                    f"{kind.what} would be mixed; name another repository."
                )
        with _told_in_words(repo):
            api.upload_folder(
                repo_id=repo,
                folder_path=place,
                commit_message=commit_message or f"Publish {kind.what}",
                revision=revision,
                delete_patterns=[
                    kind.weights,
                    *kind.optional,
                    *([] if views is None else [f"{VIEWS}/*"]),
                ],
            )
    return str(address)


def _require_same_model(folder: Path, config: Mapping[str, Any], what: str, made_with: Any) -> None:
    """Refuse scores or views of another model; nothing is compared where it is not recorded."""
    provenance = config.get("provenance")
    if not isinstance(made_with, Mapping) or not isinstance(provenance, Mapping):
        return
    if made_with and provenance and (differences := differing_keys(provenance, made_with)):
        # Whole sections that one of the two lacks would fill the page.
        key = min(differences, key=lambda key: len(repr(differences[key])))
        here, there = differences[key]
        raise InputError(
            f"{what}: of another model than {folder}, whose {key} is {here!r} and not {there!r}; "
            "give those of this model."
        )


def _files_of_views(views: Path) -> list[str]:
    if not (views / "report.html").is_file():
        raise MissingFileError(
            f"{views / 'report.html'}: not found; expected a folder of `neuroadapter interpret` "
            "with its page."
        )
    found = {path for pattern in _OF_VIEWS for path in views.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(views).as_posix() for path in found)


def _public_config(
    config: dict[str, Any], folder: Path, kind: Kind, details: CardDetails
) -> dict[str, Any]:
    backbone = kind.backbone_of(config)
    if details.base_model is not None:
        backbone = details.base_model
    elif not _others_have(backbone, config):
        raise InputError(
            f"{folder / CONFIG} names the backbone {backbone!r}, a folder of this machine that "
            "nobody else has; give its name on the Hub as base_model (--base_model owner/model)."
        )
    public = without_local_paths(config)
    part = public
    for key in kind.backbone[:-1]:
        part = part[key]
    part[kind.backbone[-1]] = backbone
    return public


def _others_have(backbone: str, config: Mapping[str, Any]) -> bool:
    """Whether a backbone is the Hub's, ships with the package, or is an architecture of these.

    What came from the Hub has its commit in config.json; a fingerprint alone is of a folder.
    """
    name = backbone.removeprefix("random:")
    if name == "random":
        return True
    if is_hub_id(name):
        return "backbone_commit" in config or "backbone_fingerprint" not in config
    return len(Path(name).parts) == 1 and not Path(name).exists() and (ASSETS / name).is_dir()


@contextmanager
def _told_in_words(repo: str) -> Iterator[None]:
    """Turn what the Hub answers to an upload into one sentence.

    Raises:
        InputError: so it answered.
    """
    from huggingface_hub import errors

    try:
        yield
    except (AttributeError, TypeError):  # a mistake of ours
        raise
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"nobody is logged in to the Hub; {LOG_IN}.") from error
    except errors.OfflineModeIsEnabled as error:
        raise InputError(
            f"HF_HUB_OFFLINE is set, so nothing can be sent to {repo}; unset it, or give --dry_run "
            "to see what would be sent."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"the Hub's {repo} has no such branch; make it first, or leave the revision out."
        ) from error
    except errors.HfHubHTTPError as error:
        raise InputError(_answer(repo, error)) from error
    except Exception as error:  # whatever the network answers with
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise InputError(
            f"the Hub cannot be reached for {repo} ({type(error).__name__}, {said}); check the "
            "connection and give the same command again."
        ) from error


def _answer(repo: str, error: Any) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"the Hub does not know who sends {repo}; {LOG_IN}."
    if status in (403, 404):
        return (
            f"the Hub does not let this user write to {repo}; check the owner's name, and that the "
            "token may write."
        )
    said = " ".join(str(error).split())[:300].rstrip(".")
    return f"the Hub refused {repo} ({said}); mend that and give the same command again."
