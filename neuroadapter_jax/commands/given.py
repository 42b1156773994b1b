"""Which flags go together, and whether the paths that they name are there.

A command says so where it defines its flags. It is checked before the command's work begins, so
before JAX or any model is loaded.
"""

from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.errors import ExistingFileError, InputError, MissingFileError
from neuroadapter_jax.files import require_folder_place, require_writable_place

# Flag -> a file that its folder holds, and what makes such a folder.
_FOLDERS = {
    "model": ("config.json", "`neuroadapter export`"),
    "run": ("config.json", "`neuroadapter train`"),
    "encoder": ("config.json", "`neuroadapter train-encoder`"),
    "prepared": ("index.npz", "`neuroadapter prepare`"),
}
# For `holds`: what knows the truth about a simulated subject.
SIMULATED = ("truth.npz", "a folder into which `neuroadapter prepare` simulated a subject")


def is_given(values: CommandFlags, name: str) -> bool:
    """Whether the command line gives a flag, and does not switch it off."""
    return values[name].present > 0 and values[name].value not in (None, False)


def needs(values: CommandFlags, name: str, *others: str) -> None:
    """Refuse a flag that has no effect without one of some others."""

    def rule() -> None:
        if is_given(values, name) and not any(is_given(values, other) for other in others):
            raise InputError(f"--{name} has no effect without {_any_of(others)}; give it as well.")

    values.rules.append(rule)


def excludes(values: CommandFlags, name: str, *others: str) -> None:
    """Refuse flags that have no effect beside some other one."""

    def rule() -> None:
        found = [other for other in others if is_given(values, other)]
        if is_given(values, name) and found:
            raise InputError(f"--{found[0]} has no effect beside --{name}; leave one of them out.")

    values.rules.append(rule)


def exactly_one(values: CommandFlags, *names: str) -> None:
    """Refuse a command line that does not give one of some flags, and that one alone."""

    def rule() -> None:
        if sum(values[name].value is not None for name in names) != 1:
            raise InputError(f"give either {_any_of(names)}.")

    values.rules.append(rule)


def holds(values: CommandFlags, name: str, file: str, what: str) -> None:
    """Refuse a folder that is given but does not hold a file.

    Args:
        values: the command's flags.
        name: of the flag.
        file: in the folder.
        what: the folder is expected to be, for the message.
    """

    def rule() -> None:
        path = values[name].value
        if path is not None and not (Path(path) / file).is_file():
            raise MissingFileError(
                f"--{name} is {path}, in which there is no {file}; expected {what}."
            )

    values.rules.append(rule)


def must_exist(values: CommandFlags, *names: str) -> None:
    """Refuse flags whose file or folder is not there."""

    def rule() -> None:
        for name in names:
            given = values[name].value or []
            for path in [given] if isinstance(given, str) else given:
                if not Path(path).exists():
                    raise MissingFileError(
                        f"--{name} is {path}, which is not there; check the path."
                    )

    values.rules.append(rule)


def check_given(values: CommandFlags) -> None:
    """Refuse flags that do not go together, and paths that are wrong.

    Raises:
        MissingFileError: a file or folder to read is not there.
        InputError: anything else.
    """
    for rule in values.rules:
        rule()
    for name in values:
        value = values[name].value
        if not isinstance(value, str):
            continue
        if name in _FOLDERS:
            _require_folder(name, Path(value))
        elif name == "root" and not Path(value).is_dir():
            raise MissingFileError(f"--root is {value}, which is no folder; check the path.")
        elif name in ("out", "workdir"):
            _require_writable(name, Path(value), is_file=name in values.written_files)


def _require_folder(name: str, path: Path) -> None:
    file, maker = _FOLDERS[name]
    may_be_shipped = name in ("model", "encoder") and not path.exists() and len(path.parts) == 1
    if not may_be_shipped and not (path / file).is_file():
        hint = f"; name {path / 'model'}" if name == "encoder" and _has_model(path, file) else ""
        raise MissingFileError(
            f"--{name} is {path}, in which there is no {file}; expected a folder of {maker}{hint}."
        )


def _has_model(path: Path, file: str) -> bool:
    """Whether it is the work folder of a training, with the model below it."""
    return (path / "model" / file).is_file()


def _require_writable(name: str, path: Path, is_file: bool) -> None:
    if not is_file and (path / "provenance.json").is_file():
        raise ExistingFileError(
            f"--{name} is {path}, which holds records of `neuroadapter prepare`; name another "
            "folder."
        )
    if not is_file:
        require_folder_place(f"--{name}", path)
    elif path.is_dir():
        raise ExistingFileError(f"--{name} is {path}, which is a folder; name a file.")
    else:
        require_writable_place(f"--{name}", path)


def _any_of(names: tuple[str, ...]) -> str:
    return " or ".join(f"--{name}" for name in names)
