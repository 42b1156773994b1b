r"""The paper's model on one subject of MOSAIC, on the surface fsLR; otherwise configs/nsd.py.

    neuroadapter prepare --config mosaic --config.data.reader.root=<folder> --dry-run
    neuroadapter train --config mosaic --config.data.reader.root=<folder> \
        --config.data.reader.images=<folder of the dataset's own stimuli>

MOSAIC is eight public datasets, preprocessed alike. The one here is BOLD5000:

    another dataset                --config.data.reader.dataset=THINGS
    another subject                --config.data.reader.subject=2 and another data.prepared

Regions are parcels of fsLR with 32,492 vertices per hemisphere, as two GIFTI label files
(docs/datasets.md); they are ranked by the SNR that the file's own noise ceiling gives.
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config() -> ConfigDict:
    config = sibling_config(__file__, "nsd")()
    config.workdir = "runs/mosaic/train"
    config.data = ConfigDict()
    config.data.dataset = "mosaic"
    config.data.prepared = "runs/mosaic/prepared-BOLD5000-01"
    config.data.image_size = 512
    # Any parcellation of fsLR with at least 100 parcels in a hemisphere.
    config.data.parcellation = ("parcellation/L.label.gii", "parcellation/R.label.gii")
    config.data.reader = ConfigDict()
    config.data.reader.root = "mosaic"
    config.data.reader.cortex = (
        "mosaic/tpl-fsLR_den-32k_hemi-L_desc-nomedialwall_dparc.label.gii",
        "mosaic/tpl-fsLR_den-32k_hemi-R_desc-nomedialwall_dparc.label.gii",
    )
    config.data.reader.subject = 1
    config.data.reader.dataset = "BOLD5000"
    config.data.reader.images = config_dict.placeholder(str)
    config.data.reader.num_validation = 240
    return config
