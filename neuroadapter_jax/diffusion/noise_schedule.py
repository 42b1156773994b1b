"""The forward (noising) process of DDPM with Stable Diffusion's scaled-linear betas."""

from dataclasses import dataclass
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuroadapter_jax.errors import InputError


@dataclass(frozen=True)
class NoiseSchedule:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, with abar_t = prod_{s<=t} (1 - beta_s).

    beta_t runs from beta_start to beta_end, linearly ("linear") or linearly in its square root
    ("scaled_linear", Stable Diffusion's choice).

    Attributes:
        num_train_timesteps: T; timesteps run from 0 to T - 1.
        prediction_type: what the U-Net predicts: "epsilon", or "v_prediction" with
            v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho 2022, arXiv 2202.00512).
        steps_offset: added to the inference timesteps (1 in Stable Diffusion).
        set_alpha_to_one: whether the step past the last one has abar = 1 (DDIM).
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    prediction_type: str = "epsilon"
    steps_offset: int = 1
    set_alpha_to_one: bool = False

    def __post_init__(self):
        for name, allowed in (
            ("beta_schedule", ("scaled_linear", "linear")),
            ("prediction_type", ("epsilon", "v_prediction")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"Noise schedule: {name} is {getattr(self, name)!r}; "
                    f"expected one of {list(allowed)}."
                )

    @cached_property
    def alphas_cumprod(self) -> Float[np.ndarray, " t"]:
        """abar_t for t = 0 ... T - 1, float32."""
        n = self.num_train_timesteps
        if self.beta_schedule == "scaled_linear":
            betas = np.linspace(self.beta_start**0.5, self.beta_end**0.5, n) ** 2
        else:
            betas = np.linspace(self.beta_start, self.beta_end, n)
        return np.cumprod(1.0 - betas).astype(np.float32)

    def _at(self, timesteps: Int[Array, " b"], like: Array) -> tuple[Array, Array]:
        abar = self._abar(timesteps)
        abar = abar.reshape(abar.shape + (1,) * (like.ndim - abar.ndim))
        return abar**0.5, (1.0 - abar) ** 0.5

    def _abar(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        return jnp.asarray(self.alphas_cumprod)[timesteps]

    def snr(self, timesteps: Int[Array, " b"]) -> Float[Array, " b"]:
        """Signal-to-noise ratio abar_t / (1 - abar_t)."""
        abar = self._abar(timesteps)
        return abar / (1.0 - abar)

    def add_noise(
        self, x: Float[Array, "b *s"], noise: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """x_t of clean x_0 and unit noise."""
        signal, sigma = self._at(timesteps, x)
        return signal * x + sigma * noise

    def target(
        self, x: Float[Array, "b *s"], noise: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """What the U-Net should predict at x_t."""
        if self.prediction_type == "epsilon":
            return noise
        signal, sigma = self._at(timesteps, x)
        return signal * noise - sigma * x

    def predicted_clean(
        self, x: Float[Array, "b *s"], output: Float[Array, "b *s"], timesteps: Int[Array, " b"]
    ) -> Float[Array, "b *s"]:
        """x_0 that the U-Net's output at x_t implies."""
        signal, sigma = self._at(timesteps, x)
        if self.prediction_type == "epsilon":
            return (x - sigma * output) / signal
        return signal * x - sigma * output

    def inference_timesteps(
        self, num_steps: int, spacing: str = "leading"
    ) -> Int[np.ndarray, " t"]:
        """Descending timesteps of DDPM and DDIM, as diffusers' schedulers take them.

        With T training timesteps, n steps and i = n - 1 ... 0:
        "leading" floor(T / n) i + steps_offset; "linspace" round((T - 1) i / (n - 1));
        "trailing" round(T (i + 1) / n) - 1.

        Args:
            num_steps: n, 1 to T.
            spacing: see above; Lin et al. 2024 (arXiv 2305.08891), table 2.

        Raises:
            InputError: num_steps out of range.
        """
        total = self.num_train_timesteps
        if not 1 <= num_steps <= total:
            raise InputError(f"num_steps is {num_steps}; expected 1 to {total}.")
        steps: np.ndarray
        if spacing == "leading":
            steps = np.arange(num_steps)[::-1] * (total // num_steps) + self.steps_offset
        elif spacing == "linspace":
            steps = np.linspace(0, total - 1, num_steps).round()[::-1]
        else:
            steps = (total - np.arange(num_steps) * (total / num_steps)).round() - 1
        return np.minimum(steps, total - 1).astype(np.int32)
