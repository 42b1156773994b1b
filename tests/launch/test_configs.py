"""The config files of training as the commands read them."""

import importlib
import inspect
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from neuroadapter_jax.training.neuroadapter import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings_of():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "launch")
        yield importlib.import_module("train").settings_of
    for name in ("train", "prepare", "command_line"):
        sys.modules.pop(name, None)


def read(name, *overrides):
    arguments = ["train", f"--config={ROOT / 'configs' / name}", *overrides]
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)  # where config_flags looks for overrides
        holder = config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
        values(arguments)
    return holder.value


OTHERS = ["algonauts2023.py", "deeprecon.py", "derived_nsd.py"]


@pytest.mark.parametrize("name", ["demo.py", "embedded.py", "nsd.py", "nsd.py:embedded", *OTHERS])
def test_every_key_of_a_config_is_a_setting(settings_of, name):
    config = read(name)
    settings = settings_of(config)
    assert settings.to_dict().keys() >= config.train.to_dict().keys()
    assert Settings.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("name", ["nsd_imagery.py", *OTHERS])
def test_a_reader_takes_what_its_config_says(settings_of, name):
    data = read(name).data
    readers = sys.modules["prepare"].READERS
    inspect.signature(readers[data.dataset]).bind(**data.reader.to_dict())


def test_the_papers_configuration(settings_of):
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
    assert (settings.sampler, settings.sample_steps) == ("ddpm", 50)
    assert (settings.guidance_scale, settings.num_candidates) == (4.0, 8)
    assert (config.data.image_size, config.data.space) == (512, "fsaverage")
    assert read("nsd.py:embedded").data.image_size == 64


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
        ("start=noise", "noise"),
        ("ema_decay=0.999", 0.999),
        ("num_steps=7", 7),
        ("max_vertices=626", 626),
    ],
)
def test_an_alternative_is_one_override(settings_of, override, value):
    key = override.split("=")[0]
    assert getattr(settings_of(read("nsd.py")), key) != value
    assert getattr(settings_of(read("nsd.py", f"--config.train.{override}")), key) == value


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("precision=fp16", "precision is 'fp16'"),
        ("start=gray", "start is 'gray'"),
        ("sampler=euler", "sampler is 'euler'"),
    ],
)
def test_a_wrong_choice_is_named(settings_of, override, words):
    with pytest.raises(ValueError, match=words):
        settings_of(read("nsd.py", f"--config.train.{override}"))


def test_settings_of_an_older_version():
    old = {"prepared": "p", "parcellation": ["l", "r"], "num_steps": 5}
    settings = Settings.from_dict(old)
    assert settings.to_dict() == Settings.defaults() | old
    assert (settings.precision, settings.start, settings.token_queries) == ("fp32", "noise", None)
    with pytest.raises(ValueError, match="num_steps and num_epochs are both None"):
        Settings.from_dict(old | {"num_steps": None})
