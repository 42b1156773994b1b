"""The noise of subjects as noisy as NSD's, and what it leaves of the noise-ceiling SNR.

A trial's noise at vertex v is noise_sd[v] * scale[run] times a sum of independent parts of
variance 1 in all:

* smooth: white noise averaged over the neighbours of neighbours, six times;
* shared: one number per trial for the whole brain, with a smooth positive weight per vertex;
* signal-like: per area in directions in which signals change with what a scene shows, which no
  number of vertices averages away (information-limiting correlations; Moreno-Bote et al. 2014,
  doi:10.1038/nn.3807). At NSD's SNR it costs a linear readout of subject 1 little: 90.3 % of
  categories with it and 92.9 % without, of 200 test images;
* white: the rest.

To that come a session's offset, trend and gain, as the clean subject has them.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float, Float32, Int

from neuroadapter_jax.simulation.layout import Hemisphere, load_hemispheres
from neuroadapter_jax.simulation.nsd_files import RUNS_PER_SESSION, run_lengths
from neuroadapter_jax.simulation.nsd_like import NSDLikeConfig
from neuroadapter_jax.simulation.streams import stream
from neuroadapter_jax.simulation.subject import Subject
from neuroadapter_jax.simulation.unseen_scenes import calibration_scenes, changed_scenes

# Sds of a session's drift: offset and linear trend in units of noise_sd, gain around 1.
OFFSET_SD, TREND_SD, GAIN_SD = 0.5, 0.5, 0.1
BAD_RUN_SCALE = 2.0
_LEAST_CHANGE = 1e-3  # mean square, in units of the signal's variance: below, an area ignores it
_NEIGHBOURHOOD = 6  # steps over the mesh of the smooth part


def run_scales(config: NSDLikeConfig, number: int) -> Float[np.ndarray, "sessions r"]:
    """Noise sd of each run in units of noise_sd: 1, or 2 where the run is a bad one."""
    rng = stream(config.seed, "bad runs", number)
    bad = rng.random((config.num_sessions, RUNS_PER_SESSION)) < config.bad_runs
    return np.where(bad, BAD_RUN_SCALE, 1.0)


def expected_ncsnr(
    ratio: Float[np.ndarray, " n"], scales: Float[np.ndarray, "sessions r"], drift: float
) -> Float[np.ndarray, " n"]:
    """The noise-ceiling SNR that NSD's estimator finds where signal sd / noise sd is `ratio`.

    Z-scored over a session of noise variance V (bad runs and trend in it) and gain variance G, a
    share (V + G ratio^2) / (V + (1 + G) ratio^2) is noise; sessions are averaged.
    """
    noise = (scales**2).mean(axis=1) + (drift * TREND_SD) ** 2 / 12
    gain = (drift * GAIN_SD) ** 2
    signal = ratio[:, None] ** 2
    share = ((noise + gain * signal) / (noise + (1 + gain) * signal)).mean(axis=1)
    return np.sqrt((1 - share) / share)


class SessionNoise:
    """Draws sessions of one subject's responses.

    Args:
        subject: of `make_cohort_subject`.
        number: of the subject.
        experiment: name of the streams; two experiments of one subject share its directions only.
    """

    def __init__(self, subject: Subject, number: int, experiment: str = "nsd"):
        if not isinstance(subject.config, NSDLikeConfig):
            raise TypeError("SessionNoise is of subjects of an NSDLikeConfig.")
        self.subject, self.number, self.experiment = subject, number, experiment
        self.config = config = subject.config
        n = len(subject.roi)
        self._directions = _signal_directions(subject, number) if config.signal_like_noise else None
        weight = np.full(n, 1.0)
        for side, hemisphere in enumerate(load_hemispheres()):
            part = np.split(np.arange(n), [subject.num_vertices[0]])[side]
            rng = stream(config.seed, "shared noise's weights", number, side)
            values = rng.standard_normal(len(part))
            for _ in range(12):
                values = hemisphere.neighbours @ values
            weight[part] = np.clip(1 + 0.3 * values / values.std(), 0.2, 1.8)
        responsive = np.zeros(n, bool)
        responsive[subject.responsive] = True
        signal_like = np.where(responsive, config.signal_like_noise, 0)
        shared = np.minimum(config.shared_noise * weight**2, 1 - config.smooth_noise - signal_like)
        white = np.maximum(1 - config.smooth_noise - signal_like - shared, 0)
        self._sds = {
            name: np.sqrt(values).astype(np.float32)[:, None]
            for name, values in (("signal-like", signal_like), ("shared", shared), ("white", white))
        }

    def responses(
        self,
        session: int,
        signal: Float32[np.ndarray, "trials m"],
        scales: Float[np.ndarray, " r"] | None = None,
    ) -> Float32[np.ndarray, "trials n"]:
        """One session's responses of both hemispheres in percent signal change.

        Args:
            session: 0-based.
            signal: noise-free response of the responsive vertices in each trial.
            scales: noise sd of each run, as `run_scales`; no bad run when None.
        """
        subject, config, trials = self.subject, self.config, len(signal)
        n = len(subject.roi)

        def rng(name: str, *index: int) -> np.random.Generator:
            return stream(config.seed, f"{self.experiment}: {name}", self.number, session, *index)

        noise = rng("white").standard_normal((n, trials), dtype=np.float32)
        noise *= self._sds["white"]
        if config.shared_noise:
            shared = rng("shared").standard_normal((1, trials), dtype=np.float32)
            noise += self._sds["shared"] * shared
        start = 0
        for side, count in enumerate(subject.num_vertices if config.smooth_noise else ()):
            values = rng("smooth", side).standard_normal((count, trials), dtype=np.float32)
            noise[start : start + count] += np.float32(np.sqrt(config.smooth_noise)) * (
                _smoothing(side) @ values
            )
            start += count
        if self._directions is not None:
            own = self._sds["signal-like"][subject.responsive]
            noise[subject.responsive] += own * self._directions.draw(rng("signal-like"), trials)
        if scales is not None:
            noise *= np.repeat(scales, run_lengths(trials)).astype(np.float32)
        if config.drift:
            drift = rng("drift")
            tau = np.linspace(-0.5, 0.5, trials, dtype=np.float32)
            for part, sd in ((tau, TREND_SD), (np.ones_like(tau), OFFSET_SD)):
                slope = (config.drift * sd * drift.standard_normal((n, 1))).astype(np.float32)
                noise += slope * part
        noise *= subject.noise_sd.astype(np.float32)[:, None]
        noise += subject.baseline.astype(np.float32)[:, None]
        gains = rng("gain").standard_normal((len(subject.responsive), 1))
        gain = (1 + config.drift * GAIN_SD * gains).astype(np.float32)
        noise[subject.responsive] += gain * signal.T
        return noise.T


@functools.cache
def _smoothing(side: int) -> scipy.sparse.csr_array:
    """[n, n], turns white noise into smooth noise of the same variance."""
    hemisphere: Hemisphere = load_hemispheres()[side]
    kernel = hemisphere.neighbours
    for _ in range(_NEIGHBOURHOOD - 1):
        kernel = scipy.sparse.csr_array(kernel @ hemisphere.neighbours)
    scale = kernel.power(2).sum(axis=1) ** -0.5
    return scipy.sparse.csr_array(kernel.multiply(scale[:, None]), dtype=np.float32)


@dataclasses.dataclass(frozen=True)
class _Directions:
    """The directions of the signal-like noise: per area its vertices [k] and loadings [k, f].

    `spread` mixes them into the vertices around areas, as it mixes signals; `scale` [m] brings each
    vertex to variance 1.
    """

    areas: list[tuple[Int[np.ndarray, " k"], Float32[np.ndarray, "k f"]]]
    spread: scipy.sparse.csr_array | None
    scale: Float32[np.ndarray, " m"]

    def draw(self, rng: np.random.Generator, trials: int) -> Float32[np.ndarray, "m trials"]:
        """Noise of variance 1, independent between areas."""
        noise = np.zeros((len(self.scale), trials), np.float32)
        for rows, loadings in self.areas:
            values = rng.standard_normal((loadings.shape[1], trials), dtype=np.float32)
            noise[rows] = loadings @ values
        if self.spread is not None:
            noise = (self.spread @ noise).astype(np.float32)
        return noise * self.scale[:, None]


def _signal_directions(subject: Subject, number: int) -> _Directions:
    """Random mixtures of how an area's signals change when one thing in a scene does.

    The thing is an object, which gives way to one of another category (half of the variance) or of
    the same; in areas that do not respond to objects it is the place, ground or sky. These are the
    differences that a decoder has to tell from noise, as the derivatives of tuning curves are in
    Moreno-Bote et al.
    """
    config = subject.config
    assert isinstance(config, NSDLikeConfig)
    before = subject.signal(calibration_scenes(config.seed))
    changes = [
        (subject.signal(scenes) - before) / subject.signal_sd
        for scenes in changed_scenes(config.seed)
    ]
    names = subject.roi[subject.responsive]
    areas, variance = [], np.zeros(len(names))
    for j, area in enumerate(np.unique(names[names != ""])):
        rows = np.flatnonzero(names == area)
        rng = stream(config.seed, "signal-like directions", number, j)
        of_objects = np.square(changes[0][:, rows]).mean() > _LEAST_CHANGE
        kinds = []
        for kind in (0, 1) if of_objects else (2,):
            weights = rng.standard_normal((len(before), config.factors))
            part = changes[kind][:, rows].T @ weights
            kinds.append(part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-6))
        loadings = np.concatenate(kinds, axis=1).astype(np.float32)
        areas.append((rows, loadings))
        whole = np.zeros((len(names), loadings.shape[1]), np.float32)
        whole[rows] = loadings
        mixed = whole if subject.spread is None else subject.spread @ whole
        variance += np.square(mixed).sum(axis=1)
    scale = np.maximum(variance, 1e-12) ** -0.5
    return _Directions(areas, subject.spread, scale.astype(np.float32))
