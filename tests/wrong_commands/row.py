"""A wrong command, and how its end is judged."""

import contextlib
import io
import os
import re
import shlex
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wrong_commands.world import World, files_of

from neuroadapter_jax.commands import program

Step = Callable[[Path, Mapping[str, str]], None]
GOOD, WEAK, TRACEBACK, ACCEPTED, DESTROYED = "good", "weak", "traceback", "accepted", "destroyed"
VERDICTS = (GOOD, WEAK, TRACEBACK, ACCEPTED, DESTROYED)
# A sentence tells what to do, or what would have been right.
REMEDY = re.compile(
    r"\b(expected|give|choose|delete|copy|again|name|names|fetch|pull|use|set|takes?|needs?|"
    r"needed|must|did you mean|only|from|between|at (least|most)|one of|add|leave|pass|install|"
    r"should|has to|have to|is not there|does not exist|instead|another|other|lists|"
    r"the \w+ (are|has))\b|--",
    re.IGNORECASE,
)
# It ends as a sentence does, or with the command that is to be given.
WHOLE = re.compile(r"([.)?]|: neuroadapter .*)$")
# A bar of progress, of work before the fault was found.
BAR = re.compile(r"^.*\d%\|.*$", re.MULTILINE)
# What the operating system or a library says by itself.
RAW = re.compile(r"\[Errno|Traceback|Error:|Exception|<class|object at 0x")
# Seconds of computing and of waiting: a command that is refused is refused sooner, one that is not
# would work for minutes.
COMPUTING, WAITING = 10, 60


class StillWorking(BaseException):
    """The command was not refused: it works."""


@dataclass(frozen=True)
class Row:
    """One wrong command.

    Attributes:
        kind: number of the kind of mistake, see `KINDS`.
        command: as it is typed after `neuroadapter`, with words in braces of `World`, {tmp} for the
            row's own folder and {out} for a folder below it that is not there.
        mentions: what the sentence has to say; "a|b" is either.
        steps: make or damage files below {tmp} first.
        environment: of the process.
        leaves: folder of unfinished work that may be left where the fault shows only in what was
            computed; the same command goes on there once the fault is accepted. "" for none.
    """

    kind: int
    command: str
    mentions: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    leaves: str = ""

    @property
    def name(self) -> str:
        """Of the command."""
        return self.command.split()[0].replace("_", "-")


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: why it is not good.
        sentence: what it wrote on stderr.
        seconds: that it took.
    """

    verdict: str
    reason: str
    sentence: str
    seconds: float


def judge(row: Row, world: World, tmp: Path) -> Outcome:
    """Run a row in this process, in its own folder."""
    words = {**world.words, "tmp": str(tmp), "out": str(tmp / "out")}
    for step in row.steps:
        step(tmp, words)
    arguments = [part.format(**words) for part in shlex.split(row.command)]
    before = files_of(tmp) | files_of(world.folder)
    start = time.monotonic()
    with _as_a_process(tmp, row.environment), _captured() as said:
        code, error = _end_of(arguments)
    seconds = time.monotonic() - start
    after = files_of(tmp) | files_of(world.folder)
    sentence = re.sub(r"\n\s*\n", "\n", BAR.sub("", said.getvalue())).strip()
    if isinstance(code, str):  # the interpreter writes it
        sentence, code = "\n".join(filter(None, [sentence, code])), 1
    # source_files.json notes which files need not be read again: whoever finds it may write it.
    changed = sorted(
        path
        for path in before
        if after.get(path) != before[path] and Path(path).name != "source_files.json"
    )
    verdict, reason = _verdict(row, words, code, error, sentence)
    if changed:
        verdict, reason = DESTROYED, f"{verdict}; changed {changed[:3]}; {reason}"
    elif verdict == GOOD and (new := _written(before, after, row.leaves.format(**words))):
        verdict, reason = WEAK, f"wrote {new[:3]} before it refused"
    return Outcome(verdict, reason, sentence, seconds)


def _written(before, after, unfinished: str) -> list[str]:
    new = sorted(after.keys() - before.keys())
    return [path for path in new if not unfinished or not path.startswith(f"{unfinished}/")]


def _verdict(row, words, code, error, sentence) -> tuple[str, str]:
    if isinstance(error, StillWorking):
        return ACCEPTED, "still working"
    if error is not None:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return TRACEBACK, f"{type(error).__name__}: {str(error)[:300]} ({place})"
    if not code:
        return ACCEPTED, "ended with 0"
    if not sentence:
        return WEAK, "said nothing"
    if "\n" in sentence:
        return WEAK, "more than one line"
    if not WHOLE.search(sentence):
        return WEAK, "no whole sentence"
    if found := RAW.search(sentence):
        return WEAK, f"not in words: {found[0]}"
    lacking = [each for each in row.mentions if not _says(sentence, each.format(**words))]
    if lacking:
        return WEAK, f"does not say {lacking}"
    if not REMEDY.search(sentence):
        return WEAK, "does not say what to do"
    return GOOD, ""


def _says(sentence: str, alternatives: str) -> bool:
    return any(each.lower() in sentence.lower() for each in alternatives.split("|"))


def _end_of(arguments: list[str]) -> tuple[object, BaseException | None]:
    """The exit code, and what was raised beside it."""
    try:
        program.main(arguments)
    except SystemExit as end:
        return end.code, None
    except (Exception, StillWorking) as error:
        return 1, error
    return 0, None


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        yield said


@contextlib.contextmanager
def _as_a_process(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """In a folder, for a limited time; signals and environment as they were afterwards."""

    def stop(number, frame):
        # A module that is imported by half cannot be imported again.
        while frame is not None and "<frozen importlib" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is None:
            raise StillWorking

    kept, here = dict(os.environ), Path.cwd()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    os.environ.update(environment)
    os.chdir(folder)
    clocks = {
        signal.SIGPROF: (signal.ITIMER_PROF, COMPUTING),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITING),
    }
    for each, (clock, patience) in clocks.items():
        handlers[each] = signal.signal(each, stop)
        # Again and again, because a callback of a library may swallow it.
        signal.setitimer(clock, patience, 0.5)
    try:
        yield
    finally:
        for clock, _ in clocks.values():
            signal.setitimer(clock, 0)
        for each, handler in handlers.items():
            signal.signal(each, handler)
        os.chdir(here)
        os.environ.clear()
        os.environ.update(kept)


def row(
    kind: int,
    command: str,
    *mentions: str,
    steps: Sequence[Step] = (),
    environment: Mapping[str, str] | None = None,
    leaves: str = "",
) -> Row:
    """A row; see `Row`."""
    return Row(kind, command, mentions, tuple(steps), environment or {}, leaves)
