"""The check values of each subject of the cohort beside NSD's, without writing the subjects.

    python docs/pictures/cohort_table.py

docs/noisy_subjects.md shows the table. `neuroadapter prepare` prints the same values of subjects
that are on the disk; here the responses of the region that stands for nsdgeneral are made and
forgotten, so that five subjects need no 4 GB.
"""

import sys

import numpy as np

from neuroadapter_jax.cortex.noise_ceiling import NoiseCeiling, explainable_variance
from neuroadapter_jax.simulation.cohort import make_cohort_subject, visual_mask
from neuroadapter_jax.simulation.noise import SessionNoise, run_scales
from neuroadapter_jax.simulation.nsd_like import COHORT, MEDIAN_NCSNR, NSDLikeConfig
from neuroadapter_jax.simulation.scenes import render_scenes
from neuroadapter_jax.simulation.unseen import make_designs
from neuroadapter_jax.simulation.unseen_scenes import known_scene_of_sequence
from neuroadapter_jax.tables import markdown_table


def found_ncsnr(config: NSDLikeConfig, number: int) -> np.ndarray:
    """NSD's estimate of the SNR of one trial, of the vertices of the mask."""
    design, subject = make_designs(config)[number], make_cohort_subject(config, number)
    ids = np.sort(design.subject_images)
    scenes = render_scenes([known_scene_of_sequence(config.seed, int(i)) for i in ids])
    signal, noise, inside = subject.signal(scenes), SessionNoise(subject, number), visual_mask()
    ceiling, scales = NoiseCeiling(design.images, int(inside.sum()), 3), run_scales(config, number)
    for session, images in enumerate(design.images.reshape(config.num_sessions, -1)):
        shown = signal[np.searchsorted(ids, images)]
        ceiling.add(noise.responses(session, shown, scales[session])[:, inside])
    return ceiling.ncsnr()


def main(subjects: list[int]) -> None:
    """Print the table's rows as they come."""
    config, rows = NSDLikeConfig(), []
    for number in subjects:
        found, published = float(np.median(found_ncsnr(config, number))), MEDIAN_NCSNR[number]
        variance = explainable_variance(np.array([found, published]), np.array([3]))
        rows.append([number, f"{found:.3f}", published, *(f"{100 * x:.1f} %" for x in variance)])
        print(rows[-1], flush=True)
    print(
        markdown_table(
            ["subject", "median ncsnr", "NSD's", "ceiling of three trials", "NSD's"], rows
        )
    )


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or list(COHORT))
