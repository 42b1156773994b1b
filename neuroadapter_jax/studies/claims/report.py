"""The ledger's page: one table of verdicts, the curves, and how the numbers are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuroadapter_jax.figures.claims import figures_of
from neuroadapter_jax.figures.pictures import save_picture
from neuroadapter_jax.files import write_text
from neuroadapter_jax.metrics.comparisons import holm
from neuroadapter_jax.studies.ablation.results import crossed_bootstrap
from neuroadapter_jax.studies.claims.cells import ClaimsPlan, Stored, all_cells
from neuroadapter_jax.studies.claims.claims import CLAIMS, Cells, Claim, Table, score
from neuroadapter_jax.studies.claims.images import LABELS
from neuroadapter_jax.studies.claims.statistics import Estimate, crossed_mean
from neuroadapter_jax.tables import MISSING, markdown_table

HOLDS, DOES_NOT, UNDECIDED, NOT_TESTED = "holds", "does not", "undecided", "not tested yet"
LEVEL = 0.05


@dataclass(frozen=True)
class Finding:
    """What the cells say of a claim.

    Attributes:
        claim: the claim.
        estimate: of its number; None where its cells are missing.
        p_value: of the number against minus the claim's margin, corrected for the family.
        bootstrap: percentile interval over seeds and images.
    """

    claim: Claim
    estimate: Estimate | None
    p_value: float = 1.0
    bootstrap: tuple[float, float] = (0.0, 0.0)

    @property
    def verdict(self) -> str:
        """Holds, does not, or undecided, by the corrected p at 5 %."""
        if self.estimate is None:
            return NOT_TESTED
        if self.p_value >= LEVEL:
            return UNDECIDED
        return HOLDS if self.estimate.value + self.claim.margin > 0 else DOES_NOT


def findings(cells: Cells) -> list[Finding]:
    """Every claim, those with cells tested as one family (Holm)."""
    tested: list[tuple[Claim, Estimate, tuple[float, float]]] = []
    missing: list[Claim] = []
    for claim in CLAIMS:
        table = claim.test(cells)
        table = None if table is None else table[:, np.isfinite(table).all(axis=0)]
        if table is None or table.shape[1] < 2:
            missing.append(claim)
            continue
        tested.append((claim, crossed_mean(table), _bootstrap(table)))
    corrected = holm([estimate.p_value(-claim.margin) for claim, estimate, _ in tested])
    found = {
        claim.text: Finding(claim, estimate, p, interval)
        for (claim, estimate, interval), p in zip(tested, corrected, strict=True)
    }
    return [found.get(claim.text, Finding(claim, None)) for claim in CLAIMS]


def _bootstrap(table: Table) -> tuple[float, float]:
    low, high = np.quantile(crossed_bootstrap(table, np.ones_like(table)), [0.025, 0.975])
    return float(low), float(high)


def write_report(plan: ClaimsPlan, found: Mapping[str, Stored], page: Path) -> None:
    """Write the page and, into images/ beside it, its figures.

    Args:
        plan: of the ledger.
        found: the finished cells.
        page: the Markdown file.
    """
    cells = Cells(found, tuple(plan.seeds))
    results = findings(cells)
    shown = [(x.claim.text, x.estimate, x.p_value < LEVEL) for x in results if x.estimate]
    figures = figures_of(cells, shown)
    for name, figure in figures.items():
        save_picture(page.parent / "images" / f"claims_{name}.png", figure)
    write_text(page, page_text(plan, found, results, set(figures)))


def page_text(
    plan: ClaimsPlan, found: Mapping[str, Stored], results: list[Finding], figures: set[str]
) -> str:
    """The page in Markdown.

    Args:
        plan: of the ledger.
        found: the finished cells.
        results: of `findings`.
        figures: names of those that there are.
    """
    cells, total = Cells(found, tuple(plan.seeds)), len(all_cells(plan))
    hours = sum(x["minutes"] for x in found.values()) / 60
    full, scale = plan.rows["full"], plan.sampling.guidance_scale
    state = (
        f"All {total} cells are done ({hours:.1f} hours of one core)."
        if len(found) == total
        else f"**Unfinished: {len(found)} of {total} cells are done ({hours:.1f} hours of one core "
        "so far).** A row of fewer seeds than\n"
        f"{len(plan.seeds)} says little about other trainings."
    )
    parts = [
        _HEAD.format(
            state=state,
            steps=full.num_steps,
            batch=full.batch_size,
            images=plan.num_images,
            seeds=len(plan.seeds),
            candidates=plan.num_candidates,
            how=f"{plan.num_steps} steps of {plan.sampler}, guidance {scale:g}",
        ),
        "## The ledger\n",
        _ledger(results, figures),
        "\n## Scores of the trainings\n",
        _scores(plan, cells),
        *(["## Figures\n"] if figures else []),
        *(_picture(name) for name in _CAPTIONS if name in figures),
        "\n## How the numbers are made\n",
        _METHOD.format(
            family=sum(x.estimate is not None for x in results),
            images=plan.num_images,
            seeds=len(plan.seeds),
        ),
        "\n## Bootstrap beside the model's interval\n",
        _bootstraps(results),
        "\n## What is still to run\n",
        _missing(plan, found),
    ]
    return "\n".join(parts)


def _ledger(results: list[Finding], figures: set[str]) -> str:
    rows = []
    for result in results:
        claim, estimate = result.claim, result.estimate
        picture = f"[{claim.figure}](#{claim.figure})" if claim.figure in figures else MISSING
        cells = [claim.text, claim.where, claim.how]
        if estimate is None:
            rows.append([*cells, MISSING, MISSING, result.verdict, MISSING, MISSING])
            continue
        low, high = estimate.interval
        rows.append(
            [
                *cells,
                f"{estimate.value:+.3f} [{low:+.3f}, {high:+.3f}]",
                f"{result.p_value:.2g}",
                result.verdict,
                f"{estimate.detectable:.3f} ({estimate.num_seeds} x {estimate.num_images})",
                picture,
            ]
        )
    head = [
        "claim", "where the paper makes it", "how it is tested here", "value, 95 % interval",
        "p (Holm)", "verdict", "detectable (seeds x images)", "figure",
    ]  # fmt: skip
    return markdown_table(head, rows)


def _scores(plan: ClaimsPlan, cells: Cells) -> str:
    rows = []
    for row in plan.rows:
        results = [x for (x,) in cells.results(row)]
        if not results:
            continue
        for label, part in ((row, "scores"), (f"{row}, mean candidate", "mean_scores")):
            if part == "mean_scores" and row != "full":
                continue
            values = [
                np.array([score(x, x[part], name).mean() for x in results]) for name in LABELS
            ]
            rows.append([label, len(results), *(_spread(x) for x in values)])
    if not rows:
        return "No training is done.\n"
    note = "Mean over seeds, and in brackets the lowest and the highest seed.\n"
    return markdown_table(["training", "seeds", *LABELS.values()], rows) + "\n" + note


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f} [{values.min():.3f}, {values.max():.3f}]"


def _bootstraps(results: list[Finding]) -> str:
    rows = []
    for each in results:
        if each.estimate is not None:
            low, high = each.estimate.interval
            ends = [f"[{a:+.3f}, {b:+.3f}]" for a, b in ((low, high), each.bootstrap)]
            rows.append([each.claim.text, f"{each.estimate.value:+.3f}", *ends])
    if not rows:
        return "No claim has its cells.\n"
    return markdown_table(["claim", "value", "interval", "bootstrap"], rows)


def _missing(plan: ClaimsPlan, found: Mapping[str, Stored]) -> str:
    names = [name for name in all_cells(plan) if name not in found]
    if not names:
        return "Nothing.\n"
    return f"{', '.join(names)}. `neuroadapter claims --config claims` runs them.\n"


def _picture(name: str) -> str:
    caption = _CAPTIONS[name]
    return f"### {name}\n\n![{caption}](images/claims_{name}.png)\n\n*{caption}.*\n"


_CAPTIONS = {
    "curves": "Validation loss of every training by step, a line per seed",
    "effects": "Every claim's number with its interval; filled where it is decided",
    "regions": "Recall and pixel correlation by the number of regions, a dot per seed",
    "lost": "Recall as regions are lost, with and without token dropout in training",
    "attention": "Attention over the denoising steps: areas, entropy, and place beyond habit",
    "silencing": "Recall with sets of regions silenced, beside matched controls",
    "sets": "Recall on sets that training never showed, and identification of imagined targets",
}
_HEAD = """# The claims ledger

