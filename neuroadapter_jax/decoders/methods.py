"""The rows of the comparison: which decoder, fitted how, drawn how."""

from dataclasses import dataclass
from typing import Any, Literal

from neuroadapter_jax.decoders.contract import BrainDecoder
from neuroadapter_jax.decoders.floors import MeanImage, RandomImage
from neuroadapter_jax.decoders.linear_two_stage import LinearLatents, LinearTwoStage
from neuroadapter_jax.decoders.neuroadapter import NeuroAdapterDecoder
from neuroadapter_jax.decoders.retrieval_decoder import RetrievalDecoder

Need = Literal["captions", "encoder", "image_adapter"]


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        label: what the table says.
        decoder: its class.
        fitted: folder of what is fitted; rows that differ only in how they reconstruct share one.
        settings: handed to `decoder.fit`.
        needs: what the material must have, by field of `Material`.
        low_level: begin from linearly predicted latents.
        chosen: the brain encoder chooses among candidates.
        choose_guidance: the guidance scale is chosen on validation images; else the comparison's.
    """

    label: str
    decoder: type[BrainDecoder]
    fitted: str
    settings: Any = None
    needs: frozenset[Need] = frozenset()
    low_level: bool = False
    chosen: bool = False
    choose_guidance: bool = False


def _needs(*names: Need) -> frozenset[Need]:
    return frozenset(names)


_LINEAR: dict[str, Any] = {
    "decoder": LinearTwoStage,
    "fitted": "linear",
    "needs": _needs("captions"),
    "choose_guidance": True,
}
_OURS: dict[str, Any] = {"decoder": NeuroAdapterDecoder, "fitted": "neuroadapter"}

METHODS: dict[str, Method] = {
    "mean_image": Method("Floor: mean training image", MeanImage, "mean_image"),
    "random_image": Method("Floor: a random training image", RandomImage, "random_image"),
    "retrieval": Method(
        "Retrieval by the brain encoder", RetrievalDecoder, "retrieval", needs=_needs("encoder")
    ),
    "linear_latents": Method("Linear latents alone, no diffusion", LinearLatents, "linear"),
    "linear": Method("Linear two-stage, without low-level path", **_LINEAR),
    "linear_low_level": Method(
        "Linear two-stage, with low-level path", **_LINEAR, low_level=True
    ),
    "neuroadapter": Method("NeuroAdapter", **_OURS),
    "neuroadapter_low_level": Method("NeuroAdapter, low-level start", **_OURS, low_level=True),
    "neuroadapter_chosen": Method(
        "NeuroAdapter, chosen by the encoder", **_OURS, needs=_needs("encoder"), chosen=True
    ),
    "neuroadapter_chosen_low_level": Method(
        "NeuroAdapter, chosen, low-level start",
        **_OURS,
        needs=_needs("encoder"),
        chosen=True,
        low_level=True,
    ),
}  # fmt: skip
