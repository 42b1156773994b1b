"""The forward (noising) process of DDPM, and the timesteps of its reverse."""

from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuroadapter_jax.diffusion.sampling import Spacing
from neuroadapter_jax.errors import InputError

_CHOICES = {
    "beta_schedule": ("scaled_linear", "linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "timestep_spacing": (None, *get_args(Spacing)),
    "final_sigmas_type": ("zero", "sigma_min"),
}


@dataclass(frozen=True)
class NoiseSchedule:
    """The noising process x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, and its timesteps.

    abar_t = prod_{s<=t} (1 - beta_s) (Ho et al. 2020, arXiv 2006.11239, eq. 4). beta_t runs from
    beta_start to beta_end, linearly ("linear") or linearly in its square root ("scaled_linear",
    Stable Diffusion's choice); or abar_t follows the squared cosine of Nichol and Dhariwal 2021
    (arXiv 2102.09672, eq. 17; "squaredcos_cap_v2").

    The fields are those of a scheduler_config.json and mean what they mean to diffusers' schedulers
    of the samplers' names; `config_files.read_schedule` reads one.

    Attributes:
        num_train_timesteps: T; timesteps run from 0 to T - 1.
        prediction_type: what the U-Net predicts: "epsilon", "sample" (x_0), or "v_prediction" with
            v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho 2022, arXiv 2202.00512).
        steps_offset: added to the inference timesteps (1 in Stable Diffusion).
        set_alpha_to_one: whether the step past the last one has abar = 1 (DDIM).
        trained_betas: T betas in place of the formula.
        rescale_betas_zero_snr: abar shifted and scaled so that its last is 0 (Lin et al. 2024,
            arXiv 2305.08891, algorithm 1).
        timestep_spacing: see `inference_timesteps`; None for each sampler's own.
        clip_sample: whether DDPM and DDIM clip x_0 to +- clip_sample_range.
        final_sigmas_type: where DPM-Solver++ ends: at no noise ("zero") or at timestep 0's
            ("sigma_min").
        lower_order_final, euler_at_final: whether it ends with a step of first order there, the
            former below 15 steps only.
        refused: (sampler, why its steps are not computed here), of what the file says for it alone.
        beta_start: the first beta, above 0 and below 1.
        beta_end: the last beta, above 0 and below 1.
        beta_schedule: "scaled_linear", "linear" or "squaredcos_cap_v2".
        clip_sample_range: bound of x_0 where it is clipped, above 0.

    Raises:
        InputError: a choice that is none of its values, or a number out of its range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
        >>> schedule = NoiseSchedule()  # Stable Diffusion's
        >>> [round(float(abar), 3) for abar in schedule.alphas_cumprod[[0, 500, 999]]]
        [0.999, 0.276, 0.005]
        >>> schedule.inference_timesteps(5).tolist()
        [801, 601, 401, 201, 1]
        >>> snr = schedule.snr(jnp.array([0, 999]))
        >>> bool(snr[0] > 1000 and snr[1] < 0.01)
        True
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    steps_offset: int = 1
    set_alpha_to_one: bool = False
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    timestep_spacing: str | None = None
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    final_sigmas_type: str = "zero"
    lower_order_final: bool = True
    euler_at_final: bool = False
    refused: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        for name, allowed in _CHOICES.items():
            if (value := getattr(self, name)) not in allowed:
                raise InputError(
                    f"Noise schedule: {name} is {value!r}; expected one of {list(allowed)}."
                )
        given = self.trained_betas
        betas = [("beta_start", self.beta_start), ("beta_end", self.beta_end)]
        for name, beta in betas + [("trained_betas", beta) for beta in given or ()]:
            if not 0.0 < beta < 1.0:
                found = f"holds {beta}" if name == "trained_betas" else f"is {beta}"
                raise InputError(
                    f"Noise schedule: {name} {found}; expected betas above 0 and below 1."
                )
        if self.num_train_timesteps < 2 or len(given or range(self.num_train_timesteps)) != (
            self.num_train_timesteps
        ):
            raise InputError(
                f"Noise schedule: num_train_timesteps is {self.num_train_timesteps} and "
                f"trained_betas has {len(given or ())} values; expected at least 2, and as many "
                "betas where there are any."
            )
        if self.steps_offset < 0 or not self.clip_sample_range > 0.0:
            raise InputError(
                f"Noise schedule: steps_offset is {self.steps_offset} and clip_sample_range "
                f"{self.clip_sample_range}; expected at least 0, and a number above 0."
            )

    def _betas(self) -> Float[np.ndarray, " t"]:
        n = self.num_train_timesteps
        if self.trained_betas is not None:
            return np.asarray(self.trained_betas, np.float64)
        if self.beta_schedule == "scaled_linear":
            return np.linspace(self.beta_start**0.5, self.beta_end**0.5, n) ** 2
        if self.beta_schedule == "linear":
            return np.linspace(self.beta_start, self.beta_end, n)
        abar = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - abar[1:] / abar[:-1], 0.999)

    @cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " t"]:
        """abar_t for t = 0 ... T - 1, float32."""
        abar = np.cumprod(1.0 - self._betas())
        if self.rescale_betas_zero_snr:
            signal = np.sqrt(abar)
            abar = ((signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])) ** 2
        return abar.astype(np.float32)

    def _at(self, timesteps: Int[Array, " b"], like: Array) -> tuple[Array, Array]:
        abar = self._abar(timesteps)
        abar = abar.reshape(abar.shape + (1,) * (like.ndim - abar.ndim))
        return abar**0.5, (1.0 - abar) ** 0.5

    def _abar(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        return jnp.asarray(self.alphas_cumprod)[timesteps]

    def snr(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """Signal-to-noise ratio abar_t / (1 - abar_t) of timesteps 0 to T - 1."""
        abar = self._abar(timesteps)
        return abar / (1.0 - abar)

    def add_noise(
        self, x: Float[Array, "b *s"], noise: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps.

        Args:
            x: clean x_0.
            noise: unit noise eps of the same shape.
            timesteps: one t per sample, 0 to T - 1.
        """
        signal, sigma = self._at(timesteps, x)
        return signal * x + sigma * noise

    def target(
        self, x: Float[Array, "b *s"], noise: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """What the U-Net should predict at x_t: eps, x_0 or v, as `prediction_type` says.

        Args:
            x: clean x_0.
            noise: the unit noise eps that x_t was made with.
            timesteps: one t per sample, 0 to T - 1.
        """
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "sample":
            return x
        signal, sigma = self._at(timesteps, x)
        return signal * noise - sigma * x

    def predicted_clean(
        self, x: Float[Array, "b *s"], output: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """The x_0 that the U-Net's output at x_t implies.

        Args:
            x: noisy x_t.
            output: what the U-Net predicts there.
            timesteps: one t per sample, 0 to T - 1.
        """
        if self.prediction_type == "sample":
            return output
        signal, sigma = self._at(timesteps, x)
        if self.prediction_type == "epsilon":
            return (x - sigma * output) / signal
        return signal * x - sigma * output

    def inference_timesteps(
        self, num_steps: int, spacing: str = "leading", *, beyond: bool = False
    ) -> Int[np.ndarray, " t"]:
        """Descending timesteps, as diffusers' schedulers take them.

        With T training timesteps, n steps, i = n - 1 ... 0 and j = i, m = n, or one further with
        `beyond` (j = i + 1, m = n + 1)::

            "leading"    floor(T / m) j + steps_offset
            "linspace"   round((T - 1) j / (m - 1))
            "trailing"   round(T (i + 1) / n) - 1

        Args:
            num_steps: the number n of steps, 1 to T.
            spacing: which rule; Lin et al. 2024 (arXiv 2305.08891), table 2.
            beyond: whether the end of the last step counts among the timesteps (DPM-Solver++).

        Raises:
            InputError: num_steps out of range, or so high that timesteps repeat or pass T - 1.
        """
        total = self.num_train_timesteps
        if not 1 <= num_steps <= total:
            raise InputError(f"num_steps is {num_steps}; expected 1 to {total}.")
        points = num_steps + beyond
        steps: np.ndarray
        if spacing == "leading":
            steps = np.arange(points)[::-1] * (total // points) + self.steps_offset
        elif spacing == "linspace":
            steps = np.linspace(0, total - 1, points).round()[::-1]
        else:
            steps = np.arange(total, 0, -total / num_steps).round() - 1
        steps = steps[:num_steps].astype(np.int32)
        if np.any(np.diff(steps) >= 0) or steps[0] >= total or steps[-1] < 0:
            raise InputError(
                f"num_steps is {num_steps}, at which {spacing} timesteps run from {steps[0]} to "
                f"{steps[-1]} and repeat or leave 0 to {total - 1}; take fewer steps or another "
                f"spacing ({', '.join(get_args(Spacing))})."
            )
        return steps
