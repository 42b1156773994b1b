"""The config files of training as the commands read them."""

import dataclasses
import inspect
from operator import attrgetter
from pathlib import Path

import pytest
from absl import flags

from neuroadapter_jax.commands.ablate import variant_of
from neuroadapter_jax.commands.config_values import dataset_readers, per_subject
from neuroadapter_jax.commands.config_values import training_settings as settings_of
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.distill import distillation_settings
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def read(name, *overrides):
    values = CommandFlags([f"--config={ROOT / 'configs' / name}", *overrides])
    define_config(values)
    values(["train", *values.arguments])
    return values.config


NAMES = ["demo.py", "demo.py:nsd_like", "demo.py:clean", "simulated.py", "nsd.py"]
NAMES += ["nsd.py:simulated", "ablation.py:no_min_snr"]
NAMES += ["nsd_like.py", "nsd_like.py:5", "nsd_like.py:cohort"]
OTHERS = ["algonauts2023.py", "bold5000.py", "deeprecon.py", "derived_nsd.py", "mosaic.py"]


@pytest.mark.parametrize("name", [*NAMES, *OTHERS, "nsd_subjects.py:5", "nsd_subjects.py:banks"])
def test_every_key_of_a_config_is_a_setting(name):
    config = read(name)
    settings = settings_of(config)
    assert settings.to_dict().keys() >= config.train.to_dict().keys()
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize(
    "name", ["nsd_imagery.py", "nsd_like.py:unseen", "nsd_like.py:imagery", *OTHERS]
)
def test_a_reader_takes_what_its_config_says(name):
    data = read(name).data
    inspect.signature(dataset_readers()[data.dataset]).bind(**data.reader.to_dict())


def test_every_key_of_a_distillation_is_a_setting():
    config = read("distill.py")
    settings = distillation_settings(config)
    assert config.distillation.to_dict() == dataclasses.asdict(settings)
    assert settings.guidance_scale is None


def test_the_papers_configuration():
    config = read("nsd.py")
    settings = settings_of(config)
    assert (settings.num_regions, settings.per_hemisphere, settings.max_vertices) == (
        200,
        True,
        None,
    )
    assert (settings.learning_rate, settings.clip_norm, settings.gamma) == (1e-4, 1.0, 5.0)
    assert (settings.batch_size, settings.num_epochs, settings.num_steps) == (16, 300, None)
    assert (settings.drop_rate, settings.precision) == ("uniform", "bf16")
    assert settings.sampling == Sampling("ddpm", 50, 4.0, "grey")
    assert (settings.sample_steps, settings.num_candidates) == (50, 8)
    assert (config.data.image_size, config.data.space) == (512, "fsaverage")
    assert read("nsd.py:simulated").data.image_size == 64


def test_one_run_for_each_subject():
    one = settings_of(read("nsd.py"))
    for subject in (1, 2, 5, 7):
        config = read(f"nsd_subjects.py:{subject}")
        assert config.data.subject == subject
        assert config.workdir == f"runs/nsd-sd15-subj0{subject}/train"
        settings = settings_of(config)
        assert settings.prepared == f"runs/nsd-sd15/prepared-subj0{subject}"
        assert settings.to_dict() == one.to_dict() | {"prepared": settings.prepared}
    with pytest.raises(flags.Error, match=r"nsd_subjects.py:9: expected a subject from 1 to 8"):
        read("nsd_subjects.py:9")


@pytest.mark.parametrize(
    ("which", "banks", "groupwise"), [("shared", "shared", True), ("banks", "per_subject", False)]
)
def test_one_model_of_four_subjects(which, banks, groupwise):
    settings = settings_of(read(f"nsd_subjects.py:{which}"))
    folders = tuple(f"runs/nsd-sd15/prepared-subj0{s}" for s in (1, 2, 5, 7))
    assert (settings.prepared, settings.banks) == (folders, banks)
    assert settings.groupwise is groupwise
    config = read(f"nsd_subjects.py:{which}", "--config.data.subjects=(3,8)")
    each = per_subject(config)
    assert [(one.data.subject, one.data.prepared) for one in each] == [
        (3, "runs/nsd-sd15/prepared-subj03"),
        (8, "runs/nsd-sd15/prepared-subj08"),
    ]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("token_queries=50", 50),
        ("num_regions=50", 50),
        ("num_regions=400", 400),
        ("region_structure=False", False),
        ("drop_rate=0.5", 0.5),
        ("initial=per_region", "per_region"),
        ("schedule=cosine", "cosine"),
        ("weight_decay=1e-5", 1e-5),
        ("precision=fp32", "fp32"),
        ("sampling.start=noise", "noise"),
        ("sampling.guidance_scale=2", 2.0),
        ("ema_decay=0.999", 0.999),
        ("num_steps=7", 7),
        ("max_vertices=626", 626),
    ],
)
def test_an_alternative_is_one_override(override, value):
    setting = attrgetter(override.split("=")[0])
    assert setting(settings_of(read("nsd.py"))) != value
    assert setting(settings_of(read("nsd.py", f"--config.train.{override}"))) == value


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("precision=fp16", "precision is 'fp16'"),
        ("sampling.start=gray", "start is 'gray'"),
        ("sampling.sampler=euler", "sampler is 'euler'"),
    ],
)
def test_a_wrong_choice_is_named(override, words):
    with pytest.raises(ValueError, match=words):
        settings_of(read("nsd.py", f"--config.train.{override}"))


def test_the_released_parcels_are_one_override():
    assert settings_of(read("nsd.py")).parcels == "own"
    assert settings_of(read("nsd.py", "--config.data.parcels=released")).parcels == "released"
    assert read("encoder_nsd.py", "--config.data.parcels=released").data.parcels == "released"
    with pytest.raises(ValueError, match="parcels is 'left'"):
        settings_of(read("nsd.py", "--config.data.parcels=left"))


def test_settings_of_an_older_version():
    old = {"prepared": "p", "parcellation": ["l", "r"], "num_steps": 5}
    settings = Settings.from_dict(old)
    assert settings.to_dict() == Settings.defaults() | old
    assert (settings.precision, settings.token_queries) == ("fp32", None)
    assert settings.sampling == Sampling()
    flat = {"guidance_scale": 3.0, "sampler": "ddpm", "start": "grey"}
    assert Settings.from_dict(old | flat).sampling == Sampling("ddpm", 50, 3.0, "grey")
    with pytest.raises(ValueError, match="num_steps and num_epochs are both None"):
        Settings.from_dict(old | {"num_steps": None})


def test_what_each_variant_of_the_ablation_changes():
    changes = {
        "full": {},
        "no_token_dropout": {"drop_rate": 0.0},
        "fixed_drop_rate": {"drop_rate": 0.5},
        "no_min_snr": {"gamma": None},
        "quarter_p": {"num_regions": 20},
        "double_p": {"num_regions": 160},
        "no_region_structure": {"region_structure": False},
    }
    config = read("ablation.py")
    full = settings_of(config).to_dict()
    assert (full["drop_rate"], full["drop_all"], full["num_regions"]) == ("uniform", 0.0, 80)
    assert set(config.ablation.variants) == set(changes)
    for name, values in changes.items():
        trained = settings_of(read(f"ablation.py:{name}", "--config.train.seed=7"))
        assert trained.to_dict() == full | values | {"seed": 7}
        # What the command checks work folders against is what it trains.
        assert settings_of(variant_of(config, name, 7)) == trained
    with pytest.raises(flags.Error, match=r"ablation\.py:no_drop: expected one of"):
        read("ablation.py:no_drop")
