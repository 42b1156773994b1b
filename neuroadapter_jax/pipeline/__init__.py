"""From responses to images: pure functions over one pytree of networks, and the class before them.

`pipeline` and `reconstruction_pipeline` check and delegate; `reconstruct`, `rank`, `interpret` and
`effects` compute; `saving` reads and writes exports; `reconstruction_folder`, `reconstructions` and
`views_folder` work through a whole split; `contract` says what else they can work with.
"""

from neuroadapter_jax.pipeline.contract import Decoder, Ranking, ReconstructionSettings
from neuroadapter_jax.pipeline.derivatives import write_derivatives
from neuroadapter_jax.pipeline.interpret import Interpretation
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.pipeline.rank import Candidates
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart
from neuroadapter_jax.pipeline.reconstruction_folder import (
    reconstruct_split,
    write_reconstructions,
)
from neuroadapter_jax.pipeline.reconstructions import Reconstructions, load_reconstructions
from neuroadapter_jax.pipeline.views_folder import (
    InterpretationSettings,
    interpret_split,
    load_views,
)

__all__ = [
    "Candidates",
    "Decoder",
    "Interpretation",
    "InterpretationSettings",
    "LowLevelStart",
    "NeuroAdapterPipeline",
    "Ranking",
    "ReconstructionSettings",
    "Reconstructions",
    "interpret_split",
    "load_reconstructions",
    "load_views",
    "reconstruct_split",
    "write_derivatives",
    "write_reconstructions",
]
