"""Writes a cohort of subjects into one root in NSD's own layout and formats.

Beside the main experiment stand NSD-Imagery's files, in its own layout; the folder `unseen`, in
NSD's layout as well, with the experiment of that name; and `imagery`, with the truth of the
targets.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.errors import InputError
from neuroadapter_jax.files import remove_partial_folders, whole_folder
from neuroadapter_jax.locks import locked
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.simulation.cohort import make_cohort_subject, visual_mask
from neuroadapter_jax.simulation.noise import SessionNoise, run_scales
from neuroadapter_jax.simulation.nsd_files import (
    SPACE,
    Design,
    betas_folder,
    save_surface,
    subject_name,
    write_behaviour,
    write_experiment,
    write_images,
    write_parcellation,
    write_rois,
)
from neuroadapter_jax.simulation.nsd_like import COHORT, NSDLikeConfig
from neuroadapter_jax.simulation.scenes import render_scenes
from neuroadapter_jax.simulation.streams import stream
from neuroadapter_jax.simulation.subject import Subject
from neuroadapter_jax.simulation.truth import (
    holds_subject,
    write_configuration,
    write_scene_truth,
    write_subject_truth,
)
from neuroadapter_jax.simulation.unseen import (
    IMAGERY_LETTERS,
    UNSEEN_SESSIONS,
    UNSEEN_SETS,
    imagery_scenes,
    imagery_signals,
    make_designs,
    unseen_design,
    unseen_scenes,
)
from neuroadapter_jax.simulation.unseen_scenes import known_scene_of_sequence

UNSEEN, IMAGERY = "unseen", "imagery"
SETS = "unseen_sets.tsv"
_IMAGERY_VERSION = "nsdimagerybetas_fithrf_GLMdenoise_RR"
# NSD-Imagery's runs in the order of acquisition, with the columns that each has.
_IMAGERY_RUNS = (
    *(("visA", 48), ("attA", 96), ("imgA_1", 48), ("visB", 48), ("attB", 96), ("imgB_1", 48)),
    *(("visC", 48), ("attC", 96), ("imgC_1", 48), ("imgA_2", 48), ("imgB_2", 48), ("imgC_2", 48)),
)
_TARGET_FILES = {
    "A": [
        *(f"bar_{angle:03d}.0deg_450L_43W.png" for angle in (0, 45, 90, 135)),
        *(f"crs_{angle:03d}.0deg_450L_43W.png" for angle in (0, 45)),
    ],
    "B": [
        *("shared0385_nsd28752.png", "shared0413_nsd30857.png", "shared0741_nsd53882.png"),
        *("shared0842_nsd61178.png", "shared0907_nsd65873.png", "shared0000_nsd00000.png"),
    ],
}


def write_cohort(
    root: str | os.PathLike,
    config: NSDLikeConfig | None = None,
    subjects: Sequence[int] = (1,),
    progress: bool = True,
) -> Path:
    """Simulates subjects as noisy as NSD's and writes them into one root in NSD's layout.

    The root appears only when it is complete. One that holds these subjects of the same
    configuration already is left as it is; while another process simulates it, this one waits.

    Args:
        root: the folder to write, as the root of NSD's bucket.
        config: what to simulate; the defaults when None.
        subjects: numbers of the subjects, among `nsd_like.COHORT`.
        progress: whether to show a bar over sessions.

    Returns:
        The root.

    Raises:
        InputError: another subject; root holds something else, or not all of these subjects.
    """
    root, config = Path(root), config or NSDLikeConfig()
    if not subjects or not set(subjects) <= set(COHORT):
        raise InputError(
            f"The simulated subjects are {', '.join(map(str, COHORT))}, not {list(subjects)}; "
            f"choose among them."
        )
    if root.exists() and _holds(root, config, subjects):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with locked(root.with_name(f".{root.name}.lock")):
        if root.exists() and _holds(root, config, subjects):  # another process has just made it
            return root
        remove_partial_folders(root)
        with whole_folder(root) as partial:
            _write(partial, config, sorted(set(subjects)), progress)
    return root


def _holds(root: Path, config: NSDLikeConfig, subjects: Sequence[int]) -> bool:
    if not holds_subject(root, config):
        return False
    if lacking := [n for n in subjects if not betas_folder(root, n).is_dir()]:
        raise InputError(
            f"{root} holds other subjects of this simulation, but not subject {lacking[0]}; choose "
            f"another folder, or delete it and simulate all subjects at once."
        )
    return True


def _write(root: Path, config: NSDLikeConfig, subjects: Sequence[int], progress: bool) -> None:
    designs = {n: design for n, design in make_designs(config).items() if n in subjects}
    total = config.num_shared + len(COHORT) * (config.num_images - config.num_shared)
    ids = np.unique(np.concatenate([design.subject_images for design in designs.values()]))
    scenes = render_scenes([known_scene_of_sequence(config.seed, int(i)) for i in ids])
    write_experiment(root, designs, config.trials_per_session)
    write_images(root, scenes.images, ids, total)
    write_parcellation(root, config.regions_per_hemisphere, config.seed)
    labels = root / "nsddata" / "freesurfer" / SPACE / "label"
    for name, inside in zip(HEMISPHERES, np.split(visual_mask(), 2), strict=True):
        save_surface(labels / f"{name}.nsdgeneral.mgz", inside.astype(np.int32))
    write_scene_truth(root, scenes, ids, total)

    unseen = root / UNSEEN
    others = render_scenes(unseen_scenes(config))
    write_experiment(unseen, dict.fromkeys(subjects, unseen_design(config)), 3 * config.num_unseen)
    write_images(unseen, others.images)
    sets = np.repeat(UNSEEN_SETS, config.num_unseen)
    lines = [f"{image}\t{name}" for image, name in enumerate(sets)]
    (unseen / SETS).write_text("\n".join(["nsdId\tset", *lines]) + "\n")
    write_scene_truth(unseen, others)
    write_configuration(unseen, config, UNSEEN)
    _write_targets(root, config)

    bar = Bar(
        total=len(subjects) * (config.num_sessions + UNSEEN_SESSIONS),
        desc="simulating sessions",
        unit="session",
        disable=not progress,
    )
    with bar:
        for number in subjects:
            subject = make_cohort_subject(config, number)
            rng = stream(config.seed, "anatomy", number)
            write_rois(root, number, np.split(subject.roi, [subject.num_vertices[0]]), rng)
            write_subject_truth(root, subject, number)
            write_subject_truth(unseen, subject, number)
            signal = subject.signal(scenes)
            noise = SessionNoise(subject, number)
            ncsnr = _write_sessions(root, noise, designs[number], ids, signal, bar)
            signal, noise = subject.signal(others), SessionNoise(subject, number, "unseen")
            design = unseen_design(config)
            _write_sessions(unseen, noise, design, design.subject_images, signal, bar, ncsnr)
            _write_imagery(root, subject, number)
    write_configuration(root, config)


def _write_sessions(
    root: Path,
    noise: SessionNoise,
    design: Design,
    ids: np.ndarray,
    signal: Float32[np.ndarray, "images m"],
    bar: Bar,
    ncsnr: Float32[np.ndarray, " n"] | None = None,
) -> Float32[np.ndarray, " n"]:
    """Writes behaviour, betas and the SNR of one experiment; the SNR is estimated when None."""
    subject, config, number = noise.subject, noise.config, noise.number
    main = ncsnr is None
    sessions = config.num_sessions if main else UNSEEN_SESSIONS
    length = len(design.ten_k) // sessions
    rng = stream(config.seed, f"{noise.experiment}: behaviour", number)
    write_behaviour(root, number, design, length, rng)
    ceiling = NoiseCeiling(design.images, len(subject.roi), 3)
    scales = run_scales(config, number)
    folder = betas_folder(root, number)
    cut = [subject.num_vertices[0]]
    for s, images in enumerate(design.images.reshape(sessions, -1)):
        shown = signal[np.searchsorted(ids, images)]
        betas = noise.responses(s, shown, scales[s] if main else None)
        for name, part in zip(HEMISPHERES, np.split(betas, cut, axis=1), strict=True):
            save_surface(folder / f"{name}.betas_session{s + 1:02d}.mgh", part.T)
        if main:
            ceiling.add(betas)
        bar.update()
    found = ceiling.ncsnr() if ncsnr is None else ncsnr
    for name, values in zip(HEMISPHERES, np.split(found, cut), strict=True):
        save_surface(folder / f"{name}.ncsnr.mgh", values)
    return found


def _write_targets(root: Path, config: NSDLikeConfig) -> None:
    """The pictures of NSD-Imagery's targets, under its names, and what they show."""
    scenes = render_scenes(imagery_scenes(config))
    images = iter(scenes.images)
    for name, files in _TARGET_FILES.items():
        folder = root / f"nsddata/experiments/nsdimagery/rawtargetimages/set{name}"
        folder.mkdir(parents=True)
        for file in files:
            Image.fromarray(next(images)).save(folder / file)
    (root / IMAGERY).mkdir()
    write_scene_truth(root / IMAGERY, scenes)
    write_configuration(root / IMAGERY, config, IMAGERY)


