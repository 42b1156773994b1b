"""Floors, retrieval, a linear decoder, NeuroAdapter and the ceiling, compared on one test set."""

from neuroadapter_jax.studies.baselines.checks import require_choices
from neuroadapter_jax.studies.baselines.methods import METHODS, BaselineSettings
from neuroadapter_jax.studies.baselines.run import (
    run_baselines,
    simulated_captions,
)

__all__ = ["METHODS", "BaselineSettings", "require_choices", "run_baselines", "simulated_captions"]
