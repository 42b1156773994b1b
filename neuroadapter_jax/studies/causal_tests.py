"""What changes in a reconstruction when regions are silenced or their responses replaced."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.evaluation.appearance import MEASURES, Appearance, distances
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.ibbi.matching import MatchedSets, RegionTraits, match_sets
from neuroadapter_jax.ibbi.perturbation import Perturbation, cumulative_sets, perturb
from neuroadapter_jax.metrics.comparisons import sign_flip_p
from neuroadapter_jax.metrics.pixels import pixel_correlation
from neuroadapter_jax.metrics.recall import EMPTY, derangement, semantic_counts
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.pipeline import NeuroAdapterPipeline
from neuroadapter_jax.progress import Bar

NUM_SETS = 20  # random sets of a given one, which take turns over images

# (rows of the images, regions of each row's set, what is done to them) -> reconstructions
Reconstruct = Callable[
    [Int[np.ndarray, " b"], Bool[np.ndarray, "b p"], Perturbation], UInt8[np.ndarray, "b y x c"]
]


def perturbed_reconstructions(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    sampling: Sampling | None = None,
    *,
    batch_size: int,
    seed: int = 0,
    progress: bool = True,
) -> Reconstruct:
    """A function that reconstructs images again with sets of regions perturbed, all else the same.

    The noise is that of row i's own number; "swap" takes the responses to another image, see
    `derangement`.

    Args:
        pipeline: the model.
        fmri: responses to all images.
        sampling: settings of the sampler; the pipeline's own when None.
        batch_size: reconstructions per call.
        seed: of the noise and of which image is swapped in.
        progress: show a bar.
    """
    others = derangement(len(fmri), seed)

    def reconstruct(
        rows: Int[np.ndarray, " b"], members: Bool[np.ndarray, "b p"], perturbation: Perturbation
    ) -> UInt8[np.ndarray, "b y x c"]:
        found = []
        batches = list(filled_batches(len(rows), batch_size))
        for places, valid in Bar(batches, unit="batch", desc=perturbation, disable=not progress):
            part = rows[places]
            responses, keep = perturb(
                perturbation, fmri[part], pipeline.regions, members[places], fmri[others[part]]
            )
            images = pipeline(
                responses, sampling, keep=keep, seed=seed, sample_ids=part, num_candidates=1
            )
            found.append(images[:valid, 0])
        return np.concatenate(found)

    return reconstruct


def change_table(
    reconstruct: Reconstruct,
    stimuli: UInt8[np.ndarray, "b y x c"],
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    region_sets: Mapping[str, Bool[np.ndarray, " p"]],
    traits: RegionTraits,
    appearance: Callable[[UInt8[np.ndarray, "b y x c"]], Appearance],
    perturbations: Sequence[Perturbation] = ("silence", "mean", "swap"),
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """How far each set's perturbation moves a reconstruction, and how much of the stimulus is left.

    Each of `MEASURES` is the mean distance from the intact reconstruction over the mean distance
    between intact reconstructions of different images (sum over sum, with its interval): 0 is no
    change, 1 as much as another image's reconstruction differs. ``pixel_correlation`` with the
    stimulus and ``recall`` of its objects are given over the intact reconstructions' ("left").

    Args:
        reconstruct: see `perturbed_reconstructions`; rows are those of the next three.
        stimuli: stimuli.
        intact: reconstructions with nothing perturbed.
        categories: true category per slot, -1 for empty.
        region_sets: name -> regions. Where matched random sets are found, they take turns over the
            images under the name "NAME, random".
        traits: of the regions, for `match_sets`.
        appearance: see `evaluation.appearance.make_appearance`.
        perturbations: what is done to a set.
        seed: of random sets, the pairing of different images, the bootstrap and the tests.

    Returns:
        perturbation -> set -> measure -> value and interval; its number of ``regions``; of a given
        set ``match``, see `MatchedSets`, and ``less_random``: measure -> the difference from its
        matched sets in the same units, with interval and ``p``, empty where there are none.
    """
    count = len(intact)
    matches = {
        name: match_sets(own, traits, NUM_SETS, seed=seed) for name, own in region_sets.items()
    }
    members_of = _with_random_sets(region_sets, matches, count)
    rows = np.tile(np.arange(count), len(members_of))
    members = np.concatenate(list(members_of.values()))
    whole = appearance(intact)
    order = derangement(count, seed)
    unlike = distances(whole, Appearance(*(x[order] for x in whole)))

    def likeness(found: Appearance) -> dict[str, np.ndarray]:
        recalled = semantic_counts(found.read, categories)[0]
        correlation = pixel_correlation(stimuli, found.images)
        return {"pixel_correlation": correlation, "recall": recalled}

    below = {**unlike, **likeness(whole)}
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for perturbation in perturbations:
        reconstructions = reconstruct(rows, members, perturbation).reshape(-1, *intact.shape)
        above = {}
        for name, images in zip(members_of, reconstructions, strict=True):
            perturbed = appearance(images)
            above[name] = {**distances(perturbed, whole), **likeness(perturbed)}
        result[perturbation] = {
            name: {m: bootstrap_ratio(above[name][m], below[m], seed) for m in below}
            | {"regions": int(own[0].sum())}
            for name, own in members_of.items()
        }
        for name, match in matches.items():
            random = above.get(f"{name}, random")
            result[perturbation][name] |= {
                "match": match.report,
                "less_random": {}
                if random is None
                else {
                    m: _difference(above[name][m] - random[m], below[m], seed)
                    for m in (*MEASURES, "pixel_correlation", "recall")
                },
            }
    return result


def _with_random_sets(
    region_sets: Mapping[str, Bool[np.ndarray, " p"]],
    matches: Mapping[str, MatchedSets],
    count: int,
) -> dict[str, Bool[np.ndarray, "b p"]]:
    """Name of a set, or of its random sets -> the regions to perturb in each image."""
    members: dict[str, np.ndarray] = {}
    for name, own in region_sets.items():
        members[name] = np.tile(own, (count, 1))
        if matches[name].matched:
            members[f"{name}, random"] = matches[name].in_turn(count, 1)[0]
    return members


def _difference(above: np.ndarray, below: np.ndarray, seed: int) -> dict[str, Any]:
    return bootstrap_ratio(above, below, seed) | {"p": sign_flip_p(above, seed)}


def deletion_table(
    reconstruct: Reconstruct,
    stimuli: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    reader: SceneReader,
    rankings: Mapping[str, Float[np.ndarray, "b p"]],
    num_points: int = 6,
    seed: int = 0,
) -> dict[str, Any]:
    """Deletion and insertion of regions in the order of a ranking, and in a random one.

    Regions are silenced one after the other, highest first ("deletion") or lowest first; the
    latter, read from its end, is the insertion of regions highest first. A ranking that tells what
    matters has a low area under the deletion curve and a high one under the insertion curve
    (Petsiuk et al. 2018, arXiv 1806.07421); equal ones are those of a random order.

    Args:
        reconstruct: see `perturbed_reconstructions`; rows are those of the next two.
        stimuli: stimuli.
        categories: true category per slot, -1 for empty.
        reader: the scene reader.
        rankings: name -> a number per region and image; higher goes first.
        num_points: of a curve, none and all of the regions among them.
        seed: of the random order and the bootstrap.

    Returns:
        ``shares``: of the regions that are silenced (deletion) or kept (insertion);
        ``curves``: name -> "deletion" and "insertion" -> "pixel_correlation" with the stimulus and
        "recall" of its objects -> "curve": per share a mean over images with interval;
        "area_under_curve": its mean over images with interval; "random" is among the names; and
        under "gain" insertion's area under the curve less deletion's, per image.
    """
    count, p = next(iter(rankings.values())).shape
    rng = np.random.default_rng(seed)
    rankings = {**rankings, "random": np.stack([rng.permutation(p) for _ in range(count)])}
    orders = {
        (name, which): np.argsort(sign * numbers, axis=1, kind="stable")
        for name, numbers in rankings.items()
        for which, sign in (("deletion", -1), ("insertion", 1))
    }
    shares, middle = np.linspace(0.0, 1.0, num_points), []
    for order in orders.values():
        middle += [taken for _, taken in cumulative_sets(order, num_points)][1:-1]
    ends = [np.zeros((count, p), bool), np.ones((count, p), bool)]
    members = np.concatenate([*ends, *middle])
    rows = np.tile(np.arange(count), len(ends) + len(middle))
    reconstructions = reconstruct(rows, members, "silence").reshape(-1, *stimuli.shape)
    shown = np.maximum((categories != EMPTY).sum(axis=1), 1)
    values = {
        "pixel_correlation": [pixel_correlation(stimuli, images) for images in reconstructions],
        "recall": [
            semantic_counts(read_scenes(reader, images), categories)[0] / shown
            for images in reconstructions
        ],
    }
    curves: dict[str, Any] = {name: {"deletion": {}, "insertion": {}} for name in rankings}
    for measure, (none, everything, *rest) in values.items():
        under_curve: dict[str, dict[str, np.ndarray]] = {name: {} for name in rankings}
        for (name, which), own in zip(orders, np.split(np.array(rest), len(orders)), strict=True):
            curve = np.stack([none, *own, everything])
            curve = curve if which == "deletion" else curve[::-1]
            under_curve[name][which] = np.trapezoid(curve, shares, axis=0)
            curves[name][which][measure] = {
                "curve": [bootstrap_interval(point, seed) for point in curve],
                "area_under_curve": bootstrap_interval(under_curve[name][which], seed),
            }
        for name, of_way in under_curve.items():
            gain = bootstrap_interval(of_way["insertion"] - of_way["deletion"], seed)
            curves[name].setdefault("gain", {})[measure] = gain
    return {"num_images": count, "shares": shares.tolist(), "curves": curves}
