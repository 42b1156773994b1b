"""The paper's model for NSD's subjects 1, 2, 5 and 7: a run each, or one model of all four.

    for s in 1 2 5 7; do
      neuroadapter train --config nsd_subjects:$s --config.data.root=<NSD's folder>
    done
    neuroadapter train --config nsd_subjects:shared --config.data.root=...
    neuroadapter train --config nsd_subjects:banks --config.data.root=...

    N        configs/nsd.py for subject N, 1 to 8
    shared   one model, one projection bank, the same 200 regions for all by their mean rank over
             the subjects: the released code's group-wise model, which ranks over all eight
    banks    one model, a projection bank per subject over shared keys and values, each subject's
             own 200 regions; the same regions for all: --config.train.groupwise=True

Other subjects: --config.data.subjects="(1,2,3,4,5,6,7,8)". All share one preparation per subject,
runs/nsd-sd15/prepared-subj0N. One subject's pipeline is taken out of a model of several by

    neuroadapter export --run runs/nsd-sd15-banks/train --subject 5 --out model-subj05

Hardware: as configs/nsd.py. An epoch of four subjects has four times the steps; num_epochs is a
quarter of one subject's, so the run takes as long as one subject's.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config

SUBJECTS = (1, 2, 5, 7)
_PREPARED = "runs/nsd-sd15/prepared-subj{subject:02d}"


def get_config(which: str = "1") -> ConfigDict:
    models = ("shared", "banks")
    if which not in models and which not in map(str, range(1, 9)):
        raise ValueError(
            f"configs/nsd_subjects.py:{which}: expected a subject from 1 to 8, or one of {models}."
        )
    config = sibling_config(__file__, "nsd")()
    if which not in models:
        config.workdir = f"runs/nsd-sd15-subj{int(which):02d}/train"
        config.data.subject = int(which)
        config.data.prepared = _PREPARED.format(subject=int(which))
        return config
    config.workdir = f"runs/nsd-sd15-{which}/train"
    config.data.subjects = SUBJECTS
    config.data.subject = config_dict.placeholder(int)  # subjects says which
    config.data.prepared = _PREPARED
    config.train.banks = "per_subject" if which == "banks" else "shared"
    config.train.groupwise = which == "shared"
    config.train.num_epochs = config.train.num_epochs // len(SUBJECTS)
    return config
