"""Writes a simulated subject to disk in the Natural Scenes Dataset's own layout and formats.

Beside NSD's files stand the configuration and the truth that no scanner tells; see `truth`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling
from neuroadapter_jax.cortex.parcellation import HEMISPHERES
from neuroadapter_jax.files import remove_partial_folders, whole_folder
from neuroadapter_jax.locks import locked
from neuroadapter_jax.progress import Bar
from neuroadapter_jax.simulation.layout import Hemisphere, load_hemispheres
from neuroadapter_jax.simulation.noise import GAIN_SD, OFFSET_SD, TREND_SD
from neuroadapter_jax.simulation.nsd_files import ATLASES as ATLASES  # where callers find them
from neuroadapter_jax.simulation.nsd_files import (
    Design,
    betas_folder,
    save_surface,
    write_behaviour,
    write_experiment,
    write_images,
    write_parcellation,
    write_rois,
)
from neuroadapter_jax.simulation.scenes import sample_scenes
from neuroadapter_jax.simulation.subject import (
    STIMULUS_SEED_OFFSET,
    Subject,
    SubjectConfig,
    make_subject,
)
from neuroadapter_jax.simulation.truth import holds_subject, write_configuration, write_truth
from neuroadapter_jax.simulation.truth import load_scenes as load_scenes  # where callers find them
from neuroadapter_jax.simulation.truth import load_truth as load_truth

_NUMBER = 1  # NSD's subject that stands for the simulated one


def _rng(config: SubjectConfig, *key: int) -> np.random.Generator:
    """Key 1 is the design, 2 the noise, 3 the behaviour, 4 the anatomy; 0 is the subject's."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


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
    rng = _rng(config, 1)
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
    assert isinstance(config, SubjectConfig)
    rng = _rng(config, 2, side, session)
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
            length = config.trials_per_session
            write_experiment(partial, {_NUMBER: design}, length)
            write_images(partial, scenes.images)
            write_behaviour(partial, _NUMBER, design, length, _rng(config, 3))
            write_parcellation(partial, config.regions_per_hemisphere, config.seed)
            rois = np.split(subject.roi, [subject.num_vertices[0]])
            write_rois(partial, _NUMBER, rois, _rng(config, 4))
            _write_betas(partial, subject, design, signal, progress)
            write_truth(partial, subject, scenes)
            write_configuration(partial, config)
    return root


def _write_betas(
    root: Path,
    subject: Subject,
    design: Design,
    signal: Float32[np.ndarray, "images m"],
    progress: bool,
) -> None:
    config = subject.config
    folder = betas_folder(root, _NUMBER)
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
                save_surface(folder / f"{name}.betas_session{s + 1:02d}.mgh", betas.T)
                ceiling.add(betas)
                bar.update()
            save_surface(folder / f"{name}.ncsnr.mgh", ceiling.ncsnr())
