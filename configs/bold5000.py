r"""BOLD5000: one token per ROI and hemisphere of one subject, Stable Diffusion 1.5 at 512 x 512.

    neuroadapter prepare --config bold5000 --config.data.reader.root=<folder> --dry-run
    neuroadapter train --config bold5000 --config.data.reader.root=<folder>

No data agreement: the responses are CC0 (docs/howto/bold5000.md goes from the dry run to the
report). Otherwise configs/nsd.py.

Hardware: as configs/nsd.py. A comment says where there is less here than in the paper:

    another subject                  --config.data.reader.subject=2 and another data.prepared
    the sessions' volumes            --config.data.reader.betas=volumes
    the first three sessions         --config.data.reader.sessions="(1, 2, 3)"
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "nsd")()
    config.workdir = "runs/bold5000/train"
    config.data = ConfigDict()
    config.data.dataset = "bold5000"
    config.data.prepared = "runs/bold5000/prepared-CSI1"
    config.data.image_size = 512
    config.data.parcellation = ()  # the ROIs come with the responses
    config.data.reader = ConfigDict()
    config.data.reader.root = "bold5000"
    config.data.reader.subject = 1
    config.data.reader.betas = "rois"
    config.data.reader.beta_version = "TYPED-FITHRF-GLMDENOISE-RR"
    config.data.reader.rois = ("EarlyVis", "LOC", "OPA", "PPA", "RSC")
    config.data.reader.sessions = config_dict.placeholder(tuple)
    config.data.reader.normalize = "session"
    # A twentieth of the 4803 training images, as 485 of NSD's 9485; the test images are the 113
    # that were repeated.
    config.data.reader.num_validation = 240
    # The paper has 200 parcels of the whole cortex; the published ROIs are five per hemisphere.
    config.train.num_regions = 10
    config.train.per_hemisphere = False
    # A training image was shown once, so there is nothing to average but test images.
    config.train.repeats = "average"
    # The paper's 300 epochs are 168,750 steps of NSD's 9000 images; of these 4563 images they are
    # half as many: --config.train.num_epochs=600 for as many steps.
    config.train.num_epochs = 300
    return config
