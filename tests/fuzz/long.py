"""The fuzz test of the readers for as long as wanted; it goes on where it was stopped.

    python tests/fuzz/long.py --cases 100000 --out FOLDER
    python tests/fuzz/long.py --case 4711 --out FOLDER      # that case again, alone

FOLDER/state.json holds how many cases are done, FOLDER/findings.jsonl a line per finding. A case is
made from its number alone. A child process reads the files, so that one which ends the process, or
asks for too much memory, is a finding and not the end.
"""

import argparse
import faulthandler
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
BLOCK = 2_000  # cases of one child process
MOST_MEMORY = 1 << 20  # KiB that one case may add to the process
DEAD = 240  # seconds after which a child that hangs in C ends itself


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000, help="how many in all")
    parser.add_argument("--out", type=Path, required=True, help="folder of state and findings")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then stop")
    parser.add_argument("--case", type=int, help="do this one again and tell its outcome")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.child or given.case is not None:
        work(given.out, *(given.child or (given.case, given.case + 1)))
    else:
        supervise(given.out, given.cases, time.monotonic() + 60 * given.minutes)


def supervise(out: Path, cases: int, end: float) -> None:
    state = out / "state.json"
    done = json.loads(state.read_text())["done"] if state.is_file() else 0
    while done < cases and time.monotonic() < end:
        stop = min(done + BLOCK, cases)
        with (out / "stderr.txt").open("w") as errors:
            command = [sys.executable, __file__, "--out", str(out), "--child", str(done), str(stop)]
            code = subprocess.run(command, stderr=errors).returncode
        if code:
            at = int((out / "current").read_text() or done)
            said = (out / "stderr.txt").read_text()[-2000:]
            write(out, {"case": at, "fault": f"the process ended with {code}", "said": said})
            stop = at + 1
        done = stop
        state.write_text(json.dumps({"done": done}))
        print(f"{done} of {cases} cases, {count(out)} findings", flush=True)


def work(out: Path, first: int, stop: int) -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=ResourceWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
    from outcome import Prepared
    from registry import READERS

    names = [reader for reader in READERS for _ in range(round(10 * reader.share))]
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, Prepared] = {}

        def prepared(reader) -> Prepared:
            if reader.name not in made:
                made[reader.name] = Prepared(reader, Path(folder) / str(len(made)))
            return made[reader.name]

        others = [
            (path.name, content)
            for reader in READERS
            if reader.share >= 1
            for path, content in zip(prepared(reader).files, prepared(reader).contents, strict=True)
            if len(content) < 1 << 16
        ]
        for number in range(first, stop):
            (out / "current").write_text(str(number))
            faulthandler.dump_traceback_later(DEAD, exit=True)
            choices = random.Random(number)
            case = prepared(choices.choice(names)).choose(choices.randint, others)
            before, start = memory(), time.monotonic()
            fault = case.run()
            if not fault and memory() - before > MOST_MEMORY:
                fault = f"took {(memory() - before) >> 10} MiB"
            seconds = round(time.monotonic() - start, 1)
            if fault:
                write(out, {"case": number, "what": str(case), "fault": fault, "s": seconds})
            if stop == first + 1:
                print(case, fault or "right values, or an InputError", sep="\n")
        faulthandler.cancel_dump_traceback_later()


def memory() -> int:
    """The most memory that the process has held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write(out: Path, finding: dict) -> None:
    with (out / "findings.jsonl").open("a") as file:
        file.write(json.dumps(finding) + "\n")


def count(out: Path) -> int:
    path = out / "findings.jsonl"
    return len(path.read_text().splitlines()) if path.is_file() else 0


if __name__ == "__main__":
    main()
