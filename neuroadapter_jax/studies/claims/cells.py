"""The cells of the ledger: what each computes, with which settings, from which data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import MinLen
from typing_extensions import TypedDict

from neuroadapter_jax.datasets.prepared.records import SPLITS, PreparedDataset
from neuroadapter_jax.diffusion.identity import FINGERPRINT, backbone_identity
from neuroadapter_jax.diffusion.sampling import Sampler, Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import INPUTS, json_values, require_same_settings, write_json
from neuroadapter_jax.ranges import Count, Seed, SettingError, check_fields
from neuroadapter_jax.readers import read_json
from neuroadapter_jax.training.brain_encoder import EncoderSettings
from neuroadapter_jax.training.settings import Settings

FULL, NO_DROPOUT = "full", "no_token_dropout"
# What is measured with the trained adapters of a seed, and which rows' adapters that takes.
EVALUATIONS: dict[str, tuple[str, ...]] = {
    "selection": (FULL,),
    "lost_regions": (FULL, NO_DROPOUT),
    "attention": (FULL,),
    "silencing": (FULL,),
    "low_level": (FULL,),
    "unseen": (FULL,),
    "imagery": (FULL,),
}
# The order of the trainings: a group's seeds come before the next group. Other rows come last.
GROUPS = (
    (FULL, NO_DROPOUT, "p20", "p160", "p40", "p320"),
    ("fixed_drop_rate", "no_min_snr", "no_region_structure"),
    ("mlp", "pixel_loss"),
)
ENCODERS = ("encoder", "judge")
# Raised where a cell comes to compute something else, so that old numbers are refused.
VERSION = 1
# Where the data are, and when a training tells of itself: no number depends on them.
_NOT_IDENTITY = (
    "prepared", "parcellation", "backbone", "log_every", "checkpoint_every", "sample_steps",
    "sampling", "num_candidates", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class ClaimsPlan:
    """What the whole ledger takes.

    Attributes:
        rows: name of a training -> its settings, "full" among them, in the order of the cells.
        seeds: of the trainings.
        encoder: the brain encoder that chooses among candidates; the judge is another of the same
            kind, on patch tokens and another seed.
        num_images: test images, the same in all cells.
        num_candidates: per response, of which the encoder chooses one.
        num_selected: candidates where the ways to choose are compared.
        sampler: of all reconstructions.
        num_steps: denoising steps.

    Raises:
        SettingError: a number out of its range, no row "full", or a seed named twice.
    """

    rows: Mapping[str, Settings]
    seeds: Annotated[Sequence[Seed], MinLen(1)]
    encoder: EncoderSettings
    num_images: Count
    num_candidates: Count
    num_selected: Count
    sampler: Sampler
    num_steps: Count

    def __post_init__(self):
        check_fields(self)
        if FULL not in self.rows:
            raise SettingError("rows", list(self.rows), f"{FULL!r} among them")
        if len(set(self.seeds)) < len(self.seeds):
            raise SettingError("seeds", tuple(self.seeds), "each seed once")

    @property
    def sampling(self) -> Sampling:
        """Of all reconstructions."""
        own = self.rows[FULL].sampling
        return own.replace(sampler=self.sampler, num_steps=self.num_steps)

    @property
    def prepared(self) -> Path:
        """The records of the subject."""
        return Path(str(self.rows[FULL].prepared))

    def training(self, row: str, seed: int) -> Settings:
        """The settings of one training."""
        return replace(self.rows[row], seed=seed)

    def of_encoder(self, name: str) -> EncoderSettings:
        """The settings of the encoder that chooses, or of the judge."""
        if name == ENCODERS[0]:
            return self.encoder
        return replace(self.encoder, blocks=(0,), seed=self.encoder.seed + 1)


@dataclass(frozen=True)
class Cell:
    """One piece of the ledger, less than 90 minutes on one core.

    Attributes:
        name: of its file.
        kind: "encoder", "train" or one of `EVALUATIONS`.
        row: the training, of a cell that is one.
        seed: of the training or of the adapters that are evaluated.
    """

    name: str
    kind: str
    row: str = ""
    seed: int = 0

    def needs(self) -> tuple[str, ...]:
        """The cells that come first, whose networks this one reads."""
        if self.kind == "encoder":
            return ()
        if self.kind == "train":
            return (ENCODERS[0],)
        adapters = tuple(f"{row}-seed{self.seed}" for row in EVALUATIONS[self.kind])
        return (*(ENCODERS if self.kind == "selection" else ENCODERS[:1]), *adapters)

    def settings(self, plan: ClaimsPlan) -> dict[str, Any]:
        """What its numbers depend on beside the data, as JSON values."""
        how = {
            "version": VERSION,
            "sampling": plan.sampling.to_dict(),
            "num_images": plan.num_images,
            "seed": self.seed,
        }
        if self.kind == "encoder":
            own = plan.of_encoder(self.name).to_dict()
            kept = {k: x for k, x in own.items() if k not in _NOT_IDENTITY[:2]}
            return json_values({"version": VERSION, **kept})
        rows = (self.row,) if self.kind == "train" else EVALUATIONS[self.kind]
        for row in rows:
            own = plan.rows[row].to_dict()
            how[row] = {k: x for k, x in own.items() if k not in _NOT_IDENTITY}
        if self.kind in ("train", "unseen", "imagery"):
            how["num_candidates"] = plan.num_candidates
        if self.kind == "selection":
            how["num_candidates"] = plan.num_selected
        return json_values(how)


def all_cells(plan: ClaimsPlan) -> dict[str, Cell]:
    """Every cell by its name, in the order in which they are run.

    First the encoders, then for each of `GROUPS` all seeds, then the evaluations, so that no claim
    waits for long with some of its seeds.
    """
    cells = [Cell(name, "encoder") for name in ENCODERS]
    rows = set(plan.rows)
    others = sorted(rows - {row for group in GROUPS for row in group})
    for group in (*GROUPS, others):
        cells += [
            Cell(f"{row}-seed{seed}", "train", row, seed)
            for seed in plan.seeds
            for row in group
            if row in rows
        ]
    cells += [
        Cell(f"{kind}-seed{k}", kind, seed=k)
        for kind, needed in EVALUATIONS.items()
        for k in plan.seeds
        if set(needed) <= rows
    ]
    return {cell.name: cell for cell in cells}


def data_fingerprints(plan: ClaimsPlan) -> dict[str, Any]:
    """Of the records, the regions and the backbone that all cells read."""
    splits = [PreparedDataset(plan.prepared, split) for split in SPLITS]
    full = plan.rows[FULL]
    regions = splits[0].parcellation(full.parcellation, full.parcels)
    return json_values(
        {
            "prepared": [split.fingerprint for split in splits],
            "parcellation": regions.vertex_fingerprint(),
            "backbone": backbone_identity(full.backbone)[FINGERPRINT],
        }
    )


class Stored(TypedDict):
    """A cell's file."""

    cell: str
    settings: dict[str, Any]
    inputs: dict[str, Any]
    minutes: float
    result: dict[str, Any]


