r"""Simulated subjects as noisy as NSD's: one, or the cohort of subjects 1, 2, 5, 7 and held-out 3.

    neuroadapter prepare --config nsd_like
    neuroadapter train --config nsd_like
    neuroadapter prepare --config nsd_like:unseen

    N         subject N of 1, 2, 3, 5 and 7, alone in its folder; 1 where nothing is named
    unseen    subject 1's test sets of things that training never showed (prepared only)
    imagery   subject 1's session in the form of NSD-Imagery (prepared only)
    cohort    one model of subjects 1, 2, 5 and 7, a projection bank per subject; all five subjects
              are simulated into one folder (about 4 GB)

The training settings are those of configs/demo.py, whose subject is subject 1.

Hardware: 2 CPU cores. Simulating a subject takes minutes and about 0.8 GB.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config

SUBJECTS, COHORT = ("1", "2", "3", "5", "7"), (1, 2, 5, 7, 3)


def get_config(which: str = "1") -> ConfigDict:
    if which not in (*SUBJECTS, "unseen", "imagery", "cohort"):
        raise ValueError(
            f"configs/nsd_like.py:{which}: expected a subject of {', '.join(SUBJECTS)}, or unseen, "
            f"imagery or cohort."
        )
    if which in ("unseen", "imagery"):
        return _test_sets(which)
    config = sibling_config(__file__, "demo")("nsd_like")
    folder = "runs/nsd_like/cohort" if which == "cohort" else f"runs/nsd_like/subj{int(which):02d}"
    config.workdir = f"{folder}/train"
    config.data.root = f"{folder}/nsd"
    config.data.prepared = f"{folder}/prepared"
    labels = f"{folder}/nsd/nsddata/freesurfer/fsaverage5/label"
    config.data.parcellation = tuple(
        f"{labels}/{hemisphere}.Simulated640Parcels.annot" for hemisphere in ("lh", "rh")
    )
    if which == "cohort":
        config.data.simulated_subjects = COHORT
        config.data.subjects = (1, 2, 5, 7)
        config.data.subject = config_dict.placeholder(int)  # subjects says which
        config.data.prepared += "-subj{subject:02d}"
        config.train.banks = "per_subject"
    else:
        config.data.subject = int(which)
    return config


def _test_sets(which: str) -> ConfigDict:
    config = ConfigDict()
    config.backbone = "tiny-sd"
    config.data = ConfigDict()
    config.data.dataset = "simulated_unseen" if which == "unseen" else "nsd_imagery"
    config.data.prepared = f"runs/nsd_like/subj01/{which}"
    config.data.image_size = 64
    config.data.reader = ConfigDict()
    config.data.reader.root = "runs/nsd_like/subj01/nsd"
    config.data.reader.subject = 1
    config.data.reader.space = "fsaverage5"
    version = "betas_fithrf_GLMdenoise_RR"
    config.data.reader.beta_version = version if which == "unseen" else f"nsdimagery{version}"
    config.data.reader.normalize = "session"
    return config