def _write_imagery(root: Path, subject: Subject, number: int) -> None:
    """The responses and tables of a subject's session of NSD-Imagery."""
    config = subject.config
    assert isinstance(config, NSDLikeConfig)
    seen, imagined = imagery_signals(subject, config)
    rng = stream(config.seed, "imagery: order", number)
    folder = root / "nsddata" / "bdata" / "nsdimagery"
    folder.mkdir(parents=True, exist_ok=True)
    signals = []
    for run, (name, columns) in enumerate(_IMAGERY_RUNS, start=1):
        letters = IMAGERY_LETTERS[name[3]]
        first = 6 * list(IMAGERY_LETTERS).index(name[3])
        order = rng.permutation(np.repeat(np.arange(6), 8))
        count = np.zeros(6, int)
        rows = []
        for trial, k in enumerate(order.tolist(), start=1):
            vision = name.startswith("vis")
            signal = (seen if vision else imagined)[first + k, count[k]]
            count[k] += 1
            signals += [signal] * (columns // 48)
            # In half of the vision trials the cue names another target than the one that is shown.
            cue = letters[(k + 1) % 6] if vision and trial % 2 else letters[k]
            rows.append([number, 1, run, trial, letters[k], cue])
        with open(
            folder / f"nsdimagery_{subject_name(number)}_{name}.tsv", "w", newline=""
        ) as file:
            writer = csv.writer(file, delimiter="\t")
            writer.writerow(["SUBJECT", "SESSION", "RUN", "TRIAL", "CONDITION", "CUE"])
            writer.writerows(rows)
    betas = SessionNoise(subject, number, "imagery").responses(0, np.stack(signals))
    parts = np.split(betas, [subject.num_vertices[0]], axis=1)
    place = betas_folder(root, number).with_name(_IMAGERY_VERSION)
    for name, part in zip(HEMISPHERES, parts, strict=True):
        save_surface(place / f"{name}.betas_nsdimagery.mgh", part.T)
