"""What one way of sampling costs, how far its images depend on the seed, and what it attends to."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.stats import spearmanr

from neuroadapter_jax.diffusion.noise_schedule import NoiseSchedule
from neuroadapter_jax.diffusion.samplers import plan
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.pipeline import NeuroAdapterPipeline


def passes(schedule: NoiseSchedule, sampling: Sampling) -> int:
    """How often the U-Net sees a sample on its way: once a step, and once more where it is guided.

    Args:
        schedule: of the model.
        sampling: the sampler's settings.
    """
    guided = plan(schedule, sampling).guided.sum() if sampling.is_guided else 0
    return sampling.num_steps + int(guided)


def other_seeds(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    sampling: Sampling,
    seeds: range,
) -> tuple[UInt8[np.ndarray, "k b y x c"], dict[str, float]]:
    """Reconstructions of the same responses from other seeds, and the seconds that an image takes.

    Args:
        pipeline: of the model.
        fmri: responses of the whole cortex.
        sampling: the sampler's settings.
        seeds: of the noise.

    Returns:
        The images of each seed, and {"seconds", "processor_seconds"} per image: the least of all
        calls but the first, which may compile; processor seconds are those of all cores together.
    """
    images: list[np.ndarray] = []
    wall: list[float] = []
    processor: list[float] = []
    for seed in (seeds[0], *seeds):
        start, begun = time.perf_counter(), time.process_time()
        images.append(pipeline(fmri, sampling, num_candidates=1, seed=seed)[:, 0])
        wall.append((time.perf_counter() - start) / len(fmri))
        processor.append((time.process_time() - begun) / len(fmri))
    seconds = {"seconds": min(wall[1:]), "processor_seconds": min(processor[1:])}
    return np.stack(images[1:]), seconds


def seed_variance(images: UInt8[np.ndarray, "k b y x c"], seed: int = 0) -> dict[str, Any]:
    """Variance over seeds within a stimulus, relative to the variance between stimuli.

    With x_ki image k of stimulus i, pixels as numbers, and k = 1 ... K, i = 1 ... N::

        within_i = mean over pixels of 1/(K-1) sum_k (x_ki - mean_k x_ki)^2
        between_i = mean over pixels of N/(N-1) (mean_k x_ki - mean_ki x_ki)^2 - within_i / K
        value = sum_i within_i / sum_i between_i

    0 is a reconstruction that the response alone decides. The term with 1 / K takes out of the
    means' variance what they have from the seeds.

    Args:
        images: of K >= 2 seeds and N >= 2 stimuli.
        seed: of the bootstrap over stimuli.

    Returns:
        "value" and "interval", see `bootstrap_ratio`; None for both where stimuli differ by no more
        than the seeds explain.

    Raises:
        InputError: fewer than two seeds or stimuli.
    """
    num_seeds, num_stimuli = images.shape[:2]
    if min(num_seeds, num_stimuli) < 2:
        raise InputError(
            f"{num_seeds} seed(s) of {num_stimuli} stimuli; expected at least two of both."
        )
    pixels = images.reshape(num_seeds, num_stimuli, -1).astype(np.float64) / 255.0
    means = pixels.mean(axis=0)
    within = pixels.var(axis=0, ddof=1).mean(axis=1)
    spread = np.square(means - means.mean(axis=0)).mean(axis=1) * num_stimuli / (num_stimuli - 1)
    between = spread - within / num_seeds
    if between.sum() <= 0:
        return {"value": None, "interval": None}
    return bootstrap_ratio(within, between, seed)


def brain_views(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    sampling: Sampling,
    seed: int,
    sample_ids: Int[np.ndarray, " b"],
) -> Float[np.ndarray, "b p"]:
    """Each region's share of the attention, mean over the denoising steps.

    Args:
        pipeline: of the model.
        fmri: responses of the whole cortex.
        sampling: the sampler's settings.
        seed: of the noise.
        sample_ids: numbers that name the samples' noise.
    """
    none = np.zeros((1, len(pipeline.regions)), np.float32)
    views = pipeline.interpret(fmri, none, sampling, seed=seed, sample_ids=sample_ids).views
    return np.asarray(views.brain).mean(axis=0)


def agreement(
    brain: Float[np.ndarray, "b p"], reference: Float[np.ndarray, "b p"], seed: int = 0
) -> dict[str, Any]:
    """Spearman's correlation over regions of two brain views, mean over images.

    Args:
        brain: shares of the regions.
        reference: of the same images and regions.
        seed: of the bootstrap over images.

    Returns:
        "value" and "interval", and "of_means": of the views' means over images.
    """
    each = [spearmanr(a, b).statistic for a, b in zip(brain, reference, strict=True)]
    means = spearmanr(brain.mean(axis=0), reference.mean(axis=0)).statistic
    return bootstrap_interval(np.array(each), seed) | {"of_means": float(means)}


def paired(
    one: Mapping[str, Any], other: Mapping[str, Any], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Every score of one way of sampling less that of another, images resampled together.

    Args:
        one: score -> (sums over images above, below), see `studies.decoders.scores`.
        other: the same of the other.
        seed: of the bootstrap.
    """
    return {
        name: bootstrap_ratio(over - other[name][0], under, seed)
        for name, (over, under) in one.items()
    }
