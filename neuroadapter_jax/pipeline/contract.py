"""What a decoder is to the functions that work through a split, and how they are told to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt8

from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.samplers import with_spacing
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.encoder.brain_encoder import BrainEncoder
from neuroadapter_jax.pipeline.rank import Candidates
from neuroadapter_jax.pipeline.reconstruct import LowLevelStart
from neuroadapter_jax.ranges import Count, Seed, check_fields


@runtime_checkable
class Decoder(Protocol):
    """What reconstructs images from responses as `NeuroAdapterPipeline` does.

    Attributes:
        regions: whose vertices are read.
        provenance: what it was trained on.
        sampling: used unless a call gives another.
        num_candidates: images per response, used unless a call gives another number.
    """

    regions: Parcellation
    provenance: dict[str, Any]
    sampling: Sampling
    num_candidates: int

    @property
    def fingerprint(self) -> Any:
        """Of all its weights, as JSON values; a killed call goes on with the same only."""
        ...

    def __call__(
        self,
        fmri: Float[np.ndarray, "b n"],
        sampling: Sampling | None = None,
        *,
        num_candidates: int | None = None,
        seed: int = 0,
        sample_ids: Int[np.ndarray, " b"] | None = None,
        low_level: LowLevelStart | None = None,
    ) -> UInt8[np.ndarray, "b s y x c"]:
        """Images of responses; the arguments mean what they mean to `NeuroAdapterPipeline`."""
        ...


@runtime_checkable
class RankingDecoder(Protocol):
    """A decoder that ranks its candidates itself, and can drop some on the way."""

    def candidates(
        self,
        fmri: Float[np.ndarray, "b n"],
        encoder: BrainEncoder,
        sampling: Sampling | None = None,
        **options: Any,
    ) -> Candidates:
        """Candidates and their scores, as `NeuroAdapterPipeline.candidates` gives them."""
        ...


@dataclass(frozen=True)
class ReconstructionSettings:
    """How a split is reconstructed.

    Attributes:
        sampling: the decoder's own when None.
        num_candidates: images per response, at least 1; the decoder's own number when None.
        seed: of the noise, at least 0.
        num_images: how many of the split, from its first on, at least 1; None for all.
        batch_size: responses per jitted call; another one rounds otherwise in the last bits.
        allow_other: what may differ between the data that the decoder and the encoder were trained
            on and the records; see `datasets.belonging.made_for`.

    Raises:
        SettingError: a number out of its range.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> from neuroadapter_jax.pipeline import ReconstructionSettings
        >>> settings = ReconstructionSettings(Sampling("ddim", 20), num_candidates=4, num_images=8)
        >>> settings.batch_size
        20
        >>> try:
        ...     ReconstructionSettings(batch_size=0)
        ... except ValueError as error:
        ...     print(error)
        batch_size is 0; expected a whole number of at least 1.
    """

    sampling: Sampling | None = None
    num_candidates: Count | None = None
    seed: Seed = 0
    num_images: Count | None = None
    batch_size: Count = 20
    allow_other: tuple[str, ...] = ()

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Ranking:
    """How a brain encoder chooses among the candidates.

    Attributes:
        encoder: of the same subject, surface and parcellation.
        halving: (steps taken, candidates kept) in order: candidates that predict the response
            badly are dropped on the way; () samples all to the end. The scores that are kept are
            those of the candidates sampled to the end.
        keep_candidates: write all candidates, not the chosen one alone.
    """

    encoder: BrainEncoder
    halving: Sequence[tuple[int, int]] = ()
    keep_candidates: bool = False


def recorded_sampling(decoder: Any, sampling: Sampling) -> Sampling:
    """Settings as a folder records them: with the spacing that the decoder's backbone takes."""
    backbone = getattr(decoder, "backbone", None)
    return sampling if backbone is None else with_spacing(sampling, backbone.schedule)


_PRECISIONS = ("precision", "encoder_precision")


def recorded_precision(decoder: Any) -> dict[str, str]:
    """The precision of a decoder as a folder records it; nothing of a decoder without one."""
    precision = getattr(decoder, "precision", None)
    return {} if precision is None else {"precision": precision}


def with_unrecorded_precision(
    found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, Any]:
    """What a folder records, with this call's precision where an earlier version noted none.

    The fingerprint of the weights, which are rounded with the precision, tells there.

    Args:
        found: the folder's settings.
        wanted: those of this call.
    """
    return {key: wanted[key] for key in _PRECISIONS if key in wanted} | dict(found)
