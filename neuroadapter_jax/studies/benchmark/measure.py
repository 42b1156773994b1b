"""Cases, sizes, and the two kinds of measurement: alternating times, and each side's memory."""

import dataclasses
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from neuroadapter_jax.abstract import abstract_network
from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.text_encoder import CLIPTextConfig, CLIPTextModel
from neuroadapter_jax.diffusion.unet import UNet2DConditionModel, UNetConfig
from neuroadapter_jax.diffusion.vae import AutoencoderConfig, AutoencoderKL
from neuroadapter_jax.diffusion.weights import Backbone, random_parameters
from neuroadapter_jax.studies.benchmark.ours import Ours

Module = TypeVar("Module", bound=nnx.Module)

GUIDANCE = 4.0
NUM_CANDIDATES = 8
# Candidates take this share of the steps, for the time of the measurement.
CANDIDATE_STEPS = 0.2
CASES = ("forward", "gradient", "train step", "reconstruct", "attention kept", "8 candidates")


@dataclass(frozen=True)
class Size:
    """One size of the comparison.

    Attributes:
        unet, vae, text: the networks.
        num_regions: p.
        max_vertices: v.
        batch: samples of a forward pass or a training step.
        reconstructions: responses that are reconstructed at once.
    """

    unet: UNetConfig
    vae: AutoencoderConfig
    text: CLIPTextConfig
    num_regions: int
    max_vertices: int
    batch: int
    reconstructions: int


SIZES = {
    "tiny-sd": Size(
        UNetConfig(
            sample_size=16,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            block_out_channels=(64, 128),
            layers_per_block=1,
            cross_attention_dim=64,
            attention_head_dim=4,
            norm_num_groups=16,
        ),
        AutoencoderConfig(
            block_out_channels=(32, 48, 64), layers_per_block=1, norm_num_groups=16, sample_size=64
        ),
        CLIPTextConfig(727, 64, 256, 3, 4, 24),
        num_regions=80,
        max_vertices=32,
        batch=16,
        reconstructions=4,
    ),
    "middle": Size(
        UNetConfig(sample_size=32, block_out_channels=(96, 192, 384, 384)),
        AutoencoderConfig(
            block_out_channels=(32, 64, 128, 128), norm_num_groups=32, sample_size=256
        ),
        CLIPTextConfig(),
        num_regions=200,
        max_vertices=128,
        batch=2,
        reconstructions=2,
    ),
    "sd15": Size(
        UNetConfig(),
        AutoencoderConfig(),
        CLIPTextConfig(),
        num_regions=200,
        max_vertices=626,
        batch=1,
        reconstructions=1,
    ),
}


def networks(
    size: Size, unet_dtype: Any = jnp.float32
) -> tuple[Backbone, NeuroAdapter, np.ndarray]:
    """Random networks of a size, and the token ids of an empty prompt."""

    def random(build: Callable[[nnx.Rngs], Module], seed: int, dtype: Any = jnp.float32) -> Module:
        return random_parameters(abstract_network(build), seed, dtype)

    backbone = Backbone(
        random(lambda rngs: UNet2DConditionModel(size.unet, rngs=rngs), 0, unet_dtype),
        random(lambda rngs: AutoencoderKL(size.vae, rngs=rngs), 1),
        random(lambda rngs: CLIPTextModel(size.text, rngs=rngs), 2),
        NoiseSchedule(),
        Path(),
    )
    adapter = NeuroAdapter.for_unet(
        backbone.unet, size.num_regions, size.max_vertices, rngs=nnx.Rngs(3)
    )
    ids = np.full((1, size.text.max_position_embeddings), size.text.vocab_size - 1, np.int32)
    ids[0, 0] -= 1
    return backbone, adapter, ids


