"""The files of NSD's layout that a simulation writes, of one or of several subjects."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import scipy.io
from jaxtyping import Int, UInt8

from neuroadapter_jax.cortex.label_files import write_annot
from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.cortex.sphere import parcellate_sphere
from neuroadapter_jax.simulation.layout import load_hemispheres

BETA_VERSION = "betas_fithrf_GLMdenoise_RR"
SPACE = "fsaverage5"
RUNS_PER_SESSION = 12
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


def subject_name(number: int) -> str:
    """Such as subj01."""
    return f"subj{number:02d}"


def betas_folder(root: Path, number: int) -> Path:
    """Where the betas of a subject are."""
    return root / "nsddata_betas" / "ppdata" / subject_name(number) / SPACE / BETA_VERSION


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


def run_lengths(trials: int) -> np.ndarray:
    """Trials of each run; where they differ, odd runs are longer (NSD: 63 and 62)."""
    lengths = np.full(RUNS_PER_SESSION, trials // RUNS_PER_SESSION)
    longer = [*range(0, RUNS_PER_SESSION, 2), *range(1, RUNS_PER_SESSION, 2)]
    lengths[longer[: trials % RUNS_PER_SESSION]] += 1
    return lengths


def save_mat(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A MATLAB file whose bytes are a function of the arrays alone.

    SciPy writes the time of day into the text at its start, 116 bytes that no reader looks at.
    """
    scipy.io.savemat(path, arrays, do_compression=True)
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file, simulated by neuroadapter-jax".ljust(_MAT_TEXT_BYTES))


