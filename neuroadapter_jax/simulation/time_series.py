"""BOLD time series of a simulated subject whose single-trial responses are known.

    y[t] = level * (1 + (sum over k of beta[k] * r(t - onset[k]) + drift[t] + noise[t]) / 100)

r is the double-gamma response to three seconds of stimulation, of peak 1, so a beta is in percent
signal change of its trial k. Trials begin every four seconds, after three blank ones, as in NSD.
The drift is a sum of slow cosines and the noise autoregressive of order 1. Least squares with the
same regressors (`least_squares`) gives the betas back, with the error that the noise makes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import scipy.signal
import scipy.stats
from jaxtyping import Float, Float32, Int

from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.cortex.surface_files import read_mgh
from neuroadapter_jax.errors import InputError, MissingFileError
from neuroadapter_jax.ranges import NonNegative, Positive, Seed, ShareBelowOne, check_fields
from neuroadapter_jax.simulation.nsd_files import SPACE, betas_folder, subject_name
from neuroadapter_jax.simulation.streams import stream

TRIAL_SECONDS, STIMULUS_SECONDS = 4.0, 3.0
BLANKS_BEFORE, BLANKS_AFTER = 3, 4
_SLOWEST_KEPT_SECONDS = 128.0  # period of the fastest drift


@dataclass(frozen=True)
class TimeSeriesSettings:
    """How a time series is made of betas.

    Attributes:
        repetition_time: seconds from volume to volume; NSD's preparation at 1.8 mm has 4/3.
        drift_sd: of the drift, percent signal change.
        noise_sd: of the noise, percent signal change.
        autocorrelation: of the noise, from a volume to the next.
        seed: of drift and noise.
    """

    repetition_time: Positive = 4 / 3
    drift_sd: NonNegative = 1.0
    noise_sd: NonNegative = 0.5
    autocorrelation: ShareBelowOne = 0.4
    seed: Seed = 1

    def __post_init__(self):
        check_fields(self)


def stimulus_response(seconds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Response to three seconds of stimulation from second 0 on; its peak is 1.

    The double gamma of SPM, h(t) = g(t; 6) - g(t; 16) / 6 with gamma densities g of scale 1 s
    (Friston et al. 1998), integrated over the stimulus in closed form.
    """
    fine = np.linspace(0, 30, 3001)
    return _unscaled(seconds) / _unscaled(fine).max()


