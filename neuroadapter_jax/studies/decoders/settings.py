"""Which decoders are compared, with which settings."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from neuroadapter_jax.decoders.methods import METHODS, PRESETS
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, Seed, ShareAboveZero, check_fields

# What images would be if all that is predicted were true: no decoders.
CEILINGS = {
    "true_embedding": "Ceiling: the true image embedding through the image adapter",
    "autoencoder": "Ceiling: the VAE's own reconstruction",
}
LABELS = {name: method.label for name, method in METHODS.items()} | CEILINGS
DEFAULT = (*(name for name, method in METHODS.items() if method.by_default), "autoencoder")
NEEDS = {
    "captions": "captions of the training images",
    "encoder": "brain encoder",
    "image_adapter": "image adapter",
}


@dataclass(frozen=True)
class DecoderSettings:
    """How every decoder is run.

    Attributes:
        methods: which rows, of `METHODS` and `CEILINGS`.
        strength: of the low-level start, in (0, 1]; None chooses it on validation images, which
            needs the simulated subject's truth.
        linear_guidance_scale: of the decoders that are guided away from the empty prompt (linear
            two-stage, Brain-Diffuser); None chooses it there as well.
        preset: a method whose published sampling its own rows take, such as "brain_diffuser"; None
            gives all rows the same sampling.
        sampling: NeuroAdapter's; None takes the pipeline's own with 10 steps of DPM-Solver++. The
            others take the same but for their guidance scale and their start, pure noise.
        num_candidates: per response where the encoder chooses one.
        seed: of noise, random images and bootstrap.
        batch_size: responses per call.
        allow_other: what may differ between the data of model, encoder and records; see
            `datasets.belonging.made_for`.

    Raises:
        InputError: an unknown method or preset.
        SettingError: a setting out of its range.
    """

    methods: tuple[str, ...] = DEFAULT
    strength: ShareAboveZero | None = None
    linear_guidance_scale: float | None = None
    preset: str | None = None
    sampling: Sampling | None = None
    num_candidates: Count = 8
    seed: Seed = 0
    batch_size: Count = 20
    allow_other: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if unknown := sorted(set(self.methods) - set(LABELS)):
            raise InputError(
                f"There is no method {', '.join(unknown)}; choose methods of {', '.join(LABELS)}."
            )
        if self.preset is not None and self.preset not in PRESETS:
            raise InputError(f"preset is {self.preset!r}; expected {' or '.join(PRESETS)}.")

    def missing(self, has: Collection[str]) -> dict[str, str]:
        """Why rows that were asked for cannot be made.

        Args:
            has: what is there, of `NEEDS`.

        Raises:
            InputError: none can.
        """
        lacking = {}
        for name in self.methods:
            needs: Collection[str] = METHODS[name].needs if name in METHODS else ()
            if name == "true_embedding":
                needs = ("image_adapter",)
            if absent := sorted(set(needs) - set(has)):
                lacking[name] = f"no {' and no '.join(NEEDS[need] for need in absent)} given"
        if len(lacking) == len(self.methods):
            found = "; ".join(f"{name}: {why}" for name, why in lacking.items())
            raise InputError(
                f"No method that methods names can be run ({found or 'it is empty'}); give what "
                f"is missing, or name others of {', '.join(LABELS)}."
            )
        return lacking

    def of_reconstruction(self, sampling: Sampling) -> dict[str, Any]:
        """What the images depend on, as JSON values.

        Args:
            sampling: NeuroAdapter's, where the settings say None.
        """
        return {
            "num_candidates": self.num_candidates,
            "sampling": sampling.to_dict(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            **({} if self.preset is None else {"preset": self.preset}),
        }
