"""The rows of the comparison: which decoder, fitted how, asked for images how."""

from dataclasses import dataclass
from typing import Any, Literal

from neuroadapter_jax.decoders.brain_diffuser import BrainDiffuser, BrainDiffuserSettings
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
        fitted: name of the fitted decoder; rows that differ only in how images are asked of it
            share one.
        settings: handed to `decoder.fit`.
        needs: what the material must have, by field of `Material`.
        low_level: begin from linearly predicted latents.
        chosen: the brain encoder chooses among candidates.
        choose_guidance: the guidance scale is chosen on validation images; else the comparison's.
        preset: whose published sampling `--preset` gives this row; None for none.
        by_default: whether the comparison has this row if none are named.
    """

    label: str
    decoder: type[BrainDecoder]
    fitted: str
    settings: Any = None
    needs: frozenset[Need] = frozenset()
    low_level: bool = False
    chosen: bool = False
    choose_guidance: bool = False
    preset: str | None = None
    by_default: bool = True


def _needs(*names: Need) -> frozenset[Need]:
    return frozenset(names)


def _linear(label: str, **how: Any) -> Method:
    needs = _needs("captions")
    return Method(label, LinearTwoStage, "linear", needs=needs, choose_guidance=True, **how)


def _ours(label: str, **how: Any) -> Method:
    return Method(label, NeuroAdapterDecoder, "neuroadapter", **how)


def _brain_diffuser(label: str, name: str, **settings: Any) -> Method:
    made = BrainDiffuserSettings(**settings)
    needs = {"captions", "image_adapter"}
    needs -= {{"text": "captions", "vision": "image_adapter"}.get(made.without or "", "")}
    return Method(
        label, BrainDiffuser, name, made, frozenset(needs), choose_guidance=True,  # type: ignore[arg-type]
        preset="brain_diffuser", by_default=False,
    )  # fmt: skip


_CHOSEN: dict[str, Any] = {"chosen": True, "needs": _needs("encoder")}

METHODS: dict[str, Method] = {
    "mean_image": Method("Floor: mean training image", MeanImage, "mean_image"),
    "random_image": Method("Floor: a random training image", RandomImage, "random_image"),
    "retrieval": Method(
        "Retrieval by the brain encoder", RetrievalDecoder, "retrieval", needs=_needs("encoder")
    ),
    "linear_latents": Method("Linear latents alone, no diffusion", LinearLatents, "linear_latents"),
    "linear": _linear("Linear two-stage, without low-level path"),
    "linear_low_level": _linear("Linear two-stage, with low-level path", low_level=True),
    "brain_diffuser": _brain_diffuser("Brain-Diffuser", "brain_diffuser"),
    "brain_diffuser_without_vision": _brain_diffuser(
        "Brain-Diffuser without the vision path", "brain_diffuser_without_vision", without="vision"
    ),
    "brain_diffuser_without_text": _brain_diffuser(
        "Brain-Diffuser without the text path", "brain_diffuser_without_text", without="text"
    ),
    "brain_diffuser_without_low_level": _brain_diffuser(
        "Brain-Diffuser without the low-level path",
        "brain_diffuser_without_low_level",
        without="low_level",
    ),
    "brain_diffuser_rescaled_on_test": _brain_diffuser(
        "Brain-Diffuser, rescaled over the test set as published",
        "brain_diffuser_rescaled_on_test",
        rescale="test",
    ),
    "neuroadapter": _ours("NeuroAdapter"),
    "neuroadapter_low_level": _ours("NeuroAdapter, low-level start", low_level=True),
    "neuroadapter_chosen": _ours("NeuroAdapter, chosen by the encoder", **_CHOSEN),
    "neuroadapter_chosen_low_level": _ours(
        "NeuroAdapter, chosen, low-level start", low_level=True, **_CHOSEN
    ),
}
PRESETS = tuple(sorted({method.preset for method in METHODS.values() if method.preset}))
