"""config.json of a work folder: what defines its run, and whether a call goes on with it."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.files import (
    INPUTS,
    RECORDED,
    refuse_foreign,
    require_same_settings,
    write_json,
)
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.training.metrics_log import read_metrics

_FILE, _METRICS = "config.json", "metrics.jsonl"


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What defines a run, as its work folder keeps it.

    Attributes:
        values: JSON values; a folder is another run's if its own differ.
        defaults: of keys that a config.json written by an older version may lack.
        upgrade: turns the values of an older version into this version's, before the comparison.
        inputs: fingerprints of what the run reads; see `require_same_settings`.
        recorded: what is written beside them and not compared.
    """

    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    upgrade: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    recorded: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def require_same(
        self,
        workdir: str | Path,
        remedy: str = "choose another work folder, or the same settings to go on",
    ) -> None:
        """Refuse the work folder of another run; writes nothing.

        Args:
            workdir: the folder.
            remedy: what to do, for the message.

        Raises:
            InputError: the folder's config.json differs, with both values of every key that does,
                or what the run reads is no longer what it was; or it holds checkpoints without a
                config.json.
        """
        workdir = Path(workdir)
        path = workdir / _FILE
        if path.exists():
            there = {**self.defaults, **self.upgrade(read_json(path, "the settings of a run"))}
            there.pop(RECORDED, None)
            here = {**self.values, INPUTS: self.inputs}
            # A call that ended before its first result leaves nothing that another could spoil,
            # unless it is someone else's file.
            if has_begun(workdir) or there.keys() - here.keys():
                require_same_settings(path, there, here, "a run", remedy)
        elif has_begun(workdir):
            raise InputError(
                f"{workdir} holds checkpoints but no {_FILE}, so they may belong to another run; "
                "choose another work folder."
            )

    def write(self, workdir: str | Path) -> None:
        """Write config.json, unless the folder has that of a run that has begun."""
        path = Path(workdir) / _FILE
        if not path.exists() or not has_begun(workdir):
            more = {INPUTS: dict(self.inputs), RECORDED: dict(self.recorded)}
            more = {key: value for key, value in more.items() if value}
            write_json(path, dict(sorted(self.values.items())) | more)


def has_begun(workdir: str | Path) -> bool:
    """Whether a folder holds what a run can go on from: a checkpoint, or lines of metrics.jsonl."""
    metrics = Path(workdir) / _METRICS
    return (metrics.is_file() and metrics.stat().st_size > 0) or _has_checkpoint(workdir)


def _has_checkpoint(workdir: str | Path) -> bool:
    checkpoints = Path(workdir) / "checkpoints"
    steps = [*checkpoints.glob("*"), *checkpoints.glob("best/*")]
    return any(step.name.isdigit() for step in steps)


def keeps_inputs(workdir: str | Path) -> bool:
    """Whether a folder's config.json is of a version that keeps fingerprints, and regions.npz."""
    return INPUTS in read_json(Path(workdir) / _FILE, "the settings of a run")


def require_checkpoints(workdir: str | Path, checkpoint_every: int) -> None:
    """Refuse a folder that has lost its checkpoints; from the start, its numbers would be lost too.

    A run that was killed before its first checkpoint has none, either; but that is complete before
    the first evaluation's line, and before the second checkpoint is begun.

    Args:
        workdir: the folder.
        checkpoint_every: steps between checkpoints.

    Raises:
        MissingFileError: metrics.jsonl goes beyond the first checkpoint, and there is none.
    """
    path = Path(workdir) / _METRICS
    if _has_checkpoint(workdir):
        return
    for line in reversed(read_metrics(path)):
        if line["kind"] == "evaluation" or line["step"] > 2 * checkpoint_every:
            raise MissingFileError(
                f"{workdir} holds no checkpoint, though {path.name} goes on to step "
                f"{line['step']}; expected one, so copy the folder again, or choose another work "
                "folder to start again."
            )


def claim_export(export: str | Path, workdir: str | Path, names: Iterable[str]) -> None:
    """Note in a work folder which folder its run exports to.

    Args:
        export: the folder to come.
        workdir: of the run.
        names: of what will be written there.

    Raises:
        ExistingFileError: the folder holds one of them, and not from this run.
        InputError: both folders are the same.
    """
    if Path(export).resolve() == Path(workdir).resolve():
        raise InputError(
            f"export and workdir are both {export}, where they would replace each other's files; "
            "name another folder for one of them."
        )
    note = Path(workdir) / "export.json"
    place = {"export": str(Path(export).resolve())}
    ours = note.is_file() and read_json(note, "the place of a run's export") == place
    refuse_foreign(export, names, ours=ours)
    write_json(note, place)
