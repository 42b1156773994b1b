"""Which flags go together, and whether the paths that they name are there.

A command says so where it defines its flags. It is checked before the command's work begins, so
before JAX or any model is loaded.
"""

import os
from pathlib import Path

import neuroadapter_jax
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.errors import ExistingFileError, InputError, MissingFileError
from neuroadapter_jax.files import require_folder_place, require_writable_place
from neuroadapter_jax.hub.snapshots import is_hub_id

# Flag -> files that its folder holds, and what makes such a folder.
_FOLDERS = {
    "model": (("config.json",), "`neuroadapter export`"),
    "run": (("config.json",), "`neuroadapter train`"),
    "encoder": (("config.json", "validation.npz"), "`neuroadapter train-encoder`"),
    "prepared": (("index.npz",), "`neuroadapter prepare`"),
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


def needs_choice(values: CommandFlags, name: str, of: str, *choices: str) -> None:
    """Refuse a flag that has no effect unless a flag of several choices names one of some.

    Args:
        values: the command's flags.
        name: of the flag.
        of: the flag of several choices.
        choices: that make use of `name`.
    """

    def rule() -> None:
        if is_given(values, name) and not set(choices) & set(values[of].value or ()):
            raise InputError(
                f"--{name} has no effect without {' or '.join(choices)} among --{of}; leave it out "
                "or add the method."
            )

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


def pair(values: CommandFlags, name: str) -> None:
    """Refuse a list that is given and has not two entries, of the left and right hemisphere."""

    def rule() -> None:
        if values[name].present and len(values[name].value or ()) != 2:
            given = ",".join(values[name].value or ())
            raise InputError(
                f"--{name} is {given or 'empty'}; expected two files, LEFT,RIGHT, of the left and "
                "of the right hemisphere."
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
        if not value and values[name].default != value:
            raise InputError(f"--{name} is empty; give a name, or leave the flag out.")
        if name in _FOLDERS:
            require_folder(f"--{name}", name, Path(value))
        elif name == "root" and not Path(value).is_dir():
            raise MissingFileError(f"--root is {value}, which is no folder; check the path.")
        elif name in ("out", "workdir", "derivatives"):
            _require_own_place(values, name)
            require_writable(f"--{name}", Path(value), is_file=name in values.written_files)


def require_folder(name: str, kind: str, path: Path) -> None:
    """Refuse a folder that is not of the kind that is expected.

    Args:
        name: of the flag or the key, as it was typed.
        kind: model, run, encoder or prepared.
        path: the folder, or the name of one that is shipped; of a model or an encoder also the name
            of one of the Hub.

    Raises:
        MissingFileError: a file of such a folder is not there.
    """
    files, maker = _FOLDERS[kind]
    if kind in ("model", "encoder") and is_hub_id(path):
        return
    may_be_shipped = kind != "run" and not path.exists() and len(path.parts) == 1
    if kind in ("encoder", "prepared"):
        may_be_shipped &= (Path(neuroadapter_jax.__file__).parent / "assets" / path).is_dir()
    lacking = [file for file in files if not (path / file).is_file()]
    if lacking and not may_be_shipped:
        model = path / "model"
        below = kind == "encoder" and all((model / file).is_file() for file in files)
        hint = f"; name {model}" if below else ""
        raise MissingFileError(
            f"{name} is {path}, in which there is no {lacking[0]}; expected a folder of "
            f"{maker}{hint}."
        )


def _require_own_place(values: CommandFlags, name: str) -> None:
    """Refuse to write into what the command reads."""
    place = values[name].value
    for other in (*_FOLDERS, "root", *(("out",) if name == "derivatives" else ())):
        read = values[other].value if other in values else None
        if isinstance(read, str) and os.path.realpath(read) == os.path.realpath(str(place)):
            how = "written" if other == "out" else "read"
            raise ExistingFileError(
                f"--{name} is {place}, which is {how} as --{other}; name another folder."
            )


def require_writable(name: str, path: Path, *, is_file: bool = False) -> None:
    """Refuse a place where nothing can be written; writes nothing.

    Args:
        name: of the flag or the key, as it was typed.
        path: the place.
        is_file: whether a file is to be written, not a folder.

    Raises:
        ExistingFileError: something is in the way.
        InputError: this user may not write there.
    """
    if not is_file and (path / "provenance.json").is_file():
        raise ExistingFileError(
            f"{name} is {path}, which holds records of `neuroadapter prepare`; name another folder."
        )
    if not is_file:
        require_folder_place(name, path)
    elif path.is_dir():
        raise ExistingFileError(f"{name} is {path}, which is a folder; name a file.")
    else:
        require_writable_place(name, path)


def _any_of(names: tuple[str, ...]) -> str:
    return " or ".join(f"--{name}" for name in names)
