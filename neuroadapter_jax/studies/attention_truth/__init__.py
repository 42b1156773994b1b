"""Does attention tell the truth? The views against the simulated subject, whose truth is known."""

from neuroadapter_jax.studies.attention_truth.run import (
    AttentionTruthSettings,
    run_attention_truth,
)
from neuroadapter_jax.studies.attention_truth.tables import tables

__all__ = ["AttentionTruthSettings", "run_attention_truth", "tables"]
