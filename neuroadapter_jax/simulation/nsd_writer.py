"""Writes a simulated subject to disk in the Natural Scenes Dataset's own layout and formats.

Beside NSD's files stand the configuration and the truth that no scanner tells; see `truth`.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from jaxtyping import Float32, Int, Integer

from neuroadapter_jax.cortex.label_files import write_annot
from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.cortex.sphere import parcellate_sphere
from neuroadapter_jax.files import remove_partial_folders, whole_folder
from neuroadapter_jax.locks import locked
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.simulation.layout import Hemisphere, load_hemispheres
from neuroadapter_jax.simulation.scenes import SceneBatch, sample_scenes
from neuroadapter_jax.simulation.subject import (
    STIMULUS_SEED_OFFSET,
    Subject,
    SubjectConfig,
    make_subject,
)
from neuroadapter_jax.simulation.truth import holds_subject, write_configuration, write_truth
from neuroadapter_jax.simulation.truth import load_scenes as load_scenes  # where callers find them
from neuroadapter_jax.simulation.truth import load_truth as load_truth

BETA_VERSION = "betas_fithrf_GLMdenoise_RR"
SPACE = "fsaverage5"
SUBJECT_NAME = "subj01"
RUNS_PER_SESSION = 12
# Sds of a session's drift: offset and linear trend in units of noise_sd, gain around 1.
OFFSET_SD, TREND_SD, GAIN_SD = 0.5, 0.5, 0.1
_MAT_TEXT_BYTES = 116
# Native label files: atlas -> its labels by value, 0 being Unknown. NSD has no "simulated-vtc".
ATLASES = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "simulated-vtc": ("LO", "VTC-food", "VTC-animal"),
}

_BEHAVIOUR_COLUMNS = (
    *("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT"),
    *("CHANGEMIND", "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT"),
    *("TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"),
)


@dataclasses.dataclass(frozen=True)
class Design:
    """Which image is shown in which trial.

    Attributes:
        ten_k: 10k ID - 1 of each trial.
        subject_images: 0-based image (73k ID - 1) of each 10k ID - 1; the shared ones come first.
        shared: 0-based shared images, ascending.
    """

    ten_k: Int[np.ndarray, " trials"]
    subject_images: Int[np.ndarray, " images"]
    shared: Int[np.ndarray, " shared"]

    @property
    def images(self) -> Int[np.ndarray, " trials"]:
        """0-based image of each trial: the row of imgBrick."""
        return self.subject_images[self.ten_k]


def make_design(config: SubjectConfig) -> Design:
    """Samples the order of trials: each repeat is one pass through all images, in its own order.

    Args:
        config: what is simulated; the same config gives the same design.

    Examples:
        >>> from neuroadapter_jax.simulation.nsd_writer import make_design
        >>> from neuroadapter_jax.simulation.subject import SubjectConfig
        >>> config = SubjectConfig(
        ...     num_images=10, num_shared=4, num_repeats=3, trials_per_session=15
        ... )
        >>> design = make_design(config)
        >>> len(design.images), len(design.shared)
        (30, 4)
    """
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(1,)))
    shared = np.sort(rng.choice(config.num_images, config.num_shared, replace=False))
    others = np.setdiff1d(np.arange(config.num_images), shared)
    passes = [rng.permutation(config.num_images) for _ in range(config.num_repeats)]
    return Design(
        ten_k=np.concatenate(passes),
        subject_images=np.concatenate([shared, rng.permutation(others)]),
        shared=shared,
    )


def session_betas(
    subject: Subject,
    hemisphere: Hemisphere,
    side: int,
    session: int,
    signal: Float32[np.ndarray, "trials m"],
) -> Float32[np.ndarray, "trials n"]:
    """One session's responses of one hemisphere in percent signal change.

    Args:
        subject: the truth.
        hemisphere: its mesh, for smooth noise.
        side: 0 left, 1 right.
        session: 0-based.
        signal: noise-free response of both hemispheres' responsive vertices in each trial.
    """
    config = subject.config
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(2, side, session)))
    n = subject.num_vertices[side]
    start = side * subject.num_vertices[0]
    here = (subject.responsive >= start) & (subject.responsive < start + n)
    noise_sd = subject.noise_sd[start : start + n].astype(np.float32)

    noise = rng.standard_normal((n, len(signal)), dtype=np.float32)
    if config.noise_smoothness:
        smooth = hemisphere.neighbours @ noise
        smooth *= (
            np.sqrt(config.noise_smoothness) * hemisphere.neighbours.power(2).sum(axis=1) ** -0.5
        ).astype(np.float32)[:, None]
        # Fresh white noise, so that the two parts are independent.
        rng.standard_normal(out=noise, dtype=np.float32)
        noise *= np.float32(np.sqrt(1 - config.noise_smoothness))
        noise += smooth
    tau = np.linspace(-0.5, 0.5, len(signal), dtype=np.float32)
    noise += (TREND_SD * rng.standard_normal((n, 1))).astype(np.float32) * tau
    noise += (OFFSET_SD * rng.standard_normal((n, 1))).astype(np.float32)
    noise *= noise_sd[:, None]
    noise += subject.baseline[start : start + n].astype(np.float32)[:, None]
    gain = (1 + GAIN_SD * rng.standard_normal((here.sum(), 1))).astype(np.float32)
    noise[subject.responsive[here] - start] += gain * signal[:, here].T
    return noise.T


def write_nsd(
    root: str | os.PathLike, config: SubjectConfig | None = None, progress: bool = True
) -> Path:
    """Simulates a subject and writes it as NSD's subject 1, on the surface "fsaverage5".

    The root appears only when it is complete. One that holds the same configuration already is left
    as it is; while another process simulates it, this one waits.

    Args:
        root: the folder to write, as the root of NSD's bucket.
        config: what to simulate; the defaults when None.
        progress: whether to show a bar over sessions.

    Returns:
        The root.

    Raises:
        InputError: root holds something else.
    """
    root, config = Path(root), config or SubjectConfig()
    if root.exists() and holds_subject(root, config):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.with_name(f".{root.name}.lock")):
        if root.exists() and holds_subject(root, config):  # another process has just made it
            return root
        remove_partial_folders(root)
        with whole_folder(root) as partial:
            subject, design = make_subject(config), make_design(config)
            scenes = sample_scenes(config.num_images, config.seed + STIMULUS_SEED_OFFSET)
            signal = subject.signal(scenes)
            _write_experiment(partial, config, design, scenes)
            _write_anatomy(partial, config, subject)
            _write_betas(partial, subject, design, signal, progress)
            write_truth(partial, subject, scenes)
            write_configuration(partial, config)
    return root


def _run_lengths(trials: int) -> np.ndarray:
    """Trials of each run; where they differ, odd runs are longer (NSD: 63 and 62)."""
    lengths = np.full(RUNS_PER_SESSION, trials // RUNS_PER_SESSION)
    longer = [*range(0, RUNS_PER_SESSION, 2), *range(1, RUNS_PER_SESSION, 2)]
    lengths[longer[: trials % RUNS_PER_SESSION]] += 1
    return lengths


def _write_experiment(
    root: Path, config: SubjectConfig, design: Design, scenes: SceneBatch
) -> None:
    experiment = root / "nsddata" / "experiments" / "nsd"
    experiment.mkdir(parents=True)
    runs = _run_lengths(config.trials_per_session)
    stimpattern = np.zeros((config.num_sessions, RUNS_PER_SESSION, max(75, runs.max() + 12)))
    for run, length in enumerate(runs):
        stimpattern[:, run, 3 : 3 + length] = 1
    shown = np.zeros(config.num_images, dtype=int)
    basiccnt = np.zeros((3, config.num_sessions))
    for s, images in enumerate(design.images.reshape(config.num_sessions, -1)):
        np.add.at(shown, images, 1)
        basiccnt[:, s] = [(shown >= k).sum() for k in (1, 2, 3)]
    _save_mat(
        experiment / "nsd_expdesign.mat",
        {
            "masterordering": design.ten_k[None] + 1.0,
            "subjectim": design.subject_images[None] + 1.0,
            "sharedix": design.shared[None] + 1.0,
            "stimpattern": stimpattern,
            "basiccnt": basiccnt,
        },
    )

    subjects = range(1, 9)
    header = ["", "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000"]
    header += ["shared1000", *(f"subject{s}" for s in subjects)]
    header += [f"subject{s}_rep{k}" for s in subjects for k in range(3)]
    order = np.argsort(design.images, kind="stable").reshape(config.num_images, -1) + 1
    shared = set(design.shared.tolist())
    with open(experiment / "nsd_stim_info_merged.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for image, trials in enumerate(order.tolist()):
            crop, trials = "(0.0, 0.0, 0.0, 0.0)", [*trials, 0][:3]
            row = [image, image, "simulated", crop, 0.0, image, False, False, image in shared]
            writer.writerow([*row, 1, *[0] * 7, *trials, *[0] * 21])

    stimuli = root / "nsddata_stimuli" / "stimuli" / "nsd"
    stimuli.mkdir(parents=True)
    with h5py.File(stimuli / "nsd_stimuli.hdf5", "w") as file:
        file.create_dataset("imgBrick", data=scenes.images)

    _write_behaviour(root / "nsddata" / "ppdata" / SUBJECT_NAME / "behav", config, design, runs)


def _save_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A MATLAB file whose bytes are a function of the arrays alone.

    SciPy writes the time of day into the text at its start, 116 bytes that no reader looks at.
    """
    scipy.io.savemat(path, arrays, do_compression=True)
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, simulated by neuroadapter-jax".ljust(_MAT_TEXT_BYTES))


