"""Every decoder compared on one test set: floors, retrieval, rivals, NeuroAdapter, the ceilings."""

from neuroadapter_jax.studies.decoders.checks import require_choices
from neuroadapter_jax.studies.decoders.run import run_decoders, simulated_captions
from neuroadapter_jax.studies.decoders.settings import DEFAULT, LABELS, DecoderSettings

__all__ = [
    "DEFAULT",
    "LABELS",
    "DecoderSettings",
    "require_choices",
    "run_decoders",
    "simulated_captions",
]
