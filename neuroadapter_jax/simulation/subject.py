"""A simulated subject on fsaverage5, as a written generative model whose truth is known.

Trial t of session s shows image i; the response of vertex v, in percent signal change, is

    beta[t, v] = baseline[v] + gain[s, v] * signal[i, v]
                 + offset[s, v] + trend[s, v] * tau[t] + noise_sd[v] * noise[t, v]

with tau running from -1/2 to 1/2 over the session. Noise is Gaussian; a part of its variance is
shared with the neighbouring vertices. Vertices outside the planted ROIs have signal = 0. Inside,

    signal[i, v] = amplitude[v] * K * tanh(z / K),   z = (drive[i, v] - mean[v]) / sd[v],

where mean and sd are taken over separate calibration scenes. K = 5, so it is almost linear.
The drive depends on the ROI:

* Retinotopic (V1, V2, V3, hV4): drive = sum over pixels of G(pixel; centre, sigma) * F_c(pixel).
  G is a Gaussian of sum 1 in the contralateral half of the image, and F_c one of four feature maps:
  luminance, red-green, blue-yellow, edge energy. Fields grow from V1 to hV4. Within an ROI the
  centre runs from the vertical midline (posterior) to the side of the image (anterior); ventral
  halves see the upper, dorsal halves the lower field, mirrored from ROI to ROI.
* Category (OFA, FFA, EBA, FBA, VWFA, LO, food, animal): drive = sum over the scene's objects of
  exp(-|position - centre|^2 / (2 sigma^2)) * tuning[v, object]. Centres scatter around the slots of
  the contralateral and middle columns. Tuning is 1 plus a random identity part for the objects of
  the preferred category, and near 0 for the others.
* Scene (OPA, PPA, RSC): drive = tuning[v, place] + tuning[v, ground] + tuning[v, sky], all random,
  with the strengths of `SCENE_STRENGTHS`, wherever objects stand.

Module `layout` says where the ROIs lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import scipy.sparse
from annotated_types import Ge
from jaxtyping import Float, Float32, Int, Integer

from neuroadapter_jax.ranges import Count, Positive, Seed, SettingError, ShareBelowOne, check_fields
from neuroadapter_jax.simulation.layout import (
    CATEGORY_ROIS,
    LITERATURE,
    ROIS,
    Plan,
    load_hemispheres,
    place_hemisphere,
)
from neuroadapter_jax.simulation.nsd_like import NSDLikeConfig
from neuroadapter_jax.simulation.scenes import (
    CATEGORIES,
    GROUNDS,
    IMAGE_SIZE,
    OBJECTS,
    PLACES,
    SKIES,
    SLOT_CENTRES,
    SceneBatch,
    sample_scenes,
)

CHANNELS = ("luminance", "red-green", "blue-yellow", "edges")
CHANNEL_SHARES = (0.4, 0.2, 0.2, 0.2)
SATURATION = 5.0
CALIBRATION_SCENES = 600
STIMULUS_SEED_OFFSET = 1_000_003
CALIBRATION_SEED_OFFSET = 2_000_003


_SIGMA = {"V1": 2.0, "V2": 2.6, "V3": 3.4, "hV4": 5.0}  # pixels, at the midline
CATEGORY_SIGMA = 11.0
CATEGORY_JITTER = 4.0
IDENTITY_STRENGTH = 0.45
SCENE_STRENGTHS = {  # place, ground, sky
    "OPA": (0.7, 1.0, 0.3),
    "PPA": (1.0, 0.5, 0.3),
    "RSC": (0.5, 0.4, 1.0),
}


@dataclass(frozen=True)
class Tuning:
    """How finely a subject's areas see.

    Attributes:
        field_sigma: of the retinotopic areas' receptive fields, pixels, at the vertical midline.
        category_sigma: of the category areas' fields, pixels.
        identity_strength: sd of a vertex's preferences among the objects of its category, whose
            mean response is 1.
    """

    field_sigma: Mapping[str, float]
    category_sigma: float
    identity_strength: float


FINE_TUNING = Tuning(_SIGMA, CATEGORY_SIGMA, IDENTITY_STRENGTH)


@dataclass(frozen=True)
class SubjectConfig:
    """What is simulated.

    Attributes:
        num_images: distinct images.
        num_shared: of these, how many are NSD's "shared" images, used for testing.
        num_repeats: presentations of each image, 2 or 3.
        trials_per_session: num_images * num_repeats must be a multiple of it.
        seed: of the subject; its images are scenes of seed + 1,000,003 and those that calibrate
            the responses of seed + 2,000,003.
        regions_per_hemisphere: regions of the parcellation that is written beside.
        snr: median over vertices of signal sd / noise sd of a single trial.
        noise_smoothness: share of the noise variance that neighbours have in common, in [0, 1).

    Examples:
        >>> from neuroadapter_jax.simulation.subject import SubjectConfig
        >>> SubjectConfig(
        ...     num_images=100, num_shared=20, num_repeats=3, trials_per_session=75
        ... ).num_sessions
        4
    """

    num_images: Count = 2500
    num_shared: Count = 250
    # NSD's files have room for 3 presentations of an image; the noise ceiling needs 2.
    num_repeats: Literal[2, 3] = 3
    trials_per_session: Annotated[int, Ge(2)] = 750
    seed: Seed = 1
    regions_per_hemisphere: Count = 320
    snr: Positive = 1.0
    noise_smoothness: ShareBelowOne = 0.1

    def __post_init__(self):
        check_fields(self)
        if self.num_shared > self.num_images:
            raise SettingError(
                "num_shared", self.num_shared, f"at most num_images, {self.num_images}"
            )
        trials = self.num_images * self.num_repeats
        if trials % self.trials_per_session:
            raise SettingError(
                "trials_per_session",
                self.trials_per_session,
                f"a divisor of num_images * num_repeats, {trials}",
            )

    @property
    def num_sessions(self) -> int:
        """Whole sessions of trials."""
        return self.num_images * self.num_repeats // self.trials_per_session


AnySubjectConfig = SubjectConfig | NSDLikeConfig


def feature_maps(images: Integer[np.ndarray, "i y x 3"]) -> Float32[np.ndarray, "c i y x"]:
    """Luminance, red-green, blue-yellow and edge energy (gradient of luminance) of images.

    Args:
        images: 0..255.

    Returns:
        One map per channel, as last axis.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.simulation.subject import feature_maps
        >>> grey = np.full((1, 64, 64, 3), 128, np.uint8)
        >>> maps = feature_maps(grey)
        >>> bool(abs(maps).max() < 1)  # of a grey image no channel but luminance says anything
        True
    """
    rgb = images.astype(np.float32) / 255
    luminance = rgb.mean(axis=-1)
    dy, dx = np.gradient(luminance, axis=(1, 2))
    return np.stack(
        [
            luminance,
            rgb[..., 0] - rgb[..., 1],
            rgb[..., 2] - (rgb[..., 0] + rgb[..., 1]) / 2,
            np.hypot(dy, dx),
        ]
    )


@dataclass(frozen=True)
class Subject:
    """The truth about a simulated subject: n vertices of both hemispheres, m of them responsive.

    Attributes:
        config: what it was made from.
        num_vertices: of the left and the right hemisphere.
        roi: name of the ROI per vertex [n], empty outside.
        responsive: indices of the responsive vertices [m], ascending.
        channel: index into CHANNELS [m]; -1 outside the retinotopic ROIs.
        rf_centre: (y, x) in pixels [m, 2]; NaN in the scene ROIs, which see the whole image.
        rf_sigma: pixels [m]; infinite in the scene ROIs.
        object_tuning: [m, objects], by OBJECTS.
        scene_tuning: [m, places + grounds + skies].
        drive_mean: of the drive over calibration scenes [m].
        drive_sd: standard deviation of the drive over calibration scenes [m].
        amplitude: percent signal change per unit of the saturated, standardised drive [m].
        signal_sd: sd of the signal over calibration scenes [m], percent signal change.
        baseline: mean response [n], percent signal change.
        noise_sd: of a single trial [n], percent signal change.
        spread: [m, m], mixes the standardised drives of the areas into those of responsive vertices
            around them; None where vertices outside the areas are silent.
    """

    config: AnySubjectConfig
    num_vertices: tuple[int, int]
    roi: np.ndarray
    responsive: Int[np.ndarray, " m"]
    channel: Int[np.ndarray, " m"]
    rf_centre: Float[np.ndarray, "m 2"]
    rf_sigma: Float[np.ndarray, " m"]
    object_tuning: Float[np.ndarray, "m objects"]
    scene_tuning: Float[np.ndarray, "m settings"]
    drive_mean: Float[np.ndarray, " m"]
    drive_sd: Float[np.ndarray, " m"]
    amplitude: Float[np.ndarray, " m"]
    signal_sd: Float[np.ndarray, " m"]
    baseline: Float[np.ndarray, " n"]
    noise_sd: Float[np.ndarray, " n"]
    spread: scipy.sparse.csr_array | None = None

    def signal(self, scenes: SceneBatch) -> Float32[np.ndarray, "i m"]:
        """Noise-free response of the responsive vertices, percent signal change, mean near 0."""
        drive = _drive(self, scenes)
        z = (drive - self.drive_mean) / self.drive_sd
        if self.spread is not None:
            z = z @ self.spread.T
        return (self.amplitude * SATURATION * np.tanh(z / SATURATION)).astype(np.float32)


def _drive(subject: Subject, scenes: SceneBatch) -> Float[np.ndarray, "i m"]:
    num = len(scenes.images)
    drive = np.zeros((num, len(subject.responsive)), dtype=np.float32)

    grid = np.arange(IMAGE_SIZE, dtype=np.float32)
    columns_of = [np.flatnonzero(subject.channel == c) for c in range(len(CHANNELS))]
    fields = []
    for columns in columns_of:
        centre, sigma = subject.rf_centre[columns], subject.rf_sigma[columns, None]
        row, column = (
            np.exp(-((grid - centre[:, axis, None]) ** 2) / (2 * sigma**2)) for axis in (0, 1)
        )
        field = np.einsum("my,mx->myx", row, column).reshape(len(columns), -1)
        field[field < 1e-5] = 0  # 1 at the centre: beyond 4.8 sigma nothing is left
        field /= field.sum(axis=1, keepdims=True)
        fields.append(scipy.sparse.csr_array(field.astype(np.float32)))
    for start in range(0, num, 250):
        part = slice(start, start + 250)
        features = feature_maps(scenes.images[part])
        for columns, field, feature in zip(columns_of, fields, features, strict=True):
            pixels = np.ascontiguousarray(feature.reshape(len(feature), -1).T)
            drive[part, columns] = (field @ pixels).T

    columns = np.flatnonzero(np.abs(subject.object_tuning).sum(axis=1) > 0)
    centre, sigma = subject.rf_centre[columns], subject.rf_sigma[columns]
    for i, scene in enumerate(scenes.scenes):
        for item in scene.objects:
            squared = ((centre - (item.y, item.x)) ** 2).sum(axis=1)
            weight = subject.object_tuning[columns, OBJECTS.index(item.scene_object)]
            drive[i, columns] += np.exp(-squared / (2 * sigma**2)) * weight

    columns = np.flatnonzero(np.abs(subject.scene_tuning).sum(axis=1) > 0)
    one_hot = np.concatenate(
        [
            np.eye(len(names), dtype=np.float32)[index] * (index >= 0)[:, None]
            for names, index in (
                (PLACES, scenes.place),
                (GROUNDS, scenes.ground),
                (SKIES, scenes.sky),
            )
        ],
        axis=1,
    )
    drive[:, columns] = one_hot @ subject.scene_tuning[columns].T
    return drive


def make_subject(config: SubjectConfig) -> Subject:
    """Samples a subject: ROIs, receptive fields, tuning, amplitudes and noise.

    Args:
        config: what to simulate; the same config gives the same subject.
    """
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))
    tuned = tuned_subject(config, rng)
    m, n = len(tuned.responsive), len(tuned.roi)
    signal_sd = rng.lognormal(0, 0.25, m)
    snr = config.snr * rng.lognormal(0, 0.25, m)
    noise_sd = 1.2 * rng.lognormal(0, 0.3, n)
    noise_sd[tuned.responsive] = signal_sd / snr
    baseline = rng.normal(0.3, 0.5, n)
    tuned = replace(tuned, signal_sd=signal_sd, noise_sd=noise_sd, baseline=baseline)
    scenes = sample_scenes(CALIBRATION_SCENES, config.seed + CALIBRATION_SEED_OFFSET)
    return calibrated(tuned, scenes)


def tuned_subject(
    config: AnySubjectConfig,
    rng: np.random.Generator,
    plans: tuple[Plan, Plan] | None = None,
    tuning: Tuning = FINE_TUNING,
) -> Subject:
    """ROIs, receptive fields and tuning; amplitudes and noise are still 1, baselines 0.

    Args:
        config: what the subject is made from.
        rng: source of randomness; advanced.
        plans: places and sizes of the left and the right hemisphere's ROIs; the literature's when
            None.
        tuning: how finely areas see.
    """
    hemispheres = load_hemispheres()
    placed = [
        place_hemisphere(h, right, plan)
        for h, right, plan in zip(
            hemispheres, (False, True), plans or (LITERATURE, LITERATURE), strict=True
        )
    ]
    roi = np.concatenate([names for names, _ in placed])
    position = np.concatenate([positions for _, positions in placed])
    num_vertices = (len(hemispheres[0].sphere), len(hemispheres[1].sphere))
    responsive = np.flatnonzero(roi != "")
    names, right = roi[responsive], responsive >= num_vertices[0]
    m = len(responsive)

    half = IMAGE_SIZE / 2
    object_category = np.array([CATEGORIES.index(t.category) for t in OBJECTS])
    settings = (len(PLACES), len(GROUNDS), len(SKIES))
    channel = np.full(m, -1)
    centre = np.full((m, 2), np.nan)
    sigma = np.full(m, np.inf)
    objects = np.zeros((m, len(OBJECTS)))
    scene = np.zeros((m, sum(settings)))
    slots = np.array(SLOT_CENTRES, dtype=float)
    for name in ROIS:
        rows = np.flatnonzero(names == name)
        if name.removesuffix("v").removesuffix("d") in tuning.field_sigma:
            eccentric, vertical = position[responsive[rows]].T
            side = np.where(right[rows], -1, 1)
            centre[rows] = np.stack(
                [IMAGE_SIZE * vertical - 0.5, half - 0.5 + side * half * eccentric], axis=1
            )
            base = tuning.field_sigma[name.removesuffix("v").removesuffix("d")]
            sigma[rows] = base * (1 + 0.4 * eccentric) * rng.lognormal(0, 0.1, len(rows))
            channel[rows] = rng.choice(len(CHANNELS), size=len(rows), p=CHANNEL_SHARES)
        elif name in CATEGORY_ROIS:
            for is_right in (False, True):
                own = rows[right[rows] == is_right]
                # The contralateral and the middle columns.
                visible = slots[slots[:, 1] <= half] if is_right else slots[slots[:, 1] >= half]
                chosen = visible[rng.permutation(np.arange(len(own)) % len(visible))]
                centre[own] = chosen + rng.normal(0, CATEGORY_JITTER, (len(own), 2))
            sigma[rows] = tuning.category_sigma * rng.lognormal(0, 0.15, len(rows))
            preferred = object_category == CATEGORIES.index(CATEGORY_ROIS[name])
            objects[rows] = np.where(
                preferred,
                1 + tuning.identity_strength * rng.normal(size=(len(rows), len(OBJECTS))),
                0.05 * rng.normal(size=(len(rows), len(OBJECTS))),
            )
        else:
            strengths = np.repeat(SCENE_STRENGTHS[name], settings)
            scene[rows] = strengths * rng.normal(size=(len(rows), sum(settings)))

    return Subject(
        config=config,
        num_vertices=num_vertices,
        roi=roi,
        responsive=responsive,
        channel=channel,
        rf_centre=centre,
        rf_sigma=sigma,
        object_tuning=objects,
        scene_tuning=scene,
        drive_mean=np.zeros(m),
        drive_sd=np.ones(m),
        amplitude=np.ones(m),
        signal_sd=np.ones(m),
        baseline=np.zeros(len(roi)),
        noise_sd=np.ones(len(roi)),
    )


def calibrated(subject: Subject, scenes: SceneBatch) -> Subject:
    """The subject with drives standardised over calibration scenes, and amplitudes from signal_sd.

    Args:
        subject: of any drive_mean, drive_sd and amplitude; without `spread`.
        scenes: over which drives and signals get their spread.
    """
    drive = _drive(subject, scenes)
    mean, sd = drive.mean(axis=0, dtype=np.float64), drive.std(axis=0, dtype=np.float64)
    saturated_sd = (SATURATION * np.tanh((drive - mean) / sd / SATURATION)).std(axis=0)
    amplitude = subject.signal_sd / saturated_sd
    return replace(subject, drive_mean=mean, drive_sd=sd, amplitude=amplitude)
