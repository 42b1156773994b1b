"""The same maps from other adapters: other seeds of the training, and what has not learned."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Int
from scipy.stats import t as student

from neuroadapter_jax.adapter.neuroadapter import NeuroAdapter
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.metrics.comparisons import correct_family
from neuroadapter_jax.metrics.events import event_share
from neuroadapter_jax.pipeline import NeuroAdapterPipeline

Randomised = Literal["shuffled keys", "untrained"]
RANDOMISED: tuple[Randomised, ...] = ("shuffled keys", "untrained")
TRAINED = "trained"


def randomised(
    pipeline: NeuroAdapterPipeline, how: Randomised, seed: int = 0
) -> NeuroAdapterPipeline:
    """The pipeline with an adapter that cannot know where to look.

    "shuffled keys" permutes the entries of every layer's key matrix, all else as trained;
    "untrained" is an adapter as training starts it. A map that still points at the objects then
    does not come from what was learned (Adebayo et al. 2018, arXiv 1810.03292, the model parameter
    randomisation test).

    Args:
        pipeline: a trained one.
        how: which.
        seed: of the random numbers.

    Raises:
        InputError: an unknown `how`.
    """
    if how not in RANDOMISED:
        raise InputError(f"how is {how!r}; expected one of {list(RANDOMISED)}.")
    config = pipeline.adapter.config
    if how == "untrained":
        adapter = NeuroAdapter(config, rngs=nnx.Rngs(seed))
        if config.token_width == pipeline.backbone.unet.config.cross_attention_dim:
            adapter.attention.start_from_text(pipeline.backbone.unet)
    else:
        adapter, rng = nnx.clone(pipeline.adapter), np.random.default_rng(seed)
        for layer in adapter.attention.to_k_ip:
            kernel = np.asarray(layer.kernel[...])
            layer.kernel[...] = jnp.asarray(rng.permutation(kernel.ravel()).reshape(kernel.shape))
    return NeuroAdapterPipeline(
        adapter,
        pipeline.backbone,
        pipeline.regions,
        backbone_name=pipeline.backbone_name,
        sampling=pipeline.sampling,
        num_candidates=pipeline.num_candidates,
        provenance=pipeline.provenance | {"randomised": how, "randomised_seed": seed},
    )


def objects_found(
    read: Int[np.ndarray, "b slot"], categories: Int[np.ndarray, "b slot"]
) -> dict[str, Any]:
    """Share of the objects whose category is read in the reconstructions, see `event_share`.

    Args:
        read: category read in each slot.
        categories: true category per slot, -1 for empty.
    """
    shown: Bool[np.ndarray, "b slot"] = categories >= 0
    return event_share(((read == categories) & shown).sum(axis=1), shown.sum(axis=1))


def model_table(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What adapters have in common, and which of them point.

    Args:
        found: name -> ``kind`` ("trained", or one of `RANDOMISED`), ``objects`` of
            `objects_found`, ``localisation`` of one way by ROI, see `localisation_tables`.

    Returns:
        ``models``: name -> ``kind``, ``objects`` and the pooled scores, whose tests against the
        controls have ``p_holm`` over all models; ``family``: how many tests these are; and
        ``over_trained``: the mean of the trained ones' scores with `mean_over_runs`' interval.
    """
    models = {
        name: {
            "kind": each["kind"],
            "objects": each["objects"],
            **each["localisation"]["all ROIs"],
        }
        for name, each in found.items()
    }
    above = ("auc_above_mean_map", "auc_above_permuted")
    family = correct_family([each[test] for each in models.values() for test in above])
    trained = [each for each in models.values() if each["kind"] == TRAINED]
    scores = ("pointing", "pointing_over_chance", "auc", *above)
    over = {name: mean_over_runs([each[name]["value"] for each in trained]) for name in scores}
    return {"models": models, "family": family, "over_trained": over}


def mean_over_runs(values: Sequence[float]) -> dict[str, Any]:
    """Mean over runs of different seeds, with Student's interval of 95 %.

    Args:
        values: one per run.

    Returns:
        ``value``, ``interval`` (None for a single run) and ``runs``.

    Examples:
        >>> from neuroadapter_jax.studies.attention_truth.models import mean_over_runs
        >>> mean_over_runs([0.5])
        {'value': 0.5, 'interval': None, 'runs': 1}
    """
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return {"value": mean, "interval": None, "runs": 1}
    reach = float(student.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return {"value": mean, "interval": [mean - reach, mean + reach], "runs": n}
