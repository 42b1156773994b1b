"""The cells that ask where attention goes, and what silencing regions takes away."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.cortex.parcellation import Parcellation
from neuroadapter_jax.cortex.selection import region_snr
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.ibbi.roi import ROIAssignment, assign_regions
from neuroadapter_jax.ibbi.views import relative_entropy
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.simulation.truth import load_truth
from neuroadapter_jax.studies.attention_truth.maps import CATEGORY_OF_ROI, category_masks
from neuroadapter_jax.studies.claims.cells import FULL, Cell
from neuroadapter_jax.studies.claims.images import BATCH, of_all, reconstruct
from neuroadapter_jax.studies.claims.models import Work
from neuroadapter_jax.studies.interpretation import subject_rois
from neuroadapter_jax.studies.localisation import enlarge, roc_auc

NUM_STEPS = 19  # as in docs/does-attention-tell-the-truth.md
EARLY, SCENE = ("V1", "V2", "V3", "V4"), "Scene"
NUM_CONTROLS = 3
# A region's control lies in the same hemisphere, and differs by at most so much.
SNR_CALIPER, SIZE_CALIPER = 0.1, 1.5
# A set is matched where so much of it is, and the means of SNR differ by no more than the caliper.
LEAST_MATCHED = 0.5


def rois_of(work: Work, regions: Parcellation) -> ROIAssignment:
    """Each region in the ROI that holds most of its labelled vertices."""
    subject = int(PreparedDataset(work.plan.prepared, "test").provenance["request"]["subject"])
    masks = subject_rois(work.root, subject, ("simulated-vtc",))
    return assign_regions(regions, masks, threshold=0.0)


def run_attention(work: Work, cell: Cell) -> dict[str, Any]:
    """Attention by area, by step and by place.

    "higher_over_early": log of the mean share of a region in a higher area over that of one in V1
    to V4, per image. "entropy": of category areas' maps, 1 where they look everywhere.
    "beyond_habit": AUC of each area's map for what it is for, an object of its category, or for
    Scene the pixels of no object, less that of the area's mean map over all images; null where an
    image shows none. The last two per image, in the "first" and the "last" third of the steps;
    "curves" are means over images by step.
    """
    test, pipeline = work.test, work.adapter(FULL, cell.seed)
    rois = rois_of(work, pipeline.regions)
    brain, maps = _views(work, pipeline, rois, cell.seed)
    members = dict(zip(rois.names, rois.members, strict=True))
    early = np.any([members[name] for name in EARLY if name in members], axis=0)
    areas = [name for name in (*CATEGORY_OF_ROI, SCENE) if members.get(name, early * 0).any()]
    higher = np.any([members[name] for name in areas], axis=0)
    ratio = np.log(brain[..., higher].mean(axis=-1) / brain[..., early].mean(axis=-1))
    masks = category_masks(load_truth(work.root), test.ids)
    wanted = {name: masks[CATEGORY_OF_ROI[name]] for name in areas if name != SCENE}
    wanted[SCENE] = ~np.any(list(masks.values()), axis=0)
    entropy, auc, gain = [], {}, {}
    for name in areas:
        own = maps[:, :, rois.names.index(name)]
        if name != SCENE:
            flat = own.reshape(*own.shape[:2], -1)
            entropy.append(np.asarray(relative_entropy(flat)))
        auc[name] = np.stack([_auc(step, wanted[name]) for step in own])
        means = [np.tile(step.mean(axis=0), (len(step), 1, 1)) for step in own]
        gain[name] = auc[name] - np.stack([_auc(mean, wanted[name]) for mean in means])
    spread = np.mean(entropy, axis=0)
    return {
        "regions": {name: int(own.sum()) for name, own in members.items()},
        "higher_over_early": ratio.mean(axis=0).tolist(),
        "entropy": _thirds(spread),
        "beyond_habit": {name: _thirds(x) for name, x in gain.items()},
        "curves": {
            "higher_over_early": ratio.mean(axis=1).tolist(),
            "entropy": spread.mean(axis=1).tolist(),
            "auc": {name: _by_step(x) for name, x in auc.items()},
            "beyond_habit": {name: _by_step(x) for name, x in gain.items()},
        },
    }


def _views(
    work: Work, pipeline: NeuroAdapterPipeline, rois: ROIAssignment, seed: int
) -> tuple[Float[np.ndarray, "t b p"], Float[np.ndarray, "t b r y x"]]:
    """The brain view and the image view of every step and image."""
    sampling = work.plan.sampling.replace(num_steps=NUM_STEPS)
    brain, maps = [], []
    for rows, valid in filled_batches(len(work.test.fmri), min(BATCH, len(work.test.fmri))):
        found = pipeline.interpret(
            work.test.fmri[rows], rois.weights, sampling, seed=seed, sample_ids=rows
        )
        brain.append(found.views.brain[:, :valid])
        maps.append(found.views.image[:, :valid])
    return np.concatenate(brain, axis=1), np.concatenate(maps, axis=1)


def _auc(
    maps: Float[np.ndarray, "b y x"], masks: Bool[np.ndarray, "b Y X"]
) -> Float[np.ndarray, " b"]:
    return roc_auc(enlarge(maps, masks.shape[1]), masks)


def _thirds(values: Float[np.ndarray, "t b"]) -> dict[str, list[float | None]]:
    """Means over the first and the last third of the steps, per image; null where not defined."""
    third = max(1, len(values) // 3)
    parts = {"first": values[:third], "last": values[-third:]}
    return {
        name: [None if np.isnan(x) else float(x) for x in part.mean(axis=0)]
        for name, part in parts.items()
    }


def _by_step(values: Float[np.ndarray, "t b"]) -> list[float | None]:
    """Means over the images where it is defined; null where it is in none."""
    known = values[:, np.isfinite(values).all(axis=0)]
    return known.mean(axis=1).tolist() if known.shape[1] else [None] * len(values)


def matched_pairs(
    members: Bool[np.ndarray, " p"],
    allowed: Bool[np.ndarray, " p"],
    snr: Float[np.ndarray, " p"],
    sizes: Int[np.ndarray, " p"],
    hemispheres: tuple[str, ...],
    seed: int = 0,
) -> tuple[Bool[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
    """The regions of a set that have a control, and their controls, each taken once.

    A control lies in the same hemisphere; its SNR differs by at most 0.1, its number of vertices by
    at most a factor of 1.5. Regions without one are left out of both sets.

    Args:
        members: the set.
        allowed: regions that may be controls.
        snr: of each region.
        sizes: vertices of each region.
        hemispheres: of each region.
        seed: of the order and of the draws.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.studies.claims.attention import matched_pairs
        >>> own, controls = matched_pairs(
        ...     np.array([True, True, False, False]), np.array([False, False, True, True]),
        ...     np.array([0.5, 0.9, 0.55, 0.2]), np.array([30, 30, 32, 31]), ("lh",) * 4)
        >>> own.tolist(), controls.tolist()  # nothing is like the second region
        ([True, False, False, False], [False, False, True, False])
    """
    rng, own, taken = np.random.default_rng(seed), members & False, members & False
    side = np.array(hemispheres)
    for region in rng.permutation(np.flatnonzero(members)):
        free = allowed & ~taken & ~members & (side == side[region])
        free &= np.abs(snr - snr[region]) <= SNR_CALIPER
        free &= np.abs(np.log(sizes / sizes[region])) <= np.log(SIZE_CALIPER)
        if free.any():
            own[region] = True
            taken[rng.choice(np.flatnonzero(free))] = True
    return own, taken


def run_silencing(work: Work, cell: Cell) -> dict[str, Any]:
    """Scores with V1 to V3 or the category areas silenced, and with matched controls silenced.

    Controls lie outside both sets. "match" says how many regions have one, and both means of SNR
    and size; a set of which less than half is matched counts as not matched.
    """
    test, pipeline = work.test, work.adapter(FULL, cell.seed)
    regions, rois = pipeline.regions, rois_of(work, pipeline.regions)
    members = dict(zip(rois.names, rois.members, strict=True))
    snr = region_snr(regions, PreparedDataset(work.plan.prepared, "test").ncsnr)
    sizes = np.array([len(vertices) for vertices in regions.vertices])
    sets = {
        "early": np.any([members[name] for name in EARLY[:3] if name in members], axis=0),
        "category": np.any([members[n] for n in CATEGORY_OF_ROI if n in members], axis=0),
    }
    allowed = ~np.any(list(sets.values()), axis=0)

    def scores(silenced: Bool[np.ndarray, " p"]) -> dict[str, list[float]]:
        keep = np.tile(~silenced, (len(test.fmri), 1))
        images = reconstruct(pipeline, test.fmri, work.plan.sampling, 1, cell.seed, keep=keep)
        return of_all(test.scores(images[:, 0]))

    result: dict[str, Any] = {
        "shown": test.shown.tolist(),
        "intact": scores(allowed & False),
        "sets": {},
    }
    for name, own in sets.items():
        pairs = [
            matched_pairs(own, allowed, snr, sizes, regions.hemispheres, seed)
            for seed in range(NUM_CONTROLS)
        ]
        result["sets"][name] = {
            "whole": scores(own),
            "matched": [scores(mine) for mine, _ in pairs],
            "controls": [scores(other) for _, other in pairs],
            "match": [_match(own, *pair, snr, sizes) for pair in pairs],
        }
    return result


def _match(
    whole: Bool[np.ndarray, " p"],
    own: Bool[np.ndarray, " p"],
    controls: Bool[np.ndarray, " p"],
    snr: Float[np.ndarray, " p"],
    sizes: Int[np.ndarray, " p"],
) -> Mapping[str, Any]:
    """How alike a set and its controls are."""

    def mean(values: np.ndarray, members: np.ndarray) -> float | None:
        return float(values[members].mean()) if members.any() else None

    share = float(own.sum() / max(whole.sum(), 1))
    return {
        "regions": int(whole.sum()),
        "matched": int(own.sum()),
        "snr": [mean(snr, own), mean(snr, controls)],
        "vertices": [mean(sizes, own), mean(sizes, controls)],
        "is_matched": share >= LEAST_MATCHED,
    }