What the paper says of its method, tried on a simulated subject as noisy as NSD's subject 1
(`--config nsd_like`), whose truth is known.

```console
$ neuroadapter claims --config claims            # runs the cells that are missing
$ neuroadapter claims --config claims --list     # says which they are
$ neuroadapter claims --config claims --report   # makes this page from those that there are
```

{state}

Every training takes {steps} steps of {batch} images, with {seeds} seeds; p is 80 of 640 regions
where nothing else is said (the paper: 200 of 1,000), the drop rate is the paper's, uniform from 0
to 1. {images} test images are reconstructed with each adapter, the same in all rows,
in {how}; the brain encoder chooses one of {candidates} candidates.
"""
_METHOD = """* A row's number is a difference that is above 0 where the claim holds. Recalls are
  objects found over objects shown, by the scene reader, which chose and trained nothing; the
  measure of each row was fixed before any cell ran.
* Every difference is paired: the same seed and the same test image on both sides. Intervals and p
  values are those of the two-way random model of {seeds} seeds and {images} images, with
  Satterthwaite's degrees of freedom, so the spread between trainings counts in full. The
  bootstrap draws seeds, the outer unit, and images with replacement; it is shown below and
  decides nothing, since three seeds have ten samples alone.
* {family} tests are one family, corrected by Holm's method. A claim "holds" or "does not" where
  the corrected p is below 0.05. Where the claim is that something is no worse, the number is
  tested against minus the margin that the row names.
* The encoder ranks candidates by the vertices of the row's own regions, as in the paper, so a row
  of fewer regions also chooses by fewer. The scores above have the mean candidate of the full row.
* "Detectable" is the effect that the row's test would find four times of five, at 5 % and before
  the correction. An undecided row has seen no such effect, and says nothing about smaller ones.
* A region's control when it is silenced lies outside V1 to V3 and the category areas, in the same
  hemisphere, within 0.1 of its SNR and a factor of 1.5 of its number of vertices; regions without
  a control are silenced on neither side, and where that are more than half, nothing is tested.
* What the trainings cannot say: the subject is simulated and the backbone is tiny-sd. A
  classifier-free guidance of 4, the paper's, needs an unconditional half, which a training
  without token dropout never sees; so robustness to lost regions is tested without guidance.
"""
