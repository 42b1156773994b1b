"""Run the whole method at small size, with a report.

    neuroadapter demo
    neuroadapter demo --out runs/demo

Simulate, prepare, train, reconstruct, score, interpret. About 20 minutes on two CPU cores. Each
stage is one command, printed before it runs; what is done is not done again.
"""

from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage


def define(values: CommandFlags) -> None:
    define_shared(
        values, "out",
        defaults={"out": "runs/demo"},
        helps={"out": "Folder for everything but the simulated subject."},
    )  # fmt: skip


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.studies.demo import demo_summary, run_demo

    out = Path(values.out)
    print(demo_summary(run_demo(out, run_stage)))
    print(f"\nReport:          {out / 'report.html'}")
    print(f"Which region:    {out / 'interpretation' / 'report.html'}")
    print(f"Reconstructions: {out / 'reconstructions.png'}")
    print(f"Scores:          {out / 'results.json'}")