def _unscaled(seconds: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    def integral(shape: float) -> np.ndarray:
        density = scipy.stats.gamma(shape)
        return density.cdf(seconds) - density.cdf(seconds - STIMULUS_SECONDS)

    return integral(6.0) - integral(16.0) / 6


def trial_onsets(num_trials: int) -> Float[np.ndarray, " trials"]:
    """Second at which each trial of a run begins."""
    return TRIAL_SECONDS * (BLANKS_BEFORE + np.arange(num_trials))


def num_volumes(num_trials: int, repetition_time: float) -> int:
    """Volumes of a run, the blank trials at its end included."""
    seconds = TRIAL_SECONDS * (BLANKS_BEFORE + num_trials + BLANKS_AFTER)
    return round(seconds / repetition_time)


def trial_regressors(
    num_trials: int, repetition_time: float
) -> Float[np.ndarray, "volumes trials"]:
    """The response to each trial, volume by volume."""
    times = repetition_time * np.arange(num_volumes(num_trials, repetition_time))
    return stimulus_response(times[:, None] - trial_onsets(num_trials))


def drift_regressors(volumes: int, repetition_time: float) -> Float[np.ndarray, "volumes k"]:
    """A constant, and cosines of periods down to 128 s; columns of mean square 1."""
    fastest = int(2 * volumes * repetition_time / _SLOWEST_KEPT_SECONDS)
    phase = np.pi * (np.arange(volumes)[:, None] + 0.5) / volumes
    cosines = np.sqrt(2) * np.cos(phase * np.arange(1, fastest + 1))
    return np.concatenate([np.ones((volumes, 1)), cosines], axis=1)


def simulate_run(
    betas: Float[np.ndarray, "trials n"],
    rng: np.random.Generator,
    settings: TimeSeriesSettings | None = None,
) -> Float32[np.ndarray, "volumes n"]:
    """The time series of a run, in the scanner's arbitrary unit; see the module.

    Args:
        betas: of its trials, percent signal change.
        rng: of level, drift and noise; advanced.
        settings: the defaults when None.
    """
    settings = settings or TimeSeriesSettings()
    num_trials, n = betas.shape
    regressors = trial_regressors(num_trials, settings.repetition_time)
    slow = drift_regressors(len(regressors), settings.repetition_time)[:, 1:]
    level = 1000 * rng.lognormal(0, 0.2, n)
    weights = rng.standard_normal((slow.shape[1], n)) / np.sqrt(max(slow.shape[1], 1))
    rho = settings.autocorrelation
    # The first volumes are thrown away, so that the noise has its variance from the start.
    fresh = rng.standard_normal((len(regressors) + 50, n))
    noise = scipy.signal.lfilter([np.sqrt(1 - rho**2)], [1, -rho], fresh, axis=0)[50:]
    percent = regressors @ betas + settings.drift_sd * slow @ weights + settings.noise_sd * noise
    return (level * (1 + percent / 100)).astype(np.float32)


def least_squares(
    series: Float[np.ndarray, "volumes n"], num_trials: int, repetition_time: float = 4 / 3
) -> Float[np.ndarray, "trials n"]:
    """Single-trial betas of a run in percent signal change, by ordinary least squares.

    Args:
        series: of `simulate_run`.
        num_trials: of the run.
        repetition_time: seconds from volume to volume.

    Raises:
        InputError: the series has another length.
    """
    trials = trial_regressors(num_trials, repetition_time)
    if len(series) != len(trials):
        raise InputError(
            f"The time series has {len(series)} volumes; a run of {num_trials} trials has "
            f"{len(trials)} at {repetition_time:.4g} s: give the run's own number of trials."
        )
    drift = drift_regressors(len(trials), repetition_time)
    design = np.concatenate([trials, drift], axis=1)
    weights = np.linalg.lstsq(design, series.astype(np.float64), rcond=None)[0]
    return 100 * weights[:num_trials] / weights[num_trials]


def write_time_series(
    root: str | os.PathLike,
    number: int = 1,
    session: int = 1,
    runs: Sequence[int] = (1, 2, 3),
    settings: TimeSeriesSettings | None = None,
) -> list[Path]:
    """Writes the time series of some runs of a simulated subject, from the betas that it has.

    As in NSD's nsddata_timeseries, a run is a NIfTI file and a design file, of a line per volume:
    the 73k ID of the stimulus that begins there, else 0. Where we differ: responses are on a
    surface, so there is a file per hemisphere, of shape [vertices, 1, 1, volumes].

    Args:
        root: the folder of `write_nsd` or `write_cohort`.
        number: of the subject.
        session: counted from 1.
        runs: of the session, counted from 1.
        settings: the defaults when None.

    Returns:
        The NIfTI files.

    Raises:
        MissingFileError: the root has no such subject or session.
        InputError: the session has no such run.
    """
    root, settings = Path(root), settings or TimeSeriesSettings()
    table = root / "nsddata" / "ppdata" / subject_name(number) / "behav" / "responses.tsv"
    sources = [
        betas_folder(root, number) / f"{h}.betas_session{session:02d}.mgh" for h in HEMISPHERES
    ]
    for path in (table, *sources):
        if not path.is_file():
            raise MissingFileError(
                f"{path} does not exist, so there are no betas to make a time series of; simulate "
                f"subject {number} into {root} first, or name a session that it has."
            )
    with table.open(newline="") as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if int(r["SESSION"]) == session]
    run_of = np.array([int(row["RUN"]) for row in rows])
    images = np.array([int(row["73KID"]) for row in rows])
    if lacking := sorted(set(runs) - set(run_of.tolist())):
        raise InputError(
            f"Session {session} of subject {number} has the runs 1 to {run_of.max()}, not run "
            f"{lacking[0]}; choose among them."
        )
    folder = root / "nsddata_timeseries" / "ppdata" / subject_name(number) / SPACE
    for name in ("timeseries", "design"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    written = []
    for side, (hemisphere, source) in enumerate(zip(HEMISPHERES, sources, strict=True)):
        betas = read_mgh(source)[:, 0, 0].T
        for run in runs:
            rng = stream(settings.seed, "time series", number, session, run, side)
            series = simulate_run(betas[run_of == run], rng, settings)
            image = nib.Nifti1Image(series.T[:, None, None], np.eye(4))
            image.header.set_zooms((1, 1, 1, settings.repetition_time))
            image.header.set_xyzt_units("mm", "sec")
            place = f"{hemisphere}.timeseries_session{session:02d}_run{run:02d}.nii.gz"
            nib.save(image, folder / "timeseries" / place)
            written.append(folder / "timeseries" / place)
    for run in runs:
        design = design_column(images[run_of == run], settings.repetition_time)
        table = folder / "design" / f"design_session{session:02d}_run{run:02d}.tsv"
        table.write_text("".join(f"{value}\n" for value in design))
    return written


def design_column(
    images: Int[np.ndarray, " trials"], repetition_time: float
) -> Int[np.ndarray, " volumes"]:
    """The 73k ID of the trial that begins at each volume, to the nearest volume; 0 where none."""
    column = np.zeros(num_volumes(len(images), repetition_time), np.int64)
    column[np.rint(trial_onsets(len(images)) / repetition_time).astype(int)] = images
    return column
