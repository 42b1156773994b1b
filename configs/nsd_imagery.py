r"""NSD-Imagery, for a model that was trained on NSD: prepared only, nothing is trained.

    neuroadapter prepare --config nsd_imagery \
        --config.data.reader.root=<NSD's folder>
    neuroadapter reconstruct --model DIR --prepared runs/nsd-sd15/imagery-subj01 \
        --split imagery --allow_other dataset --out runs/nsd-sd15/imagery

Hardware: any; the responses of one subject are 0.9 GB. Splits: vision and imagery (sets A and B),
vision_concepts and imagery_concepts (set C, without images). --allow_other dataset says that the
records are meant to be of another dataset than the model's.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.backbone = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # for the images' latents
    config.data = ConfigDict()
    config.data.dataset = "nsd_imagery"
    config.data.prepared = "runs/nsd-sd15/imagery-subj01"
    config.data.image_size = 512
    config.data.reader = ConfigDict()
    config.data.reader.root = "natural-scenes-dataset"
    config.data.reader.subject = 1
    config.data.reader.space = "fsaverage"
    config.data.reader.beta_version = "nsdimagerybetas_fithrf_GLMdenoise_RR"
    # As NSD's sessions are in configs/nsd.py, so that the model sees what it was trained on. The
    # benchmark takes "run", the released code "none".
    config.data.reader.normalize = "session"
    return config
