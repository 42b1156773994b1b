"""A simulated subject, trained from scratch within the few minutes of `make demo`.

    neuroadapter train --config demo
    neuroadapter train --config demo:nsd_like

    clean       a subject with little noise; where nothing is named
    nsd_like    subject 1 of configs/nsd_like.py, as noisy as those of NSD

Hardware: 2 CPU cores. Time and scores: the report in runs/demo, and the table in README.md.
"""

from ml_collections import ConfigDict, config_dict

FOLDERS = {"nsd_like": "runs/nsd_like/subj01", "clean": "runs/simulated"}


def get_config(which: str = "clean") -> ConfigDict:
    if which not in FOLDERS:
        raise ValueError(f"configs/demo.py:{which}: expected one of {', '.join(FOLDERS)}.")
    folder = FOLDERS[which]
    config = ConfigDict()
    config.workdir = "runs/demo/train" if which == "clean" else "runs/demo-nsd_like/train"
    config.backbone = "tiny-sd"

    config.data = ConfigDict()
    config.data.root = f"{folder}/nsd"
    config.data.prepared = f"{folder}/prepared"
    config.data.subject = 1
    config.data.space = "fsaverage5"
    config.data.beta_version = "betas_fithrf_GLMdenoise_RR"
    config.data.normalize = "session"
    config.data.image_size = 64
    config.data.num_validation = 50
    # The simulated subject whose files are written to data.root; None for real files.
    config.data.simulation = ConfigDict({"noise": which, "seed": 1})
    if which == "clean":
        config.data.simulation.update(num_images=2500, num_shared=200)
    else:
        # The shared images that are not for testing are for validation, and free for alignment.
        config.data.split = "special515"
        config.data.simulation.update(num_images=2560, num_shared=260, num_special=200)
        config.data.simulation.update(trials_per_session=192, num_unseen=96)
    labels = f"{folder}/nsd/nsddata/freesurfer/fsaverage5/label"
    config.data.parcellation = (
        f"{labels}/lh.Simulated640Parcels.annot",
        f"{labels}/rh.Simulated640Parcels.annot",
    )

    config.train = ConfigDict()
    config.train.seed = 0
    config.train.num_regions = 80
    config.train.per_hemisphere = True
    config.train.max_vertices = config_dict.placeholder(int)
    config.train.initial = "per_region"
    config.train.batch_size = 16
    config.train.num_steps = 1000
    config.train.learning_rate = 1e-2
    config.train.warmup_steps = 100
    config.train.schedule = "cosine"
    config.train.weight_decay = 1e-4
    config.train.b2 = 0.99
    config.train.clip_norm = 1.0
    config.train.accumulate = 1
    config.train.remat = False
    config.train.fsdp = 1
    config.train.gamma = 5.0
    # The paper's "uniform" drops half of all tokens on average: in minutes, and in an hour, that
    # costs more than it gives (docs/design.md).
    config.train.drop_rate = "0.1"
    config.train.drop_all = 0.1
    config.train.ema_decay = 0.995
    config.train.repeats = "average"
    # The exported model's own, and of the validation images in sample_steps steps.
    config.train.sampling = ConfigDict()
    config.train.sampling.sampler = "ddim"
    config.train.sampling.num_steps = 50
    config.train.sampling.guidance_scale = 4.0
    config.train.sampling.start = "noise"
    config.train.sample_steps = 20
    config.train.log_every = 20
    config.train.evaluate_every = 500
    config.train.checkpoint_every = 250
    config.progress = True
    config.tensorboard = False
    return config
