"""The networks that cells share: where they lie, and what loads them."""

from dataclasses import dataclass
from pathlib import Path

from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.studies.claims.cells import ENCODERS, ClaimsPlan
from neuroadapter_jax.studies.claims.images import TestImages


def models_folder(out: str | Path, name: str) -> Path:
    """Where a cell's network lies."""
    return Path(out) / "models" / name


@dataclass(frozen=True)
class Work:
    """What a cell works with.

    Attributes:
        plan: of the ledger.
        out: networks and unfinished work.
        root: the simulated subject's folder.
        test: the test images.
    """

    plan: ClaimsPlan
    out: Path
    root: Path
    test: TestImages

    def adapter(self, row: str, seed: int) -> NeuroAdapterPipeline:
        """The adapter of a training."""
        return NeuroAdapterPipeline.from_pretrained(models_folder(self.out, f"{row}-seed{seed}"))

    def encoder(self, name: str = ENCODERS[0]) -> BrainEncoder:
        """The encoder that chooses, or the judge."""
        return BrainEncoder.from_pretrained(models_folder(self.out, name))
