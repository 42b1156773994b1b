"""The paper's model on the Algonauts 2023 challenge's data; otherwise configs/nsd.py.

    neuroadapter train --config algonauts2023 --config.data.reader.root=<folder>

Regions are ranked by NSD's SNR, which the challenge does not contain: fetch lh.ncsnr.mgh and
rh.ncsnr.mgh (docs/datasets.md).
"""

from ml_collections import ConfigDict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "nsd")()
    parcellation = config.data.parcellation
    config.workdir = "runs/algonauts2023/train"
    config.data = ConfigDict()
    config.data.dataset = "algonauts2023"
    config.data.prepared = "runs/algonauts2023/prepared-subj01"
    config.data.image_size = 512
    config.data.parcellation = parcellation
    config.data.reader = ConfigDict()
    config.data.reader.root = "algonauts_2023_challenge_data"
    config.data.reader.subject = 1
    config.data.reader.ncsnr = ("ncsnr/lh.ncsnr.mgh", "ncsnr/rh.ncsnr.mgh")
    config.data.reader.num_validation = 485
    return config
