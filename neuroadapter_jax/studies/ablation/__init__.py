"""The ablation table: variants of the method over seeds, beside the full model and the paper."""

from neuroadapter_jax.studies.ablation.run import AblationPlan, run_ablation
from neuroadapter_jax.studies.ablation.scores import ImageScores

__all__ = ["AblationPlan", "ImageScores", "run_ablation"]
