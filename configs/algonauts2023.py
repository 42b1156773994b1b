"""The paper's model on the Algonauts 2023 challenge's data; otherwise configs/nsd.py.

    python launch/train.py --config configs/algonauts2023.py --config.data.reader.root=<folder>

Regions are ranked by NSD's SNR, which the challenge does not contain: fetch lh.ncsnr.mgh and
rh.ncsnr.mgh (docs/datasets.md).
"""

import importlib.util
from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    spec = importlib.util.spec_from_file_location("nsd", Path(__file__).with_name("nsd.py"))
    nsd = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nsd)
    config = nsd.get_config()
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
