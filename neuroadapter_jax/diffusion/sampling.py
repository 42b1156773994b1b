"""How images are sampled: one set of settings for training, exports, calls, folders and flags."""

import dataclasses
import difflib
from typing import Annotated, Any, Literal, get_args

from neuroadapter_jax.ranges import Count, SettingError, Share, check_fields

Sampler = Literal["ddpm", "ddim", "dpmsolver++"]
Start = Literal["noise", "grey"]
Spacing = Literal["leading", "linspace", "trailing"]
SAMPLERS: tuple[str, ...] = get_args(Sampler)
STARTS: tuple[str, ...] = get_args(Start)
SPACINGS: tuple[str, ...] = get_args(Spacing)


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the reverse process: which sampler, how many steps, how much guidance.

    Attributes:
        sampler: "ddpm", ancestral (Ho et al. 2020, arXiv 2006.11239); "ddim" (Song et al. 2021,
            arXiv 2010.02502); or "dpmsolver++", of second order, which needs the fewest steps (Lu
            et al. 2022, arXiv 2211.01095).
        num_steps: denoising steps, 1 to the schedule's number of timesteps.
        guidance_scale: g of classifier-free guidance, eps_uncond + g (eps_cond - eps_uncond); 1 is
            none.
        start: what lies under the first noise: nothing ("noise"), or a mid-grey image ("grey"), as
            in the released code.
        eta: noise of DDIM, 0 (deterministic) to 1; the others take 0 only.
        spacing: which timesteps the steps fall on, "leading", "linspace" or "trailing", see
            `NoiseSchedule.inference_timesteps`; None for what diffusers takes: the one that the
            backbone's scheduler_config.json names, or else "linspace" for dpmsolver++ and "leading"
            for the others.

    Raises:
        SettingError: a setting that is none of its choices or out of range.

    Examples:
        >>> from neuroadapter_jax import Sampling
        >>> sampling = Sampling("dpmsolver++", num_steps=20, guidance_scale=4.0)
        >>> sampling.replace(num_steps=10).num_steps, sampling.is_guided
        (10, True)
        >>> try:
        ...     Sampling("euler")
        ... except ValueError as error:
        ...     print(error)
        sampler is 'euler'; expected one of ['ddpm', 'ddim', 'dpmsolver++'].
    """

    sampler: Sampler = "ddim"
    num_steps: Count = 50
    guidance_scale: float = 2.0
    start: Start = "noise"
    eta: Share = 0.0
    spacing: Spacing | Annotated[None, "for diffusers' own"] = None

    def __post_init__(self):
        check_fields(self)
        if self.eta and self.sampler != "ddim":
            raise SettingError("eta", self.eta, f"0 with {self.sampler}; ddim alone takes others")

    def replace(self, **changes: Any) -> "Sampling":
        """The same settings but for those that are given and not None.

        Raises:
            TypeError: a name that is no setting.
            SettingError: a setting that is none of its choices or out of range.
        """
        known = [field.name for field in dataclasses.fields(self)]
        if unknown := [name for name in changes if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"Sampling has no {unknown[0]!r}, but {', '.join(known)}{hint}")
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
