"""Fewer steps: what samplers of 1 to 50 steps cost, and what they change."""

from neuroadapter_jax.studies.few_steps.run import (
    FewStepsSettings as FewStepsSettings,
)
from neuroadapter_jax.studies.few_steps.run import Row as Row
from neuroadapter_jax.studies.few_steps.run import rows_of as rows_of
from neuroadapter_jax.studies.few_steps.run import run_few_steps as run_few_steps
