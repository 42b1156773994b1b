"""The field's scores of reconstructions, as published tables take them, image by image.

PixCorr, SSIM, two-way identification by AlexNet(2), AlexNet(5), Inception and CLIP, and the
distances EffNet-B and SwAV.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from neuroadapter_jax.batches import filled_batches
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.evaluation.features import (
    NETWORKS,
    Extract,
    FeatureMetric,
    MissingWeightsError,
    Network,
)
from neuroadapter_jax.finite import require_finite_rows
from neuroadapter_jax.metrics.identification import Orientation, set_two_way, two_way
from neuroadapter_jax.metrics.pixels import (
    check_pairs,
    correlation_distance,
    pixel_correlation,
    ssim,
)
from neuroadapter_jax.metrics.statistics import bootstrap_interval
from neuroadapter_jax.progress import Bar

PIXEL_SIDE = 425


@dataclasses.dataclass(frozen=True)
class Convention:
    """What published code does before it compares.

    Attributes:
        name: whose code.
        first_side: everything is resized to this side before anything else, or nothing is.
        antialias: whether shrinking averages over the pixels that fall together.
        eight_bit: networks whose images are resized by Pillow, antialiased, and rounded to 8 bits.
        orientation: the distractors of two-way identification, "columns" for the stimuli, "rows"
            for the reconstructions.
    """

    name: str
    first_side: int | None
    antialias: bool
    eight_bit: tuple[str, ...]
    orientation: Orientation


# MindEye's notebook, in an environment whose torchvision did not antialias tensors; and the script
# beside the released NeuroAdapter code, under a torchvision (0.17 or later) that does.
CONVENTIONS = {
    "mindeye": Convention("mindeye", 256, False, (), "columns"),
    "neuroadapter": Convention(
        "neuroadapter", None, True, ("alexnet", "inception", "effnet"), "rows"
    ),
}
# Labels as papers write them.
PIXEL_METRICS = {"pixcorr": "PixCorr", "ssim": "SSIM"}


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores per image, and what could not be computed.

    Attributes:
        convention: how images were compared.
        per_image: metric -> one value per image.
        missing: metric -> why it is not there.
        set_level: metric -> set-level identification of each target, where candidates were given.
    """

    convention: Convention
    per_image: dict[str, Float[np.ndarray, " b"]]
    missing: dict[str, str]
    set_level: dict[str, Float[np.ndarray, " b"]]

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """Means with bootstrap intervals over images, made of dict, list, str and numbers only.

        "convention"; "metrics": name -> {"value", "interval"}; "set_level": the same of whole sets
        of candidates, where there were several; "missing": name -> reason.

        Args:
            seed: of the resampling.
        """
        result: dict[str, Any] = {
            "convention": dataclasses.asdict(self.convention)
            | {"eight_bit": list(self.convention.eight_bit)},
            "metrics": {x: bootstrap_interval(v, seed) for x, v in self.per_image.items()},
            "missing": dict(self.missing),
        }
        if self.set_level:
            found = {x: bootstrap_interval(v, seed) for x, v in self.set_level.items()}
            result["set_level"] = found
        return result


def metric_labels(networks: Sequence[Network] = NETWORKS) -> dict[str, str]:
    """Every metric's label by its name, in the order of published tables.

    Args:
        networks: those whose metrics are listed.

    Examples:
        >>> from neuroadapter_jax.evaluation.protocol import metric_labels
        >>> list(metric_labels())[:3]
        ['pixcorr', 'ssim', 'two_way_alexnet2']
    """
    features = {m.name: m.label for network in networks for m in network.metrics}
    return PIXEL_METRICS | features


def less_is_better(metric: str) -> bool:
    """Whether a metric is a distance or an error, of which less is better.

    Args:
        metric: its name.

    Examples:
        >>> from neuroadapter_jax.evaluation.protocol import less_is_better
        >>> less_is_better("distance_swav"), less_is_better("ssim")
        (True, False)
    """
    return metric.startswith(("distance_", "colour_", "depth_"))


