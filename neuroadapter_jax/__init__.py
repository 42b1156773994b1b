"""NeuroAdapter in JAX: reconstructs what a person saw from their cortical responses.

    from neuroadapter_jax import NeuroAdapterPipeline, PreparedDataset

    pipeline = NeuroAdapterPipeline.from_pretrained("neuroadapter-simulated")

The names below are imported when they are first used, so that `import neuroadapter_jax` and the
help of the program `neuroadapter` do not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"  # the only place; setup.py reads it from here

_PUBLIC = {
    "BrainEncoder": "neuroadapter_jax.encoder.brain_encoder",
    "NeuroAdapter": "neuroadapter_jax.adapter.neuroadapter",
    "NeuroAdapterPipeline": "neuroadapter_jax.pipeline",
    "Parcellation": "neuroadapter_jax.cortex",
    "PreparedDataset": "neuroadapter_jax.datasets.prepared.records",
    "Sampling": "neuroadapter_jax.diffusion.sampling",
    "load_released": "neuroadapter_jax.interop",
    "read_parcellation": "neuroadapter_jax.cortex",
    "reconstruct_split": "neuroadapter_jax.pipeline",
}
__all__ = [  # noqa: RUF022 - in the order of _PUBLIC, which a test compares
    "BrainEncoder",
    "NeuroAdapter",
    "NeuroAdapterPipeline",
    "Parcellation",
    "PreparedDataset",
    "Sampling",
    "load_released",
    "read_parcellation",
    "reconstruct_split",
    "__version__",
]

if TYPE_CHECKING:
    from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
    from neuroadapter_jax.cortex import Parcellation, read_parcellation
    from neuroadapter_jax.datasets.prepared.records import PreparedDataset
    from neuroadapter_jax.diffusion.sampling import Sampling
    from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
    from neuroadapter_jax.interop import load_released
    from neuroadapter_jax.pipeline import NeuroAdapterPipeline, reconstruct_split


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
