"""Which region matters: shares of attention, measured effects, and the signal that was planted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.metrics.statistics import bootstrap_interval
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.progress import Bar


def planted_influence(
    truth: Mapping[str, np.ndarray], regions: Parcellation
) -> Float[np.ndarray, " p"]:
    """sum over a region's vertices of (signal sd / noise sd)^2, as the subject was made."""
    power = np.square(truth["signal_sd"] / truth["noise_sd"])
    return np.array([power[regions.cortex_indices(i)].sum() for i in range(len(regions))])


def rank_agreement(
    brain_view: Float[np.ndarray, "b p"],
    effects: Mapping[str, Float[np.ndarray, "b p"]],
    influence: Float[np.ndarray, " p"],
    seed: int = 0,
) -> dict[str, Any]:
    """Spearman's correlation over regions, per image and of the means over images.

    Args:
        brain_view: mean over steps.
        effects: name -> from `region_effects`.
        influence: from `planted_influence`.
        seed: of the bootstrap.

    Returns:
        "brain view and NAME", "brain view and planted", "NAME and planted" -> value, interval and
        ``of_means``.
    """

    def per_image(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        rows = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
        mean = spearmanr(a.mean(axis=0), b.mean(axis=0)).statistic
        return bootstrap_interval(np.array(rows), seed) | {"of_means": float(mean)}

    planted = np.broadcast_to(influence, brain_view.shape)
    return {
        **{f"brain view and {name}": per_image(brain_view, x) for name, x in effects.items()},
        "brain view and planted": per_image(brain_view, planted),
        **{f"{name} and planted": per_image(x, planted) for name, x in effects.items()},
    }


def region_effects(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    batch_size: int,
    seed: int,
    sampling: Sampling,
) -> dict[str, Float[np.ndarray, "b p"]]:
    """What every single region does to the noise prediction at the middle denoising step.

    Args:
        pipeline: the model.
        fmri: responses.
        batch_size: images at once.
        seed: of the noise.
        sampling: settings of the sampler.

    Returns:
        "effect": dropping the region alone; "effect alone": keeping it alone; see
        `NeuroAdapterPipeline.effects`.
    """
    count = len(pipeline.regions)
    each, none = np.eye(count, dtype=bool), np.zeros((1, count), np.float32)
    step = sampling.num_steps // 2
    found: dict[str, list[np.ndarray]] = {"effect": [], "effect alone": []}
    batches = list(filled_batches(len(fmri), batch_size))
    for rows, valid in Bar(batches, unit="batch", desc="regions"):
        interpretation = pipeline.interpret(
            fmri[rows], none, sampling, shown=(step,), seed=seed, sample_ids=rows
        )
        for name, own in found.items():
            changes = pipeline.effects(
                fmri[rows],
                interpretation.noisy[0],
                int(interpretation.timesteps[step]),
                each,
                alone=name != "effect",
            )
            own.append(changes.sum(axis=(2, 3))[:valid])
    return {name: np.concatenate(own) for name, own in found.items()}
