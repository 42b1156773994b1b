"""Subjects as noisy as NSD's, each with functional areas, tuning and noise of its own.

A subject is the one of module `subject` with these differences:

* Its ROIs lie around the literature's places and have sizes of their own, in each hemisphere, and
  its receptive fields, tunings and identity preferences are its own draws: anatomy alone aligns no
  two subjects.
* Retinotopic fields are as large as NSD's subjects', see `COARSE_TUNING`, and objects of a category
  drive its areas more alike.
* Vertices within `REACH_MM` of an ROI respond with a mixture of the drives of the nearest ROI
  vertices; all farther ones are silent.
* The SNR of a single trial is smooth over the cortex, lognormal within ROIs, and falls off
  outside by exp(-distance / FALL_OFF_MM). It is scaled so that NSD's own estimator finds NSD's
  published median within `visual_mask`.

Module `noise` has the noise.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import scipy.sparse
import scipy.spatial
from jaxtyping import Bool, Float

from neuroadapter_jax.simulation.layout import (
    distance_to,
    fitting_plan,
    load_hemispheres,
    place_hemisphere,
)
from neuroadapter_jax.simulation.noise import expected_ncsnr, run_scales
from neuroadapter_jax.simulation.nsd_like import MEDIAN_NCSNR, NSDLikeConfig
from neuroadapter_jax.simulation.scenes import SceneBatch
from neuroadapter_jax.simulation.streams import stream
from neuroadapter_jax.simulation.subject import (
    CATEGORY_SIGMA,
    SATURATION,
    Subject,
    Tuning,
    calibrated,
    tuned_subject,
)
from neuroadapter_jax.simulation.unseen_scenes import calibration_scenes

REACH_MM, FALL_OFF_MM = 12.0, 12.0
# Receptive fields as large as in NSD, whose images are 8.4 degrees wide, so 7.6 pixels a degree:
# about 0.6, 0.8, 1 and 1.7 degrees near the fovea (Dumoulin and Wandell 2008, figure 8). The clean
# subject's are less than half as large.
COARSE_TUNING = Tuning({"V1": 4.5, "V2": 6.0, "V3": 8.0, "hV4": 13.0}, CATEGORY_SIGMA, 0.2)
_RETINOTOPIC = ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")
_SOURCES = 6  # ROI vertices whose drives a vertex around mixes
_SMOOTHING = 12  # steps over the mesh
_SMOOTH_SD, _ROUGH_SD = 0.2, 0.15  # of the logarithm of the SNR
# SNR of category and scene areas relative to that of retinotopic ones, and of vertices around.
_HIGHER_SNR = 0.35
_NOISE_SD = 1.6  # median, percent signal change; NSD's subject 1 has 1.75 in all


@functools.cache
def visual_mask() -> Bool[np.ndarray, " n"]:
    """The region that stands for NSD's nsdgeneral: the literature's ROIs, 12 % of the cortex.

    It is the same for all subjects, as nsdgeneral on fsaverage (also 12 %) is; in each subject it
    holds most of the vertices of its ROIs and a part of those around.
    """
    return np.concatenate(
        [place_hemisphere(h, bool(right))[0] != "" for right, h in enumerate(load_hemispheres())]
    )


def make_cohort_subject(config: NSDLikeConfig, number: int) -> Subject:
    """Samples one subject of the cohort.

    Args:
        config: what to simulate.
        number: of the subject, 1 to 8.
    """
    left, right = (
        fitting_plan(hemisphere, bool(side), stream(config.seed, "layout", number, side))
        for side, hemisphere in enumerate(load_hemispheres())
    )
    core = tuned_subject(
        config, stream(config.seed, "tuning", number), (left, right), COARSE_TUNING
    )
    core = calibrated(core, calibration_scenes(config.seed))
    rng = stream(config.seed, "signal and noise", number)
    distance, mix = _surround(core, rng)
    subject = _with_surround(core, mix, calibration_scenes(config.seed))

    n = len(core.roi)
    shape = np.exp(_SMOOTH_SD * _smooth(rng) + _ROUGH_SD * rng.standard_normal(n))
    shape *= _area_gain(core)
    shape *= np.where(distance <= REACH_MM, np.exp(-distance / FALL_OFF_MM), 0)
    silent = np.ones(n, bool)
    silent[subject.responsive] = False
    shape[silent] = 0
    ratio = _scaled(shape, MEDIAN_NCSNR[number], config, number)
    noise_sd = _NOISE_SD * np.exp(0.25 * _smooth(rng) + 0.1 * rng.standard_normal(n))
    signal_sd = (ratio * noise_sd)[subject.responsive]
    return replace(
        subject,
        amplitude=subject.amplitude * signal_sd,
        signal_sd=signal_sd,
        noise_sd=noise_sd,
        baseline=rng.normal(0.3, 0.5, n),
    )


def _area_gain(core: Subject) -> Float[np.ndarray, " n"]:
    """Relative SNR of a vertex's area, or of the nearest one."""
    gains = []
    for hemisphere, roi in zip(
        load_hemispheres(), np.split(core.roi, [core.num_vertices[0]]), strict=True
    ):
        members = np.flatnonzero(roi != "")
        nearest = scipy.spatial.cKDTree(hemisphere.sphere[members]).query(hemisphere.sphere)[1]
        retinotopic = np.isin(roi[members[nearest]], _RETINOTOPIC)
        gains.append(np.where(retinotopic, 1.0, _HIGHER_SNR))
    return np.concatenate(gains)


