"""Long studies go on where they were killed: stored results, commands that run once."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from typing_extensions import TypedDict

from neuroadapter_jax.evaluation.old_names import with_new_names
from neuroadapter_jax.files import json_values, write_json
from neuroadapter_jax.readers import read_json


class _Result(TypedDict):
    settings: Any
    result: Any


def cached(path: str | Path, settings: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
    """What an earlier run computed with the same settings, or else what `compute` returns.

    Numbers come back as JSON holds them. A file of other settings is written again.

    Args:
        path: the JSON file of the result and its settings.
        settings: everything that the result depends on.
        compute: returns the result, made of JSON values.
    """
    path, wanted = Path(path), json_values(settings)
    if path.is_file():
        found = read_json(path, "a stored result", _Result, f"delete {path}")
        if found["settings"] == wanted:
            return with_new_names(found["result"])
    result = json_values(compute())
    write_json(path, {"settings": wanted, "result": result})
    return result


@runtime_checkable
class RunStage(Protocol):
    """Runs a command of the program once; `commands.stages.run_stage` is one."""

    def __call__(
        self,
        record: Path,
        made: Path,
        command: str,
        *arguments: str,
        must_have_ended: bool = False,
    ) -> None:
        """Runs `neuroadapter COMMAND ARGUMENTS` unless an earlier call has done so.

        Args:
            record: JSON file of the seconds of every command that has ended.
            made: the file that the command makes; where it is there, the command has run.
            command: name of the command, such as "train".
            arguments: of the command.
            must_have_ended: do not trust `made` alone, since the command writes it before its end.

        Raises:
            InputError: the command fails.
        """
