"""The ledger from its cells to its page: what is missing is run, and what is there is told."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuroadapter_jax.locks import runs_alone
from neuroadapter_jax.studies.claims.attention import run_attention, run_silencing
from neuroadapter_jax.studies.claims.cells import (
    Cell,
    ClaimsPlan,
    Stored,
    all_cells,
    chosen_cells,
    data_fingerprints,
    read_cells,
    write_cell,
)
from neuroadapter_jax.studies.claims.decoding import (
    run_imagery,
    run_lost_regions,
    run_low_level,
    run_selection,
    run_unseen,
)
from neuroadapter_jax.studies.claims.images import TestImages
from neuroadapter_jax.studies.claims.models import Work, models_folder
from neuroadapter_jax.studies.claims.training import run_encoder, run_training

_EVALUATE: dict[str, Callable[..., dict[str, Any]]] = {
    "selection": run_selection,
    "lost_regions": run_lost_regions,
    "attention": run_attention,
    "silencing": run_silencing,
    "low_level": run_low_level,
    "unseen": run_unseen,
    "imagery": run_imagery,
}


@dataclass(frozen=True)
class Places:
    """Where the ledger reads and writes.

    Attributes:
        root: the simulated subject's folder, with truth.npz.
        results: the cells' files, which are kept with the project.
        out: networks and unfinished work.
        other_sets: "unseen" and "imagery" -> a function that gives the prepared records' folder.
    """

    root: Path
    results: Path
    out: Path
    other_sets: Mapping[str, Any]


def list_cells(plan: ClaimsPlan, found: Mapping[str, Stored]) -> str:
    """A line for every cell: done with its minutes, or missing."""
    lines = [
        f"{'done':>8}  {name}  ({found[name]['minutes']} minutes)"
        if name in found
        else f"{'missing':>8}  {name}"
        for name in all_cells(plan)
    ]
    return "\n".join([*lines, f"{len(found)} of {len(all_cells(plan))} cells are done."])


@runs_alone("out", "the claims")
def run_claims(
    plan: ClaimsPlan,
    places: Places,
    out: str | Path,
    names: Sequence[str] = (),
    max_minutes: float | None = None,
) -> dict[str, Stored]:
    """Runs the cells that are missing, one after the other; a killed call goes on.

    Args:
        plan: of the ledger.
        places: where it reads and writes.
        out: the same folder as `places.out`, which no other call may write to.
        names: the cells, rows or evaluations that are wanted; none for all.
        max_minutes: no cell is begun after so long; None for no limit.

    Returns:
        The cells that are there at the end.

    Raises:
        InputError: a file of the results is of other settings or other data, or a name is none.
    """
    wanted, begun = chosen_cells(plan, names), time.monotonic()
    inputs = data_fingerprints(plan)
    found = read_cells(places.results, plan, inputs)
    test = None
    for name, cell in missing_cells(plan, wanted, found, out).items():
        if max_minutes is not None and time.monotonic() - begun > 60 * max_minutes:
            print(f"[stop] {max_minutes} minutes are over; the same command goes on.", flush=True)
            break
        print(f"[run]  {name}", flush=True)
        start = time.process_time()
        test = test or TestImages.read(plan.prepared, "test", places.root, plan.num_images)
        result = _run(Work(plan, places.out, places.root, test), cell, places)
        minutes = (time.process_time() - start) / 60
        write_cell(places.results, cell, plan, inputs, result, minutes)
        shutil.rmtree(places.out / "work" / name, ignore_errors=True)
        print(f"[done] {name}: {minutes:.0f} minutes of one core", flush=True)
    return read_cells(places.results, plan, inputs)


def _run(work: Work, cell: Cell, places: Places) -> dict[str, Any]:
    if cell.kind == "encoder":
        return run_encoder(work, cell)
    if cell.kind == "train":
        return run_training(work, cell)
    if cell.kind in places.other_sets:
        return _EVALUATE[cell.kind](work, cell, places.other_sets[cell.kind]())
    return _EVALUATE[cell.kind](work, cell)


def missing_cells(
    plan: ClaimsPlan, wanted: Mapping[str, Cell], found: Mapping[str, Stored], out: str | Path
) -> dict[str, Cell]:
    """The wanted cells that are not done and, before them, those whose networks are not here.

    Args:
        plan: of the ledger.
        wanted: the cells that are asked for.
        found: those that are done, here or elsewhere.
        out: where the networks lie.
    """
    cells, order = all_cells(plan), {}

    def add(name: str) -> None:
        for need in cells[name].needs():
            if need not in order and not models_folder(out, need).is_dir():
                add(need)
        order[name] = cells[name]

    for name in wanted:
        if name not in found and name not in order:
            add(name)
    return order