def cell_file(results: str | Path, name: str) -> Path:
    """Where a cell's numbers lie."""
    return Path(results) / f"{name}.json"


def write_cell(
    results: str | Path,
    cell: Cell,
    plan: ClaimsPlan,
    inputs: Mapping[str, Any],
    result: Mapping[str, Any],
    minutes: float,
) -> None:
    """Write a finished cell's numbers, whole or not at all."""
    content = {
        "cell": cell.name,
        "settings": cell.settings(plan),
        INPUTS: dict(inputs),
        "minutes": round(minutes, 1),
        "result": rounded(json_values(result)),
    }
    Path(results).mkdir(parents=True, exist_ok=True)
    write_json(cell_file(results, cell.name), content)


def read_cells(
    results: str | Path, plan: ClaimsPlan, inputs: Mapping[str, Any] | None = None
) -> dict[str, Stored]:
    """The finished cells of a plan.

    Args:
        results: folder of the cells' files.
        plan: what they are to be of.
        inputs: fingerprints of the data that are here; None where there are none, then the cells
            have to agree with one another.

    Raises:
        InputError: a file that is no cell's, or a cell of other settings or other data.
    """
    found: dict[str, Stored] = {}
    for name, cell in all_cells(plan).items():
        path = cell_file(results, name)
        if not path.is_file():
            continue
        stored = read_json(path, "the numbers of a cell of the claims", Stored, f"delete {path}")
        known = inputs or (next(iter(found.values()))["inputs"] if found else stored["inputs"])
        require_same_settings(
            path,
            {**stored["settings"], INPUTS: stored["inputs"]},
            {**cell.settings(plan), INPUTS: dict(known)},
            "a cell",
            "name another --ledger, give the same settings, or delete this file",
        )
        found[name] = stored
    return found


def chosen_cells(plan: ClaimsPlan, names: Sequence[str]) -> dict[str, Cell]:
    """The cells that some names stand for: a cell, all of a row, or all of an evaluation.

    Args:
        plan: of the ledger.
        names: such as "full-seed0", "full" or "selection"; none for all.

    Raises:
        InputError: a name that is neither.
    """
    cells = all_cells(plan)
    if not names:
        return cells
    known = {*cells, *plan.rows, *EVALUATIONS}
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"--cells names {unknown[0]!r}; expected cells such as full-seed{plan.seeds[0]}, or "
            f"all of one kind: {', '.join([*ENCODERS, *plan.rows, *EVALUATIONS])}."
        )
    return {n: c for n, c in cells.items() if {n, c.row or c.kind} & set(names)}


def rounded(values: Any) -> Any:
    """Numbers to five significant digits, which keeps the files small."""
    if isinstance(values, float):
        return float(f"{values:.5g}")
    if isinstance(values, Mapping):
        return {key: rounded(value) for key, value in values.items()}
    return [rounded(value) for value in values] if isinstance(values, list) else values
