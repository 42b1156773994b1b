"""Prints how the wrong commands end: good, weak, traceback, accepted or destroyed.

    python tests/wrong_commands/report.py [--command NAME] [--kind NUMBER] [--out FILE]

A table by command and one by kind of mistake, then every command that is not good.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]
for name, value in {
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "MPLBACKEND": "Agg",
    "HF_HUB_OFFLINE": "1",
    # What is computed does not matter, and compiling takes most of the time.
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_COMPILATION_CACHE_DIR": str(TESTS.parent / ".cache" / "jax"),
}.items():
    os.environ.setdefault(name, value)

from wrong_commands.row import GOOD, VERDICTS, judge
from wrong_commands.tables import KINDS, ROWS
from wrong_commands.world import World


def table(title: str, counts: Iterable[tuple[str, Counter]]) -> str:
    """A Markdown table of the verdicts."""
    lines = [f"| {title} | all | {' | '.join(VERDICTS)} |", "| --- " * (2 + len(VERDICTS)) + "|"]
    for label, found in counts:
        numbers = [found.total(), *(found[verdict] for verdict in VERDICTS)]
        lines.append(f"| {label} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines)


def main() -> None:
    """Run the rows that the flags choose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", action="append")
    parser.add_argument("--kind", action="append", type=int)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    rows = [
        row
        for row in ROWS
        if (chosen.command is None or row.name in chosen.command)
        and (chosen.kind is None or row.kind in chosen.kind)
    ]
    by_command: dict[str, Counter] = {}
    by_kind: dict[int, Counter] = {}
    told = []
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place) / "valid").make()
        for number, row in enumerate(rows):
            own = Path(place) / f"row{number}"
            own.mkdir()
            outcome = judge(row, world, own)
            world.restore()
            by_command.setdefault(row.name, Counter())[outcome.verdict] += 1
            by_kind.setdefault(row.kind, Counter())[outcome.verdict] += 1
            found = {"kind": row.kind, "command": row.command, **vars(outcome)}
            if chosen.out is not None:
                with chosen.out.open("a") as file:
                    file.write(json.dumps(found) + "\n")
            if outcome.verdict != GOOD:
                told.append(found)
    total = sum(by_command.values(), Counter())
    print(table("command", [*by_command.items(), ("all", total)]), end="\n\n")
    print(table("kind", ((f"{k}: {KINDS[k]}", by_kind[k]) for k in sorted(by_kind))), end="\n\n")
    for each in told:
        print(f"[{each['verdict']}] ({each['kind']}) neuroadapter {each['command']}")
        print(f"    {each['reason']}\n    {each['sentence'][-500:]}")


if __name__ == "__main__":
    main()