def resize(
    images: UInt8[np.ndarray, "b y x c"] | Float32[np.ndarray, "b y x c"],
    side: int,
    *,
    antialias: bool,
) -> Float32[np.ndarray, "b {side} {side} c"]:
    """Bilinear interpolation to side x side, pixel centres at halves, as torchvision's on tensors.

    Args:
        images: uint8 in 0..255, or floats in 0..1.
        side: rows and columns of the result.
        antialias: widen the kernel where the image shrinks.

    Returns:
        Floats in 0..1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.evaluation.protocol import resize
        >>> images = np.full((1, 64, 64, 3), 255, np.uint8)
        >>> resized = resize(images, side=425, antialias=False)
        >>> resized.shape, round(float(resized.min()), 4)
        ((1, 425, 425, 3), 1.0)
    """
    x = images.astype(np.float32) / (255.0 if images.dtype == np.uint8 else 1.0)
    if x.shape[1:3] == (side, side):
        return x
    shape = (len(x), side, side, x.shape[3])
    return np.asarray(jax.image.resize(x, shape, "bilinear", antialias=antialias)).clip(0, 1)


def prepare(
    images: UInt8[np.ndarray, "b y x c"], network: Network, convention: Convention
) -> Float32[np.ndarray, "b _y _x c"]:
    """Images as a network takes them: resized and normalised as the convention does it.

    Args:
        images: 0..255, square.
        network: says size and colours.
        convention: says how.
    """
    side = network.size
    if network.name in convention.eight_bit:
        pictures = [Image.fromarray(image) for image in images]
        small = [p.resize((side, side), Image.Resampling.BILINEAR) for p in pictures]
        x = np.stack([np.asarray(p) for p in small]).astype(np.float32) / 255.0
    else:
        x = resize(_first(images, convention), side, antialias=convention.antialias)
    mean, sd = (np.array(values, np.float32) for values in network.colours)
    return (x - mean) / sd


