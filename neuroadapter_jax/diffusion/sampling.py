"""How images are sampled: one set of settings for training, exports, calls, folders and flags."""

import dataclasses
import math
from typing import Any, Literal, get_args

from neuroadapter_jax.errors import InputError

Sampler = Literal["ddpm", "ddim", "dpmsolver++"]
Start = Literal["noise", "grey"]
Spacing = Literal["leading", "linspace", "trailing"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
STARTS: tuple[str, ...] = get_args(Start)
SPACINGS: tuple[str, ...] = get_args(Spacing)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the reverse process.

    Attributes:
        sampler: see `samplers.plan`.
        num_steps: denoising steps, 1 to the schedule's number of timesteps.
        guidance_scale: g of classifier-free guidance, see `adapter.guidance`; 1 is none.
        start: what lies under the first noise: nothing ("noise"), or a mid-grey image ("grey"), as
            in the released code.
        eta: noise of DDIM, 0 (deterministic) to 1; the others take 0 only.
        spacing: which timesteps the steps fall on, see `NoiseSchedule.inference_timesteps`; None
            for what diffusers takes: the one that the backbone's scheduler_config.json names, or
            else "linspace" for dpmsolver++ and "leading" for the others.

    Raises:
        InputError: a setting that is none of its choices or out of range.
    """

    sampler: str = "ddim"
    num_steps: int = 50
    guidance_scale: float = 2.0
    start: str = "noise"
    eta: float = 0.0
    spacing: str | None = None

    def __post_init__(self):
        choices = {"sampler": SAMPLERS, "start": STARTS, "spacing": (None, *SPACINGS)}
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise InputError(f"{name} is {value!r}; expected one of {list(allowed)}.")
        if self.num_steps < 1:
            raise InputError(f"num_steps is {self.num_steps}; expected at least 1.")
        if not math.isfinite(self.guidance_scale):
            raise InputError(f"guidance_scale is {self.guidance_scale}; expected a finite number.")
        if not 0.0 <= self.eta <= 1.0 or (self.eta and self.sampler != "ddim"):
            raise InputError(
                f"eta is {self.eta} with {self.sampler}; expected 0 to 1 for ddim, 0 otherwise."
            )

    def replace(self, **changes: Any) -> "Sampling":
        """The same settings but for those that are given and not None.

        Raises:
            TypeError: a name that is no setting.
            InputError: see the class.
        """
        return dataclasses.replace(
            self, **{name: value for name, value in changes.items() if value is not None}
        )

    @property
    def is_guided(self) -> bool:
        """Whether the unconditional half of guidance is computed."""
        return self.guidance_scale != 1.0

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return dataclasses.asdict(self)
