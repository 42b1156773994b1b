"""What changes in a drawing when a set of regions is silenced or told something else."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, Int, UInt8
from tqdm import tqdm

from neuroadapter_jax.diffusion.vae import AutoencoderKL
from neuroadapter_jax.encoder.brain_encoder import (
    PATCH_TOKENS,
    Features,
    prepare_images,
    read_features,
)
from neuroadapter_jax.encoder.vit import Dinov2Model
from neuroadapter_jax.evaluation.scene_reader import SceneReader, read_scenes
from neuroadapter_jax.ibbi.perturbation import (
    Perturbation,
    cumulative_sets,
    matched_sets,
    perturb,
)
from neuroadapter_jax.metrics.pixels import pixel_correlation, ssim
from neuroadapter_jax.metrics.recall import EMPTY, derangement, semantic_counts
from neuroadapter_jax.metrics.statistics import bootstrap_interval, bootstrap_ratio
from neuroadapter_jax.pipeline.pipeline import NeuroAdapterPipeline

# (rows of the images, regions of each row's set, what is done to them) -> drawings
Reconstruct = Callable[
    [Int[np.ndarray, " b"], Bool[np.ndarray, "b p"], Perturbation], UInt8[np.ndarray, "b y x c"]
]


def perturbed_reconstructions(
    pipeline: NeuroAdapterPipeline,
    fmri: Float[np.ndarray, "b n"],
    *,
    batch_size: int,
    seed: int = 0,
    progress: bool = True,
    **sampling: Any,
) -> Reconstruct:
    """A function that draws images anew with sets of regions perturbed, all else the same.

    The noise is that of row i's own number; "swap" takes the responses to another image, see
    `derangement`.

    Args:
        pipeline: the model.
        fmri: responses to all images.
        batch_size: drawings per call.
        seed: of the noise and of which image is swapped in.
        progress: show a bar.
        sampling: options of a pipeline call.
    """
    others = derangement(len(fmri), seed)

    def reconstruct(rows, members, perturbation):
        found = []
        starts = range(0, len(rows), batch_size)
        for first in tqdm(starts, unit="batch", desc=perturbation, disable=not progress):
            # The last batch is filled up, so that one compilation serves all.
            part = np.resize(rows[first : first + batch_size], batch_size)
            region_sets = np.resize(
                members[first : first + batch_size], (batch_size, members.shape[1])
            )
            responses, keep = perturb(
                perturbation, fmri[part], pipeline.regions, region_sets, fmri[others[part]]
            )
            images = pipeline(
                responses, keep=keep, seed=seed, sample_ids=part, num_candidates=1, **sampling
            )
            found.append(images[: len(rows) - first, 0])
        return np.concatenate(found)

    return reconstruct


class Appearance(NamedTuple):
    """Drawings as the measures see them.

    Attributes:
        images: 0..255.
        latents: means of the backbone's autoencoder.
        features: patch tokens of a vision transformer.
        read: category in each slot, -1 for empty.
    """

    images: UInt8[np.ndarray, "b y x c"]
    latents: Float[np.ndarray, "b d"]
    features: Float[np.ndarray, "b f"]
    read: Int[np.ndarray, "b slot"]


def make_appearance(
    vae: AutoencoderKL, vit: Dinov2Model, reader: SceneReader, batch_size: int = 50
) -> Callable[[UInt8[np.ndarray, "b y x c"]], Appearance]:
    """images -> `Appearance`, by networks that have seen no response of a brain."""
    size = vit.config.image_size
    features = Features(image_size=size, padded_size=size)
    vae_graph, vae_params = nnx.split(vae)
    vit_graph, vit_params = nnx.split(vit)

    @jax.jit
    def look(vae_params, vit_params, images):
        latents, _ = nnx.merge(vae_graph, vae_params).encode(images / 127.5 - 1)
        tokens = read_features(
            nnx.merge(vit_graph, vit_params), prepare_images(images, features), PATCH_TOKENS
        )
        return latents, tokens

    def appearance(images):
        found = []
        for first in range(0, len(images), batch_size):
            part = images[first : first + batch_size]
            filled = np.resize(part, (batch_size, *part.shape[1:]))
            stimuli = look(vae_params, vit_params, jnp.asarray(filled))
            found.append([np.asarray(x)[: len(part)].reshape(len(part), -1) for x in stimuli])
        latents, tokens = (np.concatenate(x) for x in zip(*found, strict=True))
        return Appearance(images, latents, tokens, read_scenes(reader, images))

    return appearance


MEASURES = ("pixel", "structure", "latent", "feature", "category")


def distances(a: Appearance, b: Appearance) -> dict[str, Float[np.ndarray, " b"]]:
    """How unlike two stacks of drawings are, image by image; 0 for the same drawing.

    * ``pixel``, ``latent``, ``feature``: root mean square of the difference of the pixels, the
      latents, the patch tokens.
    * ``structure``: 1 - SSIM.
    * ``category``: number of slots in which another category (or none, or one at all) is read.
    """

    def rms(x: np.ndarray, y: np.ndarray) -> Float[np.ndarray, " b"]:
        difference = x.reshape(len(x), -1).astype(np.float64) - y.reshape(len(y), -1)
        return np.sqrt(np.square(difference).mean(axis=1))

    return {
        "pixel": rms(a.images, b.images),
        "structure": 1.0 - ssim(a.images, b.images),
        "latent": rms(a.latents, b.latents),
        "feature": rms(a.features, b.features),
        "category": (a.read != b.read).sum(axis=1).astype(float),
    }


def change_table(
    reconstruct: Reconstruct,
    stimuli: UInt8[np.ndarray, "b y x c"],
    intact: UInt8[np.ndarray, "b y x c"],
    categories: Int[np.ndarray, "b slot"],
    region_sets: Mapping[str, Bool[np.ndarray, " p"]],
    snr: Float[np.ndarray, " p"],
    appearance: Callable[[UInt8[np.ndarray, "b y x c"]], Appearance],
    perturbations: Sequence[Perturbation] = ("silence", "mean", "swap"),
    seed: int = 0,
) -> dict[str, dict[str, dict[str, Any]]]:
    """How far each set's perturbation moves a drawing, and how much of the stimulus is left.

    Each of `MEASURES` is the mean distance from the intact drawing over the mean distance between
    intact drawings of different images (sum over sum, with its interval): 0 is no change, 1 as
    much as another image's drawing differs. ``pixel_correlation`` with the stimulus and ``recall``
    of its things are given over the intact drawings' ("left").

    Args:
        reconstruct: see `perturbed_reconstructions`; rows are those of the next three.
        stimuli: stimuli.
        intact: drawings with nothing perturbed.
        categories: true category per slot, -1 for empty.
        region_sets: name -> regions. A random set, matched in size and SNR, goes with each that holds at
            most half of all regions, under the name "NAME, random".
        snr: of each region, for `matched_sets`.
        appearance: see `make_appearance`.
        perturbations: what is done to a set.
        seed: of random sets, the pairing of different images, and the bootstrap.

    Returns:
        perturbation -> set -> measure -> value and interval, and its number of ``regions``.
    """
    count = len(intact)
    all_region_sets: dict[str, np.ndarray] = {}
    for name, members in region_sets.items():
        all_region_sets[name] = members
        if 0 < 2 * members.sum() <= len(members):
            all_region_sets[f"{name}, random"] = matched_sets(members, snr, 1, seed)[0]
    rows = np.tile(np.arange(count), len(all_region_sets))
    members = np.repeat(np.stack(list(all_region_sets.values())), count, axis=0)
    whole = appearance(intact)
    order = derangement(count, seed)
    unlike = distances(whole, Appearance(*(x[order] for x in whole)))

    def likeness(reconstructions: Appearance) -> tuple[np.ndarray, np.ndarray]:
        return pixel_correlation(stimuli, reconstructions.images), semantic_counts(
            reconstructions.read, categories
        )[0]

    reference = likeness(whole)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for perturbation in perturbations:
        reconstructions = reconstruct(rows, members, perturbation).reshape(-1, *intact.shape)
        result[perturbation] = {}
        for (name, own), images in zip(all_region_sets.items(), reconstructions, strict=True):
            reconstructions = appearance(images)
            moved = distances(reconstructions, whole)
            left = zip(
                ("pixel_correlation", "recall"), likeness(reconstructions), reference, strict=True
            )
            result[perturbation][name] = {
                **{m: bootstrap_ratio(moved[m], unlike[m], seed) for m in MEASURES},
                **{name: bootstrap_ratio(now, before, seed) for name, now, before in left},
                "regions": int(own.sum()),
            }
    return result


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
    (Petsiuk et al. 2018, arXiv 1806.07421); equal areas are those of a random order.

    Args:
        reconstruct: see `perturbed_reconstructions`; rows are those of the next two.
        stimuli: stimuli.
        categories: true category per slot, -1 for empty.
        reader: the scene reader.
        rankings: name -> a number per region and image; higher goes first.
        num_points: of a curve, none and all of the regions among them.
        seed: of the random order and the bootstrap.

    Returns:
        ``shares``: of the regions that are silenced (deletion) or drawn with (insertion);
        ``curves``: name -> "deletion" and "insertion" -> "pixel_correlation" with the stimulus and
        "recall" of its things -> per share a mean over images with interval, under "curve", and
        the area under it, under "area", likewise; "random" is among the names; and under "gain"
        insertion's area less deletion's, per image.
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
        "pixel_correlation": [
            pixel_correlation(stimuli, reconstructions) for reconstructions in reconstructions
        ],
        "recall": [
            semantic_counts(read_scenes(reader, reconstructions), categories)[0] / shown
            for reconstructions in reconstructions
        ],
    }
    curves: dict[str, Any] = {name: {"deletion": {}, "insertion": {}} for name in rankings}
    for measure, (none, everything, *rest) in values.items():
        rois: dict[str, dict[str, np.ndarray]] = {name: {} for name in rankings}
        for (name, which), own in zip(orders, np.split(np.array(rest), len(orders)), strict=True):
            curve = np.stack([none, *own, everything])
            curve = curve if which == "deletion" else curve[::-1]
            rois[name][which] = np.trapezoid(curve, shares, axis=0)
            curves[name][which][measure] = {
                "curve": [bootstrap_interval(point, seed) for point in curve],
                "roi": bootstrap_interval(rois[name][which], seed),
            }
        for name, own in rois.items():
            gain = bootstrap_interval(own["insertion"] - own["deletion"], seed)
            curves[name].setdefault("gain", {})[measure] = gain
    return {"num_images": count, "shares": shares.tolist(), "curves": curves}