def _scaled(
    shape: Float[np.ndarray, " n"], median: float, config: NSDLikeConfig, number: int
) -> Float[np.ndarray, " n"]:
    """Signal sd over noise sd per vertex, so that the ncsnr of the mask has the wished median."""
    ratios = np.linspace(0, 4, 4001)
    expected = expected_ncsnr(ratios, run_scales(config, number), config.drift)
    wished = float(np.interp(median, expected, ratios))
    return shape * (wished / float(np.median(shape[visual_mask()])))


def _smooth(rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """A smooth map over both hemispheres of mean 0 and sd 1."""
    parts = []
    for hemisphere in load_hemispheres():
        values = rng.standard_normal(len(hemisphere.sphere))
        for _ in range(_SMOOTHING):
            values = hemisphere.neighbours @ values
        parts.append((values - values.mean()) / values.std())
    return np.concatenate(parts)


def _surround(
    core: Subject, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " n"], scipy.sparse.csr_array]:
    """Distance to the nearest ROI vertex, mm, and [n, m] which ROI vertices each vertex mixes.

    A vertex of an ROI is itself; rows of silent vertices are empty.
    """
    distances, rows, columns, values, start = [], [], [], [], 0
    for hemisphere in load_hemispheres():
        n = len(hemisphere.sphere)
        inside = core.roi[start : start + n] != ""
        distance = distance_to(hemisphere, inside)
        around = np.flatnonzero((distance > 0) & (distance <= REACH_MM) & ~hemisphere.medial_wall)
        members = np.flatnonzero(inside)
        nearest = scipy.spatial.cKDTree(hemisphere.sphere[members]).query(
            hemisphere.sphere[around], _SOURCES
        )[1]
        first = int(np.searchsorted(core.responsive, start))
        weights = rng.lognormal(0, 0.5, nearest.shape)
        rows += [start + members, start + np.repeat(around, _SOURCES)]
        columns += [first + np.arange(len(members)), first + nearest.reshape(-1)]
        values += [np.ones(len(members)), weights.reshape(-1)]
        distances.append(distance)
        start += n
    place = (np.concatenate(rows), np.concatenate(columns))
    shape = (len(core.roi), len(core.responsive))
    return np.concatenate(distances), scipy.sparse.csr_array(
        scipy.sparse.coo_array((np.concatenate(values), place), shape=shape)
    )


def _with_surround(core: Subject, mix: scipy.sparse.csr_array, scenes: SceneBatch) -> Subject:
    """The subject with the vertices around ROIs among the responsive ones; signals of sd 1."""
    responsive = np.flatnonzero(np.diff(mix.indptr))
    inside = np.searchsorted(responsive, core.responsive)
    m = len(responsive)

    def widened(values: np.ndarray, outside: int | float) -> np.ndarray:
        whole = np.full((m, *values.shape[1:]), outside, values.dtype)
        whole[inside] = values
        return whole

    columns = scipy.sparse.csr_array(
        scipy.sparse.coo_array(
            (np.ones(len(inside)), (np.arange(len(inside)), inside)), shape=(len(inside), m)
        )
    )
    spread = scipy.sparse.csr_array(mix[responsive] @ columns)
    subject = replace(
        core,
        responsive=responsive,
        channel=widened(core.channel, -1),
        rf_centre=widened(core.rf_centre, np.nan),
        rf_sigma=widened(core.rf_sigma, np.inf),
        object_tuning=widened(core.object_tuning, 0),
        scene_tuning=widened(core.scene_tuning, 0),
        drive_mean=widened(core.drive_mean, 0),
        drive_sd=widened(core.drive_sd, 1),
        amplitude=np.ones(m),
        signal_sd=np.ones(m),
        spread=spread,
    )
    saturated = core.signal(scenes) / core.amplitude / SATURATION
    z = SATURATION * np.arctanh(saturated.astype(np.float64))  # of the ROIs, sd 1
    mixed = z @ mix[responsive].T
    # What is mixed gets the sd 1 before it saturates, too.
    scale = 1 / mixed.std(axis=0)
    signal_sd = (SATURATION * np.tanh(mixed * scale / SATURATION)).std(axis=0)
    return replace(
        subject,
        spread=scipy.sparse.csr_array(spread.multiply(scale[:, None])),
        amplitude=1 / signal_sd,
    )