def save_surface(path: Path, values: np.ndarray) -> None:
    """An MGH file of [n] or [n, trials] values; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (len(values), 1, 1, *values.shape[1:])
    nib.save(nib.freesurfer.MGHImage(values.reshape(shape), np.eye(4)), path)


def write_experiment(root: Path, designs: Mapping[int, Design], trials_per_session: int) -> None:
    """Writes the design of all subjects and the table of stimuli.

    Args:
        root: as the root of NSD's bucket.
        designs: by the subject's number, all of the same trials. Numbers up to the largest that
            are not among them have the first one's row in the design and none in the table.
        trials_per_session: of each subject.
    """
    experiment = root / "nsddata" / "experiments" / "nsd"
    experiment.mkdir(parents=True)
    first = next(iter(designs.values()))
    num_images, num_sessions = len(first.subject_images), len(first.ten_k) // trials_per_session
    runs = run_lengths(trials_per_session)
    stimpattern = np.zeros((num_sessions, RUNS_PER_SESSION, max(75, runs.max() + 12)))
    for run, length in enumerate(runs):
        stimpattern[:, run, 3 : 3 + length] = 1
    shown = np.zeros(num_images, dtype=int)
    basiccnt = np.zeros((3, num_sessions))
    for s, images in enumerate(first.ten_k.reshape(num_sessions, -1)):
        np.add.at(shown, images, 1)
        basiccnt[:, s] = [(shown >= k).sum() for k in (1, 2, 3)]
    rows = [designs.get(s, first).subject_images for s in range(1, max(designs) + 1)]
    save_mat(
        experiment / "nsd_expdesign.mat",
        {
            "masterordering": first.ten_k[None] + 1.0,
            "subjectim": np.stack(rows) + 1.0,
            "sharedix": first.shared[None] + 1.0,
            "stimpattern": stimpattern,
            "basiccnt": basiccnt,
        },
    )

    subjects = range(1, 9)
    header = ["", "cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000"]
    header += ["shared1000", *(f"subject{s}" for s in subjects)]
    header += [f"subject{s}_rep{k}" for s in subjects for k in range(3)]
    shown_in: dict[int, dict[int, list[int]]] = {}
    for number, design in designs.items():
        order = np.argsort(design.ten_k, kind="stable").reshape(num_images, -1) + 1
        shown_in[number] = dict(zip(design.subject_images.tolist(), order.tolist(), strict=True))
    shared = set(first.shared.tolist())
    last = max(int(design.subject_images.max()) for design in designs.values())
    with open(experiment / "nsd_stim_info_merged.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for image in range(last + 1):
            trials = [shown_in.get(s, {}).get(image, []) for s in subjects]
            crop = "(0.0, 0.0, 0.0, 0.0)"
            row = [image, image, "simulated", crop, 0.0, image, False, False, image in shared]
            row += [int(bool(own)) for own in trials]
            writer.writerow([*row, *(trial for own in trials for trial in [*own, 0, 0, 0][:3])])


def write_images(
    root: Path,
    images: UInt8[np.ndarray, "b y x 3"],
    ids: Int[np.ndarray, " b"] | None = None,
    total: int = 0,
) -> None:
    """Writes the stimulus file.

    Args:
        root: as the root of NSD's bucket.
        images: the images.
        ids: their rows in the file, ascending; from 0 on when None. Other rows take no room.
        total: rows of the file, where there are ids.
    """
    stimuli = root / "nsddata_stimuli" / "stimuli" / "nsd"
    stimuli.mkdir(parents=True)
    with h5py.File(stimuli / "nsd_stimuli.hdf5", "w") as file:
        if ids is None:
            file.create_dataset("imgBrick", data=images)
            return
        shape = images.shape[1:]
        brick = file.create_dataset("imgBrick", (total, *shape), np.uint8, chunks=(1, *shape))
        for image, row in zip(images, ids.tolist(), strict=True):
            brick[row] = image


def write_behaviour(
    root: Path, number: int, design: Design, trials_per_session: int, rng: np.random.Generator
) -> None:
    """Writes responses.tsv of a subject.

    Args:
        root: as the root of NSD's bucket.
        number: of the subject.
        design: its design.
        trials_per_session: of the subject.
        rng: of what it answered; advanced.
    """
    folder = root / "nsddata" / "ppdata" / subject_name(number) / "behav"
    folder.mkdir(parents=True)
    runs = run_lengths(trials_per_session)
    run_of = np.repeat(np.arange(RUNS_PER_SESSION), runs)
    trial_of = np.concatenate([np.arange(length) for length in runs])
    first: dict[int, int] = {}  # trial of each image
    last: dict[int, int] = {}
    with open(folder / "responses.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(_BEHAVIOUR_COLUMNS)
        for t, image in enumerate(design.images.tolist()):
            session, within = divmod(t, trials_per_session)
            old = image in first
            current = old and last[image] // trials_per_session == session
            correct = int(rng.random() < 0.85)
            says_old = old == bool(correct)
            seconds = 600 * run_of[within] + 4 * (trial_of[within] + 3)
            row = [number, session + 1, run_of[within] + 1, trial_of[within] + 1]
            row += [image + 1, design.ten_k[t] + 1]
            row += [f"{7 * session + 0.4 + seconds / 86400:.8f}", int(old), correct]
            row += [f"{rng.lognormal(6.6, 0.25):.3f}", 0]
            row += [t - last[image] - 1, t - first[image] - 1] if old else ["NaN", "NaN"]
            row += [int(current), int(says_old == current)]
            row += [int(not says_old), int(says_old), 1 + int(says_old), 0]
            writer.writerow(row)
            first.setdefault(image, t)
            last[image] = t


def write_parcellation(root: Path, per_hemisphere: int, seed: int) -> None:
    """Writes a parcellation of the whole surface, as annot files."""
    folder = root / "nsddata" / "freesurfer" / SPACE / "label"
    folder.mkdir(parents=True)
    for name, hemisphere in zip(HEMISPHERES, load_hemispheres(), strict=True):
        write_annot(
            folder / f"{name}.Simulated{2 * per_hemisphere}Parcels.annot",
            parcellate_sphere(hemisphere.sphere, per_hemisphere, ~hemisphere.medial_wall, seed),
            [f"Simulated_{name.upper()}_{k + 1:03d}" for k in range(per_hemisphere)],
        )


def write_rois(
    root: Path, number: int, rois: Iterable[np.ndarray], rng: np.random.Generator
) -> None:
    """Writes a subject's ROIs on its native surface, whose vertices are in another order.

    Args:
        root: as the root of NSD's bucket.
        number: of the subject.
        rois: name of the ROI per vertex, of the left and of the right hemisphere.
        rng: of the order; advanced.
    """
    native = root / "nsddata" / "freesurfer" / subject_name(number) / "label"
    native.mkdir(parents=True)
    for atlas, names in ATLASES.items():
        lines = [f"{value} {name}" for value, name in enumerate(("Unknown", *names))]
        (native / f"{atlas}.mgz.ctab").write_text("\n".join(lines) + "\n")
    transforms = root / "nsddata" / "ppdata" / subject_name(number) / "transforms"
    for name, roi_of in zip(HEMISPHERES, rois, strict=True):
        to_native = rng.permutation(len(roi_of))
        save_surface(
            transforms / f"{name}.white-to-fsaverage.mgz", (to_native + 1).astype(np.int32)
        )
        for atlas, names in ATLASES.items():
            values = np.zeros(len(roi_of), dtype=np.int32)
            for value, roi in enumerate(names, start=1):
                values[to_native[roi_of == roi]] = value
            save_surface(native / f"{name}.{atlas}.mgz", values)
