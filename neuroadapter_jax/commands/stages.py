"""Commands that consist of other commands: each stage is one, printed before it runs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import neuroadapter_jax
from neuroadapter_jax.commands.runner import SENTENCE
from neuroadapter_jax.errors import InputError

# -P: the folder that the user is in holds no module of ours.
PROGRAM = (sys.executable, "-P", "-m", "neuroadapter_jax")


def run_stage(
    record: Path,
    made: Path,
    command: str,
    *arguments: str,
    must_have_ended: bool = False,
) -> None:
    """Run `neuroadapter COMMAND ...` unless what it makes is there.

    Args:
        record: JSON file of the seconds that each stage took, by its command line.
        made: file or folder that the stage makes.
        command: name of the command.
        arguments: of the command.
        must_have_ended: also run it where `made` is there but the record does not tell that the
            stage came to its end.

    Raises:
        InputError: the stage failed; the command line, and its sentence or its exit code.
    """
    line = " ".join(["neuroadapter", command, *arguments])
    as_in_0_1_0 = " ".join(["python", f"launch/{command.replace('-', '_')}.py", *arguments])
    from neuroadapter_jax.readers import read_json

    seconds = {}
    if record.exists():
        seconds = read_json(record, "seconds of each command", dict[str, float], f"delete {record}")
    if made.exists() and (not must_have_ended or {line, as_in_0_1_0} & seconds.keys()):
        print(f"[done] {line}", flush=True)
        return
    print(f"[run]  {line}", flush=True)
    start = time.monotonic()
    code, sentence = _run([*PROGRAM, command, *arguments])
    if code and sentence:
        raise InputError(f"`{line}` failed: {sentence}")
    if code:
        raise InputError(f"`{line}` ended with exit code {code}; the same command goes on there.")
    _write_seconds(record, seconds | {line: round(time.monotonic() - start)})


def _run(command: list[str]) -> tuple[int, str]:
    """The exit code of a command, and the sentence that tells why it failed, if it has one."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "sentence.txt"
        code = _exit_code(command, {**_environment(), SENTENCE: str(note)})
        return code, note.read_text(encoding="utf-8") if note.is_file() else ""


def _exit_code(command: list[str], environment: dict[str, str]) -> int:
    """Runs a command; a signal to this process goes on to it, and its end is waited for."""
    # A group of its own: Ctrl-C, which a terminal sends to the whole group, is to reach it once.
    process = subprocess.Popen(command, env=environment, process_group=0)
    try:
        return process.wait()
    except KeyboardInterrupt as error:
        process.send_signal(getattr(error, "number", signal.SIGINT))
        process.wait()
        raise
    except BaseException:
        process.kill()
        process.wait()
        raise


def _write_seconds(record: Path, seconds: dict[str, int]) -> None:
    from neuroadapter_jax.files import write_json

    write_json(record, seconds)


def _environment() -> dict[str, str]:
    """The environment of this process, with the path of a checkout that is not installed."""
    environment = dict(os.environ)
    root = Path(neuroadapter_jax.__file__).resolve().parents[1]
    if (root / "setup.py").exists():
        known = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([str(root), *([known] if known else [])])
    return environment
