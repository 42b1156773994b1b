"""Run the whole method at small size, with a report.

    neuroadapter demo --quick
    neuroadapter demo --out runs/demo

First pictures come within three minutes on two CPU cores: reconstructions of a few shipped
responses by the shipped adapter, and which region drove them. --quick ends there. Then it simulates
a subject, prepares, trains, reconstructs, scores and interprets, in about half an hour. Each stage
is one command, printed before it runs; what is done is not done again.
"""

from pathlib import Path

from neuroadapter_jax.commands.shared_flags import CommandFlags, define_shared
from neuroadapter_jax.commands.stages import run_stage


def define(values: CommandFlags) -> None:
    define_shared(
        values, "out", "quick",
        defaults={"out": "runs/demo"},
        helps={
            "out": "Folder for everything but the simulated subject.",
            "quick": "The first pictures alone.",
        },
    )  # fmt: skip


def main(values: CommandFlags, arguments: list[str]) -> None:
    from neuroadapter_jax.studies.demo import check_demo, demo_summary, run_demo, run_quick_demo

    out = Path(values.out)
    if not values.quick:
        check_demo(out)
    picture, page = run_quick_demo(out, run_stage)
    print(f"\nFirst pictures:  {picture}")
    print(f"Which region:    {page}\n", flush=True)
    if values.quick:
        return
    print(demo_summary(run_demo(out, run_stage)))
    print(f"\nReport:          {out / 'report.html'}")
    print(f"Which region:    {out / 'interpretation' / 'report.html'}")
    print(f"Reconstructions: {out / 'reconstructions.png'}")
    print(f"Scores:          {out / 'results.json'}")
