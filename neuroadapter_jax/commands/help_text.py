"""The help of a command: what it does, examples, then its flags, those that it requires first."""

import inspect
import re
import shutil
import textwrap
from types import ModuleType

from absl import flags

from neuroadapter_jax.commands.shared_flags import GENERAL, SAMPLING, SHARED, CommandFlags


def command_help(name: str, module: ModuleType, values: CommandFlags) -> str:
    """What `neuroadapter NAME --help` prints."""
    positional = getattr(module, "ARGUMENTS", "")
    usage = " ".join(filter(None, ["neuroadapter", name, positional, "[flags]"]))
    groups: dict[str, list[str]] = {
        "Required": [],
        "Flags of this command": [],
        "Sampling": [],
        "Flags that several commands share": [],
        "For all commands": [],
    }
    for flag in values:
        kind = (
            "Required" if flag in values.required
            else "For all commands" if flag in GENERAL
            else "Sampling" if flag in SAMPLING
            else "Flags that several commands share" if flag in SHARED or flag == "config"
            else "Flags of this command"
        )  # fmt: skip
        groups[kind].append(_describe(values[flag]))
    parts = [usage, inspect.cleandoc(module.__doc__ or "")]
    for heading, flag_lines in groups.items():
        if flag_lines:
            parts.append("\n".join([f"{heading}:", *flag_lines]))
    return "\n\n".join(parts)


def _describe(flag: flags.Flag) -> str:
    """A flag, its help and its default, wrapped for the terminal."""
    width = min(max(shutil.get_terminal_size().columns, 60), 100)
    choices = flag.parser.enum_values if isinstance(flag.parser, flags.EnumParser) else []
    if isinstance(flag, flags.BooleanFlag):
        usage = f"--[no]{flag.name}"
    elif flag.name == "config":
        usage = "--config=NAME|FILE"
    elif choices:
        usage = f"--{flag.name}={'|'.join(choices) if len(choices) < 6 else 'NAME'}"
    else:
        kind = {"int": "INTEGER", "float": "NUMBER"}.get(flag.flag_type(), "")
        list_of = isinstance(flag.parser, flags.ListParser)
        usage = f"--{flag.name}={kind or ('A,B,...' if list_of else 'TEXT')}"
    # absl puts the choices before the help of such a flag.
    text = re.sub(r"^<[^>]*>: ", "", (flag.help or "").partition(";\n")[0])
    if len(choices) >= 6:
        text += f" One or more of {', '.join(choices)}."
    elif flag.default is not None and flag.default not in ("", []):
        default = flag.default
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        if not isinstance(flag, flags.BooleanFlag):
            text += f" [{shown}]"
        elif default:
            text += " [on]"
    body = textwrap.fill(text, width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"  {usage}\n{body}"
