"""Does attention tell the truth? The views against the simulated subject, whose truth is known."""

from neuroadapter_jax.studies.attention_truth.run import (
    PIECES,
    check_pieces,
    run_attention_truth,
)
from neuroadapter_jax.studies.attention_truth.settings import AttentionTruthSettings
from neuroadapter_jax.studies.attention_truth.tables import tables

__all__ = ["PIECES", "AttentionTruthSettings", "check_pieces", "run_attention_truth", "tables"]
