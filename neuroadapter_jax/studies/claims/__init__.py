"""The claims ledger: every claim of the paper, tried on the noisy simulated subject."""

from neuroadapter_jax.studies.claims.cells import Cell, ClaimsPlan, all_cells, read_cells
from neuroadapter_jax.studies.claims.run import run_claims

__all__ = ["Cell", "ClaimsPlan", "all_cells", "read_cells", "run_claims"]