def _write_behaviour(
    folder: Path, config: SubjectConfig, design: Design, runs: Integer[np.ndarray, " r"]
) -> None:
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(3,)))
    folder.mkdir(parents=True)
    run_of = np.repeat(np.arange(RUNS_PER_SESSION), runs)
    trial_of = np.concatenate([np.arange(length) for length in runs])
    first: dict[int, int] = {}  # trial of each image
    last: dict[int, int] = {}
    with open(folder / "responses.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(_BEHAVIOUR_COLUMNS)
        for t, image in enumerate(design.images.tolist()):
            session, within = divmod(t, config.trials_per_session)
            old = image in first
            current = old and last[image] // config.trials_per_session == session
            correct = int(rng.random() < 0.85)
            says_old = old == bool(correct)
            seconds = 600 * run_of[within] + 4 * (trial_of[within] + 3)
            row = [1, session + 1, run_of[within] + 1, trial_of[within] + 1]
            row += [image + 1, design.ten_k[t] + 1]
            row += [f"{7 * session + 0.4 + seconds / 86400:.8f}", int(old), correct]
            row += [f"{rng.lognormal(6.6, 0.25):.3f}", 0]
            row += [t - last[image] - 1, t - first[image] - 1] if old else ["NaN", "NaN"]
            row += [int(current), int(says_old == current)]
            row += [int(not says_old), int(says_old), 1 + int(says_old), 0]
            writer.writerow(row)
            first.setdefault(image, t)
            last[image] = t


def _save_surface(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(values), 1, 1, *values.shape[1:])
    nib.save(nib.freesurfer.MGHImage(values.reshape(shape), np.eye(4)), path)


def _write_anatomy(root: Path, config: SubjectConfig, subject: Subject) -> None:
    """Parcellation on fsaverage5; ROIs on the native surface, its vertices in another order."""
    rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(4,)))
    per_hemisphere = config.regions_per_hemisphere
    freesurfer = root / "nsddata" / "freesurfer"
    (freesurfer / SPACE / "label").mkdir(parents=True)
    native = freesurfer / SUBJECT_NAME / "label"
    native.mkdir(parents=True)
    for atlas, names in ATLASES.items():
        lines = [f"{value} {name}" for value, name in enumerate(("Unknown", *names))]
        (native / f"{atlas}.mgz.ctab").write_text("\n".join(lines) + "\n")
    rois = np.split(subject.roi, [subject.num_vertices[0]])
    for side, (name, hemisphere) in enumerate(zip(HEMISPHERES, load_hemispheres(), strict=True)):
        labels = parcellate_sphere(
            hemisphere.sphere, per_hemisphere, ~hemisphere.medial_wall, config.seed
        )
        write_annot(
            freesurfer / SPACE / "label" / f"{name}.Simulated{2 * per_hemisphere}Parcels.annot",
            labels,
            [f"Simulated_{name.upper()}_{k + 1:03d}" for k in range(per_hemisphere)],
        )
        to_native = rng.permutation(len(labels))
        _save_surface(
            root / f"nsddata/ppdata/{SUBJECT_NAME}/transforms/{name}.white-to-fsaverage.mgz",
            (to_native + 1).astype(np.int32),
        )
        for atlas, names in ATLASES.items():
            values = np.zeros(len(labels), dtype=np.int32)
            for value, roi in enumerate(names, start=1):
                values[to_native[rois[side] == roi]] = value
            _save_surface(native / f"{name}.{atlas}.mgz", values)


def _write_betas(
    root: Path,
    subject: Subject,
    design: Design,
    signal: Float32[np.ndarray, "images m"],
    progress: bool,
) -> None:
    config = subject.config
    folder = root / "nsddata_betas" / "ppdata" / SUBJECT_NAME / SPACE / BETA_VERSION
    sessions = design.images.reshape(config.num_sessions, -1)
    bar = Bar(
        total=2 * len(sessions), desc="simulating sessions", unit="file", disable=not progress
    )
    with bar:
        for side, (name, hemisphere) in enumerate(
            zip(HEMISPHERES, load_hemispheres(), strict=True)
        ):
            ceiling = NoiseCeiling(design.images, subject.num_vertices[side], config.num_repeats)
            for s, images in enumerate(sessions):
                betas = session_betas(subject, hemisphere, side, s, signal[images])
                _save_surface(folder / f"{name}.betas_session{s + 1:02d}.mgh", betas.T)
                ceiling.add(betas)
                bar.update()
            _save_surface(folder / f"{name}.ncsnr.mgh", ceiling.ncsnr())
