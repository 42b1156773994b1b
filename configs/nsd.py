"""The paper's model: Stable Diffusion 1.5 at 512 x 512, 200 regions of one subject of NSD.

    neuroadapter train --config nsd --config.data.root=<NSD's folder>

Hardware: one GPU of 24 GB or more (docs/scaling.md). Without weights or without NSD:

    --config.backbone=random             random weights of the same architecture
    --config configs/nsd.py:simulated     the subject of configs/demo.py:clean, 64 x 64 pixels

Where the released code leaves a choice open, or its versions differ, a comment names the choice
taken here; its alternative is the override beside it. So are the paper's variants:

    50 tokens by a transformer           --config.train.token_queries=50
    p = 50 or 400                        --config.train.num_regions=50
    without region structure             --config.train.region_structure=False
    the released code's parcels          --config.data.parcels=released (docs/parcels.md)
    a fixed drop rate                    --config.train.drop_rate=0.5
"""

from ml_collections import ConfigDict, config_dict

from neuroadapter_jax.training.sibling_config import sibling_config


def get_config(dataset: str = "nsd") -> ConfigDict:
    if dataset not in ("nsd", "simulated"):
        raise ValueError(f"configs/nsd.py:{dataset}: expected configs/nsd.py or nsd.py:simulated.")
    config = ConfigDict()
    config.workdir = f"runs/{dataset}-sd15/train"
    # A local folder in the diffusers layout, a Hub id, or "random".
    config.backbone = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.data = nsd_data() if dataset == "nsd" else simulated_data()

    config.train = ConfigDict()
    config.train.seed = 42
    config.train.num_regions = 200
    config.train.per_hemisphere = True
    config.train.region_structure = True
    config.train.token_queries = config_dict.placeholder(int)
    # From the data: 626 for subject 1; 564 with the released code's parcels.
    config.train.max_vertices = config_dict.placeholder(int)
    # PyTorch's xavier_uniform_ on the whole bank, a far smaller scale than that of each region's
    # own matrix: --config.train.initial=per_region
    config.train.initial = "released"
    # Over all devices. The released code has 16 per process and two processes, so its update may
    # have seen 32: --config.train.batch_size=32
    config.train.batch_size = 16
    config.train.num_epochs = 300
    config.train.num_steps = config_dict.placeholder(int)  # goes before num_epochs
    # One of the released scripts for a single subject has 5e-4: --config.train.learning_rate=5e-4
    config.train.learning_rate = 1e-4
    # The newest released code has no schedule, older code a cosine after a warm-up of a tenth of
    # the steps: --config.train.schedule=cosine --config.train.warmup_steps=16000
    config.train.schedule = "constant"
    config.train.warmup_steps = 0
    # The newest released code; the oldest has 1e-5: --config.train.weight_decay=1e-5
    config.train.weight_decay = 1e-6
    config.train.b2 = 0.999
    config.train.clip_norm = 1.0
    config.train.accumulate = 1
    config.train.remat = False
    config.train.fsdp = 1
    config.train.gamma = 5.0
    config.train.drop_rate = "uniform"
    config.train.drop_all = 0.0
    # Of the frozen U-Net; what trains and the loss are float32. The released code's default is
    # fp16, its configuration of the launcher is said to have bf16: --config.train.precision=fp32
    config.train.precision = "bf16"
    # The released code keeps no moving average: --config.train.ema_decay=0.999
    config.train.ema_decay = config_dict.placeholder(float)
    config.train.repeats = "average"
    # The exported model's own, and of the validation images in sample_steps steps.
    config.train.sampling = ConfigDict()
    config.train.sampling.sampler = "ddpm"
    config.train.sampling.num_steps = 50
    # The paper's 4; the released scripts have 2 to 4: --config.train.sampling.guidance_scale=2
    config.train.sampling.guidance_scale = 4.0
    # The released code starts from a noised grey image: --config.train.sampling.start=noise
    config.train.sampling.start = "grey"
    config.train.num_candidates = 8
    config.train.sample_steps = 50
    config.train.log_every = 100
    config.train.evaluate_every = 5000
    config.train.checkpoint_every = 5000
    config.progress = True
    config.tensorboard = False
    return config


def nsd_data() -> ConfigDict:
    data = ConfigDict()
    data.root = "natural-scenes-dataset"
    data.prepared = "runs/nsd-sd15/prepared-subj01"
    data.subject = 1
    data.space = "fsaverage"
    data.beta_version = "betas_fithrf_GLMdenoise_RR"
    # From 1; None for all that the subject has: --config.data.sessions="(1, 2, 3)"
    data.sessions = config_dict.placeholder(tuple)
    # z-scored per vertex and session, as the released metadata suggest; the released code does not
    # show it: --config.data.normalize=none (or run, train-stats; docs/datasets.md)
    data.normalize = "session"
    # 9000/485/515, the paper's: --config.data.split=shared1000 (or shared982, algonauts, shared)
    data.split = "special515"
    data.image_size = 512
    # For splits that take their validation images from the training images.
    data.num_validation = 485
    data.simulation = None
    name = "Schaefer2018_1000Parcels_17Networks_order.annot"
    data.parcellation = (f"parcellation/lh.{name}", f"parcellation/rh.{name}")
    # Each hemisphere's own. The released parcel files have the left's vertex sets for both.
    data.parcels = "own"
    return data


def simulated_data() -> ConfigDict:
    data = sibling_config(__file__, "demo")("clean").data
    data.prepared = "runs/simulated-sd15/prepared"
    return data
