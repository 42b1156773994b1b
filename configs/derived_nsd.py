r"""The paper's model on BERG's files of NSD, or on those of the released code.

    neuroadapter train --config derived_nsd --config.data.reader.root=<folder> \
        --config.data.reader.images=<NSD's nsd_stimuli.hdf5> --allow-pickle

The metadata are a pickle, hence --allow-pickle; they are read as arrays and numbers only.
Otherwise configs/nsd.py.
"""

from ml_collections import ConfigDict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "nsd")()
    parcellation = config.data.parcellation
    config.workdir = "runs/derived-nsd/train"
    config.data = ConfigDict()
    config.data.dataset = "derived_nsd"
    config.data.prepared = "runs/derived-nsd/prepared-subj01"
    config.data.image_size = 512
    config.data.parcellation = parcellation
    config.data.reader = ConfigDict()
    config.data.reader.root = "train_dataset-nsd_fsaverage"
    config.data.reader.images = "nsd_stimuli.hdf5"
    config.data.reader.subject = 1
    # BERG's responses are z-scored already; for others "session".
    config.data.reader.normalize = "as_stored"
    return config
