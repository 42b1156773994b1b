"""How images are sampled: one set of settings for training, exports, calls, folders and flags."""

import dataclasses
import difflib
from typing import Annotated, Any, Literal, get_args

from neuroadapter_jax.ranges import Count, NonNegative, Positive, SettingError, Share, check_fields

Sampler = Literal["ddpm", "ddim", "dpmsolver++", "lcm"]
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
            arXiv 2010.02502); "dpmsolver++", of second order, which needs few steps (Lu et al.
            2022, arXiv 2211.01095); or "lcm", for models that were distilled for 1 to 8 steps (Luo
            et al. 2023, arXiv 2310.04378), see docs/few-steps.md.
        num_steps: denoising steps, 1 to the schedule's number of timesteps.
        guidance_scale: g of classifier-free guidance, eps_uncond + g (eps_cond - eps_uncond); 1 is
            none.
        start: what lies under the first noise: nothing ("noise"), or a mid-grey image ("grey"), as
            in the released code.
        eta: noise of DDIM, 0 (deterministic) to 1; the others take 0 only.
        spacing: which timesteps the steps fall on, "leading", "linspace" or "trailing", see
            `NoiseSchedule.inference_timesteps`; None for what diffusers takes: the one that the
            backbone's scheduler_config.json names, or else "linspace" for dpmsolver++ and "leading"
            for the others. lcm has timesteps of its own, and takes None or "trailing" only.
        guidance_low: guidance is computed only at noise levels above this one and at most
            guidance_high, where the noise level is sigma = sqrt((1 - abar) / abar), 0.03 to 14.6
            in Stable Diffusion; elsewhere the prediction is the conditional one, which costs half
            (Kynkäänniemi et al. 2024, arXiv 2404.07724). 0 for no lower end.
        guidance_high: see guidance_low; None for no upper end.

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
        sampler is 'euler'; expected one of ['ddpm', 'ddim', 'dpmsolver++', 'lcm'].
    """

    sampler: Sampler = "ddim"
    num_steps: Count = 50
    guidance_scale: float = 2.0
    start: Start = "noise"
    eta: Share = 0.0
    spacing: Spacing | Annotated[None, "for diffusers' own"] = None
    guidance_low: NonNegative = 0.0
    guidance_high: Positive | Annotated[None, "for no upper end"] = None

    def __post_init__(self):
        check_fields(self)
        if self.sampler == "lcm" and self.spacing not in (None, "trailing"):
            raise SettingError(
                "spacing", self.spacing, "none with lcm, which has its own timesteps"
            )
        if self.guidance_high is not None and self.guidance_high <= self.guidance_low:
            wanted = f"above guidance_low, which is {self.guidance_low}"
            raise SettingError("guidance_high", self.guidance_high, wanted)
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
        """The settings as JSON values, the interval of guidance only where there is one.

        So folders that were written before there were intervals hold the same settings.
        """
        values = dataclasses.asdict(self)
        if self.guidance_low == 0.0 and self.guidance_high is None:
            del values["guidance_low"], values["guidance_high"]
        return values