def cases(
    size: Size,
    num_steps: int,
    folder: Path,
    sides: tuple[str, ...],
    unet_dtype: Any = jnp.float32,
) -> dict[str, dict]:
    """case -> side -> a call that returns once its result is there."""
    backbone, adapter, ids = networks(size, unet_dtype)
    rng = np.random.default_rng(4)
    side = size.unet.sample_size
    latents = rng.standard_normal((size.batch, side, side, 4), np.float32)
    timesteps = rng.integers(0, 1000, size.batch).astype(np.int32)
    packed = rng.standard_normal((size.batch, size.num_regions, size.max_vertices), np.float32)
    pixels = size.vae.sample_size
    images = rng.integers(0, 256, (size.batch, pixels, pixels, 3), np.uint8)
    responses = rng.standard_normal(
        (size.reconstructions, size.num_regions, size.max_vertices), np.float32
    )
    candidates = np.repeat(responses[:1], NUM_CANDIDATES, axis=0)
    few = max(1, round(CANDIDATE_STEPS * num_steps))
    calls: dict[str, dict[str, Callable[[], Any]]] = {case: {} for case in CASES}
    if "ours" in sides:
        # One program over all devices, as the commands run it.
        count = math.gcd(size.batch, size.reconstructions, jax.device_count())
        ours = Ours(backbone, adapter, ids, jax.devices()[:count])
        batch: dict[str, np.ndarray] = {
            "betas": packed.reshape(size.batch, -1).astype(np.float16),
            "latent_mean": latents,
            "latent_std": np.full_like(latents, 0.1),
        }
        wait = jax.block_until_ready
        calls["forward"]["ours"] = lambda: wait(ours.predict(latents, timesteps, packed))
        calls["gradient"]["ours"] = lambda: wait(ours.gradient(latents, timesteps, packed))
        calls["train step"]["ours"] = lambda: wait(ours.train_step(batch))
        calls["reconstruct"]["ours"] = lambda: ours.reconstruct(responses, num_steps, GUIDANCE)
        calls["attention kept"]["ours"] = lambda: ours.reconstruct(
            responses, num_steps, GUIDANCE, True
        )
        calls["8 candidates"]["ours"] = lambda: ours.reconstruct(candidates, few, GUIDANCE)
    parts = (backbone, adapter, ids)
    arrays = Inputs(latents, timesteps, packed, images, responses, candidates)
    for other in (name for name in sides if name != "ours"):
        for case, call in _calls_of_pytorch(parts, arrays, other, num_steps, folder).items():
            calls[case][other] = call
    return calls


class Inputs(NamedTuple):
    """What a side is called with, the same for all."""

    latents: np.ndarray
    timesteps: np.ndarray
    packed: np.ndarray
    images: np.ndarray
    responses: np.ndarray
    candidates: np.ndarray


def _calls_of_pytorch(
    networks: tuple[Backbone, NeuroAdapter, np.ndarray],
    arrays: Inputs,
    side: str,
    num_steps: int,
    folder: Path,
) -> dict[str, Callable[[], Any]]:
    """case -> a call of plain PyTorch, or of PyTorch "tuned" by torch.compile and channels_last."""
    import torch

    from neuroadapter_jax.studies.benchmark.released import Released

    latents, timesteps, packed, images, responses, candidates = arrays
    few = max(1, round(CANDIDATE_STEPS * num_steps))
    theirs = Released(*networks, tuned=side == "tuned")
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(latents, -1, 1)))
    t, brain = torch.from_numpy(timesteps), torch.from_numpy(packed)
    text = theirs.empty_prompt(1)

    def forward():
        with torch.no_grad():
            return theirs.predict(x, t, brain, text)

    def gradient():
        theirs.predict(x, t, brain, text).square().mean().backward()
        theirs.optimizer.zero_grad()

    return {
        "forward": forward,
        "gradient": gradient,
        "train step": lambda: theirs.train_step(images, packed),
        "reconstruct": lambda: theirs.reconstruct(responses, num_steps, GUIDANCE),
        "attention kept": lambda: theirs.reconstruct(responses, num_steps, GUIDANCE, folder),
        "8 candidates": lambda: theirs.reconstruct(candidates, few, GUIDANCE),
    }


def alternate(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each side, called in turn; the first call, which compiles, is apart."""
    seconds: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(repeats + 1):
        for side, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[side].append(time.perf_counter() - start)
    return {
        side: {
            "first": values[0],
            "median": float(np.median(values[1:])),
            "low": min(values[1:]),
            "high": max(values[1:]),
        }
        for side, values in seconds.items()
    }


def measure_apart(
    size: str,
    case: str,
    side: str,
    num_steps: int,
    precision: str = "fp32",
    num_calls: int = 1,
) -> dict[str, float]:
    """A case run in its own process (Linux).

    Args:
        size: name of the size.
        case: of `CASES`.
        side: "ours", "theirs", or "tuned", theirs at its best.
        num_steps: denoising steps.
        precision: "fp32", or "bf16" for a frozen U-Net of ours in bfloat16.
        num_calls: the first one compiles.

    Returns:
        gib: the most that the process held; seconds: of the last call.
    """
    arguments = [size, case, side, str(num_steps), precision, str(num_calls)]
    command = [sys.executable, "-m", __name__, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measure_apart(
    size: str, case: str, side: str, num_steps: str, precision: str, num_calls: str
) -> None:
    dtype = {"fp32": jnp.float32, "bf16": jnp.bfloat16}[precision]
    with tempfile.TemporaryDirectory() as folder:
        call = cases(SIZES[size], int(num_steps), Path(folder), (side,), dtype)[case][side]
        for _ in range(int(num_calls)):
            start = time.perf_counter()
            call()
            seconds = time.perf_counter() - start
    # Not getrusage: on Linux its peak outlives exec, so a child reports its parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"gib": kilobytes / 2**20, "seconds": seconds}))


def describe(size: Size) -> dict[str, Any]:
    """The size as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(size)))


if __name__ == "__main__":
    _measure_apart(*sys.argv[1:])