def score_images(
    stimuli: UInt8[np.ndarray, "b y x c"],
    reconstructions: UInt8[np.ndarray, "b _y _x c"],
    *,
    convention: str = "mindeye",
    candidates: UInt8[np.ndarray, "b s y x c"] | None = None,
    networks: Sequence[Network] = NETWORKS,
    weights: str | Path | None = None,
    download: bool = False,
    batch_size: int = 25,
    progress: bool = True,
) -> Scores:
    """PixCorr, SSIM, two-way identification and distances over features, one value per image.

    ======================= ==== ===================================== ===========
    metric                  side network and layer                     score
    ======================= ==== ===================================== ===========
    pixcorr                 425  pixels                                Pearson's r
    ssim                    425  grey pixels                           SSIM
    two_way_alexnet2        256  AlexNet, ReLU after conv 2            two-way
    two_way_alexnet5        256  AlexNet, ReLU after conv 5            two-way
    two_way_inception       342  Inception v3, avgpool                 two-way
    two_way_clip            224  CLIP ViT-L/14, image embedding        two-way
    distance_effnet         255  EfficientNet-B1 (V2 weights), avgpool 1 - r
    distance_swav           224  SwAV's ResNet-50, avgpool             1 - r
    two_way_tiny_vit_block1 64   tiny-vit, first block                 two-way
    two_way_tiny_vit_pooled 64   tiny-vit, pooled                      two-way
    distance_tiny_vit       64   tiny-vit, pooled                      1 - r
    ======================= ==== ===================================== ===========

    The networks up to SwAV are those of every published table (Scotti et al. 2023,
    arXiv 2305.18274, appendix; Ozcelik & VanRullen 2023); tiny-vit is this project's own, stands
    in no published table, and knows scenes of the simulated data alone. "mindeye" resizes
    everything to 256 x 256 first and never antialiases; "neuroadapter" does not, lets Pillow
    resize for AlexNet, Inception and EfficientNet, and identifies by rows. An image without
    contrast has correlation 0 in both, where MindEye's notebook would have NaN.

    Args:
        stimuli: stimuli, square, 0..255.
        reconstructions: reconstructions, square, same order; of another size, each is resized from
            its own, as the convention does it.
        convention: a name in `CONVENTIONS`.
        candidates: all reconstructions of each stimulus, for set-level identification.
        networks: those to use.
        weights: folder of weights; see `features`.
        download: whether weights that are not here may be fetched.
        batch_size: images per pass.
        progress: show a bar.

    Raises:
        InputError: the stacks do not fit one another, or hold fewer than two images; no such
            convention; weights that are not the network's.
        NotFiniteError: a network's features are NaN or infinite.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            f"There is no convention {convention!r}; choose {' or '.join(map(repr, CONVENTIONS))}."
        )
    if len(stimuli) != len(reconstructions):
        check_pairs(stimuli, reconstructions)
    for images in (stimuli, reconstructions):
        check_pairs(images, images)
        if images.dtype != np.uint8 or images.shape[1] != images.shape[2]:
            raise InputError(
                f"The metrics need square uint8 images, found {images.dtype} of {images.shape[1]} "
                f"x {images.shape[2]} pixels: crop them first."
            )
    if len(stimuli) < 2:
        raise InputError(f"The metrics need at least 2 images to tell apart, found {len(stimuli)}.")
    if (
        candidates is not None
        and (
            len(candidates),
            *candidates.shape[2:],
        )
        != stimuli.shape
    ):
        raise InputError(
            "Candidates must be [b, s, y, x, 3] beside stimuli [b, y, x, 3], found "
            f"{candidates.shape} and {stimuli.shape}."
        )
    how = CONVENTIONS[convention]
    scores = Scores(how, _resized_pixel_scores(stimuli, reconstructions, how, batch_size), {}, {})
    folder = None if weights is None else Path(weights)
    for network in Bar(networks, desc="features", unit="network", disable=not progress):
        try:
            extract = network.load(folder, download)
        except MissingWeightsError as error:
            scores.missing.update(dict.fromkeys((m.name for m in network.metrics), str(error)))
            continue
        true, own = (
            _features(extract, x, network, how, batch_size) for x in (stimuli, reconstructions)
        )
        for metric in network.metrics:
            pair = true[metric.layer], own[metric.layer]
            scores.per_image[metric.name] = _compare(metric, *pair, how.orientation)
        if candidates is not None:
            columns = [
                _features(extract, np.ascontiguousarray(x), network, how, batch_size)
                for x in np.moveaxis(candidates, 1, 0)
            ]
            for metric in network.metrics:
                if metric.kind == "two_way":
                    several = np.stack([x[metric.layer] for x in columns], axis=1)
                    found = set_two_way(true[metric.layer], several, how.orientation)
                    scores.set_level[metric.name] = found
    return scores


def score_candidates(
    stimuli: UInt8[np.ndarray, "b y x c"],
    candidates: UInt8[np.ndarray, "b s y x c"],
    **options: Any,
) -> dict[str, Float[np.ndarray, "b s"]]:
    """Every available score of `score_images`, of each candidate.

    Candidate j of an image is scored beside candidate j of the others. By columns distractors of
    identification are stimuli, so a candidate's score does not depend on which others are taken.

    Args:
        stimuli: stimuli, square, 0..255.
        candidates: reconstructions of each.
        options: of `score_images`.
    """
    columns = [
        score_images(stimuli, np.ascontiguousarray(x), **options).per_image
        for x in np.moveaxis(candidates, 1, 0)
    ]
    return {name: np.stack([x[name] for x in columns], axis=1) for name in columns[0]}


def _resized_pixel_scores(
    stimuli: UInt8[np.ndarray, "b y x c"],
    reconstructions: UInt8[np.ndarray, "b _y _x c"],
    convention: Convention,
    batch_size: int,
) -> dict[str, Float[np.ndarray, " b"]]:
    values: dict[str, list[np.ndarray]] = {"pixcorr": [], "ssim": []}
    for rows, valid in filled_batches(len(stimuli), batch_size):
        a, b = (
            resize(_first(x[rows[:valid]], convention), PIXEL_SIDE, antialias=convention.antialias)
            for x in (stimuli, reconstructions)
        )
        values["pixcorr"].append(pixel_correlation(a, b))
        values["ssim"].append(ssim(a, b))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def _features(
    extract: Extract,
    images: UInt8[np.ndarray, "b y x c"],
    network: Network,
    convention: Convention,
    batch_size: int,
) -> dict[str, Float[np.ndarray, "b _f"]]:
    """Features by layer, one row per image."""
    parts: dict[str, list[np.ndarray]] = {}
    for rows, valid in filled_batches(len(images), batch_size):
        for layer, values in extract(prepare(images[rows], network, convention)).items():
            parts.setdefault(layer, []).append(values[:valid])
    features = {layer: np.concatenate(values) for layer, values in parts.items()}
    for layer, values in features.items():
        require_finite_rows(values, f"features of {network.name}, {layer}")
    return features


def _compare(
    metric: FeatureMetric,
    true: Float[np.ndarray, "b f"],
    reconstructions: Float[np.ndarray, "b f"],
    orientation: Orientation,
) -> Float[np.ndarray, " b"]:
    if metric.kind == "distance":
        return correlation_distance(true, reconstructions)
    return two_way(true, reconstructions, orientation)


def _first(
    images: UInt8[np.ndarray, "b y x c"], convention: Convention
) -> UInt8[np.ndarray, "b y x c"] | Float32[np.ndarray, "b _y _x c"]:
    side = convention.first_side
    return images if side is None else resize(images, side, antialias=convention.antialias)
