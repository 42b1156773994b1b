r"""Deeprecon: one token per ROI of one subject, Stable Diffusion 1.5 at 512 x 512.

    neuroadapter train --config deeprecon --config.data.reader.root=<folder of .h5> \
        --config.data.reader.images=<folder of images>

Hardware: one GPU of 24 GB or more (docs/scaling.md). The images are given on request; without them
the responses can be prepared and a trained model can reconstruct from them, but nothing can be
trained. The paper's numbers come from 200 parcels; the public files hold volumes of visual cortex,
so here a token is an ROI. For a surface file: --config.data.reader.rois=None and the label files as
--config.data.parcellation.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "nsd")()
    config.workdir = "runs/deeprecon/train"
    config.data = ConfigDict()
    config.data.dataset = "deeprecon"
    config.data.prepared = "runs/deeprecon/prepared-sub01"
    config.data.image_size = 512
    config.data.parcellation = ()  # the ROIs come with the responses
    config.data.reader = ConfigDict()
    config.data.reader.root = "deeprecon"
    config.data.reader.subject = 1
    config.data.reader.images = config_dict.placeholder(str)
    config.data.reader.rois = ("V1", "V2", "V3", "V4", "LOC", "FFA", "PPA")
    config.data.reader.stimulus_tables = config_dict.placeholder(dict)
    config.data.reader.normalize = "train-stats"
    config.data.reader.num_validation = 60
    config.train.num_regions = 7
    config.train.per_hemisphere = False
    return config
