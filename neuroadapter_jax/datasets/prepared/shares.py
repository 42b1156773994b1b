"""A preparation shared among jobs that know nothing of one another, such as an array of SLURM.

A share is every N-th of the blocks of responses and of the files of images. It is written into a
folder that no other job writes into, so nothing has to be locked or agreed on between machines.
What is left, the record files, reads every block and is done by the call that puts the shares
together.
"""

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from neuroadapter_jax.datasets.prepared.source_files import TABLE
from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.files import require_same_settings, write_json
from neuroadapter_jax.ranges import SettingError
from neuroadapter_jax.readers import read_json

_FOLDER = re.compile(r"(\d+)-of-(\d+)")
_DONE = "done.json"  # in a share's folder, once it is complete
_TAKEN = "shares"  # in the work folder, shares that are put together


@dataclasses.dataclass(frozen=True)
class Share:
    """One of N shares of a preparation.

    Attributes:
        number: which one, from 1.
        count: how many there are.

    Raises:
        SettingError: a number below 1 or above the count.

    Examples:
        >>> from neuroadapter_jax.datasets.prepared.shares import Share
        >>> Share.parse("3/8")
        Share(number=3, count=8)
    """

    number: int
    count: int

    def __post_init__(self):
        if not 1 <= self.number <= self.count:
            raise _wrong(self)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Share":
        """A share as it is typed: K/N.

        Raises:
            SettingError: another text.
        """
        if not re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", text):
            raise _wrong(text)
        number, count = map(int, text.split("/"))
        return cls(number, count)

    def folder(self, prepared: Path) -> Path:
        """Where this share of a prepared folder is written."""
        return folder_of_shares(prepared) / f"{self.number}-of-{self.count}"


def _wrong(found: object) -> SettingError:
    wanted = "K/N with K from 1 to N, such as 3/8 for the third of eight"
    return SettingError("shard", str(found), wanted)


def folder_of_shares(prepared: Path) -> Path:
    """Where the shares of a prepared folder are, until they are put together."""
    return prepared.with_name(prepared.name + ".shards")


def share_folders(prepared: Path) -> list[Path]:
    """The folders of the shares that were begun."""
    place = folder_of_shares(prepared)
    found = sorted(place.iterdir()) if place.is_dir() else []
    return [folder for folder in found if not folder.name.startswith(".")]


def require_place(share: Share, prepared: Path) -> None:
    """Refuse a place with shares of another count, or with files of somebody else.

    Raises:
        InputError: so it is.
    """
    counts = _counts(prepared)
    if others := sorted(counts.keys() - {share.count}):
        raise InputError(
            f"--shard is {share}, but {folder_of_shares(prepared)} holds shards of {others[0]}; "
            f"give one of those, such as --shard={share.number}/{others[0]}, or delete that folder."
        )


def is_done(share: Share, prepared: Path, request: dict[str, Any]) -> bool:
    """Whether a share is complete.

    Raises:
        InputError: it is, with other settings or input.
    """
    folder = share.folder(prepared)
    if not (folder / _DONE).exists():
        return False
    _require_same(folder, request)
    return True


def note_done(share: Share, prepared: Path, request: dict[str, Any]) -> None:
    """Say that a share is complete."""
    write_json(share.folder(prepared) / _DONE, {"request": request})


def collect(prepared: Path, work: Path, request: dict[str, Any]) -> None:
    """Take what the shares hold into the work folder of a preparation.

    Args:
        prepared: the folder that is to be made.
        work: where its units are.
        request: all that the records depend on.

    Raises:
        InputError: a share is missing or not complete, or has other settings or input.
    """
    place, taken = folder_of_shares(prepared), work / _TAKEN
    if taken.is_dir():  # of a call that was killed while it took them
        _take(taken, work)
    if not share_folders(prepared):
        return
    _require_complete(prepared)
    for folder in share_folders(prepared):
        _require_same(folder, request)
    work.mkdir(parents=True, exist_ok=True)
    place.replace(taken)  # at once, so that a killed call leaves all of them or none
    _take(taken, work)


def _take(taken: Path, work: Path) -> None:
    for folder in sorted(taken.iterdir()):
        for path in sorted(folder.iterdir()):
            if path.name not in (_DONE, TABLE) and not path.name.startswith("."):
                path.replace(work / path.name)
    shutil.rmtree(taken)


def _require_complete(prepared: Path) -> None:
    place, counts = folder_of_shares(prepared), _counts(prepared)
    if len(counts) > 1:
        raise InputError(
            f"{place} holds shards of {' and of '.join(map(str, sorted(counts)))}, which do not "
            f"belong together; delete those that are not wanted."
        )
    ((count, found),) = counts.items()
    done = {k for k in found if (Share(k, count).folder(prepared) / _DONE).exists()}
    if lacking := [k for k in range(1, count + 1) if k not in done]:
        which, are = ("shard", "it is") if len(lacking) == 1 else ("shards", "they are")
        raise InputError(
            f"{place} lacks {which} {', '.join(map(str, lacking[:20]))} of {count}, or {are} "
            f"not complete; give the same command with --shard={lacking[0]}/{count}"
            f"{' and so on' if len(lacking) > 1 else ''}, or delete that folder to prepare all of "
            f"it in one call."
        )


def _counts(prepared: Path) -> dict[int, list[int]]:
    """Count of shares -> the numbers that were begun."""
    counts: dict[int, list[int]] = {}
    for folder in share_folders(prepared):
        if (match := _FOLDER.fullmatch(folder.name)) is None:
            raise ExistingFileError(
                f"{folder} is no shard of a preparation; expected names such as 1-of-8, since the "
                f"shards of {prepared} go there, so move it to another place."
            )
        counts.setdefault(int(match[2]), []).append(int(match[1]))
    return counts


class _Done(TypedDict):
    request: dict[str, Any]


def _require_same(folder: Path, request: dict[str, Any]) -> None:
    advice = f"delete {folder} and give its --shard again"
    found = read_json(folder / _DONE, "the mark of a finished shard", _Done, advice)
    require_same_settings(
        folder, found["request"], request, "a shard of a preparation",
        "give the same settings, or delete it and prepare that shard again",
    )  # fmt: skip
