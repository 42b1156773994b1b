"""Which methods are compared, with which settings."""

from dataclasses import dataclass
from typing import Any

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.ranges import Count, Seed, ShareAboveZero, check_fields

METHODS = {
    "mean_image": "Floor: mean training image",
    "random_image": "Floor: a random training image",
    "retrieval": "Retrieval by the brain encoder",
    "linear_latents": "Linear latents alone, no diffusion",
    "linear": "Linear two-stage, without low-level path",
    "linear_low_level": "Linear two-stage, with low-level path",
    "neuroadapter": "NeuroAdapter",
    "neuroadapter_low_level": "NeuroAdapter, low-level start",
    "neuroadapter_chosen": "NeuroAdapter, chosen by the encoder",
    "neuroadapter_chosen_low_level": "NeuroAdapter, chosen, low-level start",
    "autoencoder": "Ceiling: the VAE's own reconstruction",
}


@dataclass(frozen=True)
class BaselineSettings:
    """How every method is run.

    Attributes:
        methods: which of `METHODS`.
        strength: of the low-level start, in (0, 1]; None chooses it on validation images, which
            needs the simulated subject's truth.
        linear_guidance_scale: of the linear two-stage decoder; None chooses it there as well.
        sampling: NeuroAdapter's; None takes the pipeline's own with 10 steps of DPM-Solver++. The
            linear decoder takes the same but for its guidance scale and its start, pure noise.
        num_candidates: per response where the encoder chooses one.
        seed: of noise, random images and bootstrap.
        batch_size: responses per call.
        allow_other: what may differ between the data of model, encoder and records; see
            `datasets.belonging.made_for`.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    strength: ShareAboveZero | None = None
    linear_guidance_scale: float | None = None
    sampling: Sampling | None = None
    num_candidates: Count = 8
    seed: Seed = 0
    batch_size: Count = 20
    allow_other: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if unknown := sorted(set(self.methods) - set(METHODS)):
            raise InputError(
                f"There is no method {', '.join(unknown)}; choose of {', '.join(METHODS)}."
            )

    def wanted(self, with_captions: bool) -> list[str]:
        """The methods that can be run, in the order of `METHODS`.

        Args:
            with_captions: whether captions of the training images are given.

        Raises:
            InputError: none can.
        """
        lacking = () if with_captions else ("linear", "linear_low_level")
        found = [name for name in METHODS if name in self.methods and name not in lacking]
        if not found:
            raise InputError(
                f"methods is {', '.join(self.methods) or 'empty'}, of which none can be run "
                f"without captions of the training images; give captions, or name others of "
                f"{', '.join(METHODS)}."
            )
        return found

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
        }
