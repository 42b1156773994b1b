"""How a command runs: its flags, its help, and one sentence for what the user can mend."""

import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType

from absl import flags, logging

from neuroadapter_jax.commands.configs import unknown_key
from neuroadapter_jax.commands.errors import exit_code_of, sentence_of
from neuroadapter_jax.commands.given import check_given
from neuroadapter_jax.commands.help_text import command_help
from neuroadapter_jax.commands.machine import use_compilation_cache
from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.interrupts import of_program

# Names the file for the sentence of a command that another one runs.
SENTENCE = "NEUROADAPTER_SENTENCE"
HELP = {"-h", "-?", "-help", "--help", "--helpshort", "--helpfull"}


def run(name: str, module: ModuleType, arguments: list[str]) -> None:
    """Parse the flags, do the work, end with a sentence where something is wrong.

    Args:
        name: of the command, as its messages begin.
        module: of `commands`, with `define` and `main`.
        arguments: what follows the command's name.

    Raises:
        SystemExit: with 1 where a flag, a file or a setting is wrong or a disk is full; with 128 +
            the signal where one ended the work, 141 where nobody reads the output any more; or
            with the exit code that the work itself asks for.
    """
    traceback = False
    try:
        with of_program():
            if HELP.intersection(arguments):
                print(command_help(name, module, define_flags(module, arguments)))
            else:
                values, rest = parse(name, module, arguments)
                traceback = values.traceback
                _quiet_libraries(values.verbosity)
                if not getattr(module, "COMPILES_EACH_TIME", False):
                    use_compilation_cache()
                check_given(values)
                module.main(values, rest)
            sys.stdout.flush()
    except BrokenPipeError:  # whatever reads the output has read enough, such as `| head`
        _drop_output()
        sys.exit(128 + signal.SIGPIPE)
    except (Exception, KeyboardInterrupt) as error:
        sentence = sentence_of(error)
        if sentence is None or traceback:
            raise
        _drop_output_if_it_fails()
        note = None if isinstance(error, KeyboardInterrupt) else os.environ.get(SENTENCE)
        if note is not None and Path(note).parent.is_dir():  # the command that runs this one tells
            Path(note).write_text(sentence, encoding="utf-8")
        else:
            print(f"{name}: {sentence}", file=sys.stderr)
        sys.exit(exit_code_of(error))


def _drop_output_if_it_fails() -> None:
    """What a full disk did not take would be tried, and fail, once more at the program's end."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(null, stream.fileno())


def define_flags(module: ModuleType, arguments: list[str]) -> CommandFlags:
    """The command's own set of flags."""
    values = CommandFlags(arguments)
    module.define(values)
    define_shared(values, "traceback", "verbosity")
    return values


def parse(name: str, module: ModuleType, arguments: list[str]) -> tuple[CommandFlags, list[str]]:
    """The flags' values, and the arguments that are not flags.

    --num-steps may be written for --num_steps.

    Raises:
        SystemExit: a wrong flag, a wrong key of a config, or arguments that no flag takes.
    """
    arguments = [_with_underscores(argument) for argument in arguments]
    values = define_flags(module, arguments)
    try:
        rest = values(["neuroadapter", *arguments])[1:]
        if rest and not getattr(module, "ARGUMENTS", ""):
            raise flags.Error(f"found {rest[0]!r}, which belongs to no flag; expected flags alone")
    except flags.Error as error:
        sys.exit(f"{name}: {_flag_sentence(error)} (neuroadapter {name} --help lists the flags)")
    except InputError as error:
        sys.exit(f"{name}: {error}")
    except (AttributeError, KeyError, IndexError):
        if (sentence := unknown_key(values)) is None:  # what the config file itself raised
            raise
        sys.exit(f"{name}: {sentence}")
    return values, rest


def _with_underscores(argument: str) -> str:
    if not argument.startswith("--") or argument.startswith("--config."):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def _flag_sentence(error: Exception) -> str:
    """What absl says, without what only a programmer understands."""
    missing = re.findall(r"Flag --(\w+) must have a value other than None", str(error))
    if missing:
        return "give " + " and ".join(f"--{flag}" for flag in missing)
    return str(error)


def _quiet_libraries(verbosity: int) -> None:
    """Ask libraries that log every object they make for warnings only, unless told otherwise."""
    flags.FLAGS.mark_as_parsed()
    logging.use_absl_handler()
    logging.set_verbosity(verbosity)
