"""The flag --config: a file of the user's, or a config that the package carries, by its name.

--config.KEY=None switches any number, name or list off; whether it may be is the setting's affair.
"""

import difflib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

import neuroadapter_jax
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.errors import InputError, MissingFileError

HELP = (
    "A config of the package (demo, nsd, nsd:simulated, ...) or your own file, with :VARIANT "
    "after it where it has variants. --config.KEY=VALUE overrides a key."
)


def configs_folder() -> Path:
    """The configs that the package carries: in a wheel inside it, in a checkout beside it."""
    package = Path(neuroadapter_jax.__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """The names of the configs that the package carries."""
    return sorted(path.stem for path in configs_folder().glob("*.py") if path.stem != "__init__")


def find_config(name: str) -> Path:
    """The file that a name stands for, without its variant.

    A file of this name goes first; then the package's, also as `configs/demo.py`, so that what the
    documents say works in every folder.

    Raises:
        MissingFileError: neither is there.
        InputError: a file of another suffix than .py.
    """
    path = Path(name)
    if path.is_file() and path.suffix == ".py":
        return path
    if path.parent in (Path(), Path("configs")) and path.suffix in ("", ".py"):
        carried = configs_folder() / f"{path.stem}.py"
        if carried.is_file():
            return carried
    if path.is_file():
        raise InputError(
            f"the config file {name} ends in {path.suffix!r}; expected a Python file with "
            "get_config(), whose name ends in .py, since it is run."
        )
    near = difflib.get_close_matches(path.stem, config_names(), n=1)
    hint = f"did you mean {near[0]}?" if near else f"the package has {', '.join(config_names())}."
    raise MissingFileError(f"the config file {name} is not there; {hint}")


def load_config(argument: str) -> ConfigDict:
    """The locked config of NAME or NAME:VARIANT.

    Raises:
        MissingFileError: see `find_config`.
        InputError: a variant that the config does not have.
    """
    name, *variant = argument.split(":", 1)
    path = find_config(name)
    get_config = getattr(_load_module(path), "get_config", None)
    if get_config is None:
        raise InputError(
            f"{path} has no function get_config(); expected one that returns a ConfigDict, as in "
            "the shipped configs."
        )
    if variant and not inspect.signature(get_config).parameters:
        raise InputError(f"{path.name} has no variants, but :{variant[0]} was given.")
    try:
        config = get_config(*variant)
    except TypeError as error:  # absl would hide where in the file it is
        raise RuntimeError(f"{path}: get_config failed.") from error
    _allow_none(config)
    return config.lock()


class _OrNone(flags.ArgumentParser):
    """What another parser takes, or None."""

    def __init__(self, parser: flags.ArgumentParser, expected: str):
        self._parser, self._expected = parser, expected

    def parse(self, argument: Any) -> Any:
        if argument in (None, "None"):
            return None
        try:
            return self._parser.parse(argument)
        except (TypeError, ValueError):
            raise ValueError(f"expected {self._expected}, or None") from None

    def flag_type(self) -> str:
        return self._parser.flag_type()


for _kind, _parser, _expected in (
    (int, flags.IntegerParser(), "a whole number"),
    (float, flags.FloatParser(), "a number"),
    (str, flags.ArgumentParser(), "text"),
):
    config_flags.register_flag_parser_for_type(_kind, _OrNone(_parser, _expected))


def _allow_none(config: ConfigDict) -> None:
    """Make references of all numbers and texts, which keep their type and may be None."""
    with config.ignore_type():
        for key, value in config.items(preserve_field_references=True):
            if isinstance(value, ConfigDict):
                _allow_none(value)
            elif type(value) in (int, float, str):
                config[key] = FieldReference(value)


class _ConfigParser(flags.ArgumentParser):
    """Loads the config that the flag names, and keeps it for `unknown_key`."""

    loaded: ConfigDict | None = None

    def parse(self, argument: str) -> ConfigDict:
        self.loaded = load_config(argument)
        return self.loaded

    def flag_type(self) -> str:
        return "config"


def define_config(values: CommandFlags) -> None:
    """Define the required flag --config, whose keys --config.key=value overrides."""
    config_flags.DEFINE_config_file(
        "config", None, HELP, flag_values=values, lock_config=True, sys_argv=values.arguments
    )
    parser = _ConfigParser()
    parser.loaded = None  # absl makes one parser of a class and its arguments, and keeps it
    values["config"].parser = parser
    values.require("config")


def unknown_key(values: CommandFlags) -> str | None:
    """One sentence about the first --config.KEY that the config does not have; None without one."""
    parser = values["config"].parser if "config" in values else None
    config = parser.loaded if isinstance(parser, _ConfigParser) else None
    if config is None:
        return None
    typed = [each.lstrip("-").partition("=")[0] for each in values.arguments if each[:1] == "-"]
    keys = [each for each in typed if each.startswith("config.")]
    return next(filter(None, (_unknown(config, key) for key in keys)), None)


def _unknown(config: ConfigDict, typed: str) -> str | None:
    """What is wrong with config.SECTION.KEY; None where the config has it."""
    place, section = "config", config
    for part in typed.split(".")[1:]:
        name, *indices = part.split("[")
        if not isinstance(section, ConfigDict):
            return f"{typed} is no key of the config file; {place} has none below it, so give that."
        if name not in section:
            return f"{typed} is no key of the config file; {_meant(config, place, name, typed)}"
        place, section = f"{place}.{name}", section[name]
        for index in indices:
            number, length = index.rstrip("]"), len(section) if hasattr(section, "__len__") else 0
            if not number.isdecimal() or int(number) >= length:
                return (
                    f"{typed} is no key of the config file; {place} holds {length} values, so give "
                    "one of them, counted from 0."
                )
            section = section[int(number)]
    return None


def _meant(config: ConfigDict, place: str, name: str, typed: str) -> str:
    """The nearest key, or those that there are."""
    section = config
    for part in place.split(".")[1:]:
        section = section[part]
    near = [key for key in section if "".join(word[:1] for word in key.split("_")) == name]  # lr
    if near := near or difflib.get_close_matches(name, section, n=1):
        rest = typed.removeprefix(f"{place}.{name}")
        return f"did you mean --{place}.{near[0]}{rest}?"
    last = typed.rsplit(".", 1)[1]
    elsewhere = [f"config.{last}"] if last in config else []
    elsewhere += [
        f"config.{key}.{last}"
        for key, value in config.items()
        if isinstance(value, ConfigDict) and last in value
    ]
    if elsewhere:
        return f"did you mean --{elsewhere[0]}?"
    return f"give one that is there: {place} has {', '.join(sorted(section))}."


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("neuroadapter_config", path)
    assert spec is not None and spec.loader is not None  # the file is there and ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
