"""What a config says is checked under the name that was typed, before anything is read or made."""

import dataclasses
import types
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from neuroadapter_jax.commands import program, runner
from neuroadapter_jax.commands.config_values import (
    encoder_settings,
    nsd_selection,
    per_subject,
    plain,
    training_settings,
)
from neuroadapter_jax.commands.configs import define_config
from neuroadapter_jax.commands.shared_flags import CommandFlags
from neuroadapter_jax.training.brain_encoder import EncoderSettings
from neuroadapter_jax.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def read(name: str, *overrides: str) -> ConfigDict:
    values = CommandFlags([f"--config={ROOT / 'configs' / name}", *overrides])
    define_config(values)
    values(["train", *values.arguments])
    return values.config


def may_be_none(kind: type) -> set[str]:
    """The fields of a dataclass that None switches off."""
    hints = typing.get_type_hints(kind)
    return {
        field.name
        for field in dataclasses.fields(kind)
        if types.NoneType in typing.get_args(hints[field.name])
    }


@pytest.mark.parametrize(
    ("name", "section", "kind", "settings_of"),
    [
        ("nsd.py", "train", Settings, training_settings),
        ("demo.py", "train", Settings, training_settings),
        ("encoder_nsd.py", "encoder", EncoderSettings, encoder_settings),
        ("encoder_demo.py", "encoder", EncoderSettings, encoder_settings),
    ],
)
def test_every_optional_setting_is_switched_off_by_none(
    name: str, section: str, kind: type, settings_of: Callable
):
    optional = may_be_none(kind) & set(read(name)[section])
    assert {"clip_norm", "ema_decay"} <= optional
    for key in sorted(optional - {"num_steps", "num_epochs"}):
        config = read(name, f"--config.{section}.{key}=None")
        assert getattr(settings_of(config), key) is None
    config = read(name, f"--config.{section}.num_steps=7", f"--config.{section}.warmup_steps=0")
    assert settings_of(config).num_steps == 7


def test_none_keeps_the_kind_of_a_number_and_other_keys():
    config = read("demo.py", "--config.train.gamma=None", "--config.train.gamma=2.5")
    assert training_settings(config).gamma == 2.5
    before, after = read("demo.py"), read("demo.py", "--config.train.gamma=None")
    assert plain(after.train) == plain(before.train) | {"gamma": None}
    assert plain(after.data) == plain(before.data)
    # A list, too: of all of NSD's sessions, of the ROIs of a surface file.
    assert nsd_selection(read("nsd.py", "--config.data.sessions=None").data).sessions is None
    assert nsd_selection(read("nsd.py", "--config.data.sessions=(1,2)").data).sessions == (1, 2)
    reader = read("deeprecon.py", "--config.data.reader.rois=None").data.reader
    assert plain(reader)["rois"] is None


# Command -> override -> how the sentence goes on after the key that was typed.
REFUSED = {
    "train --config demo": {
        "config.train.gamma=-1": "is -1.0; expected a number above 0, or None for no weighting.",
        "config.train.gamma=inf": "is inf; expected a finite number above 0, or None for no",
        "config.train.clip_norm=0": "is 0.0; expected a number above 0, or None for no clipping.",
        "config.train.b2=1.5": "is 1.5; expected a number from 0 to below 1.",
        "config.train.weight_decay=-1": "is -1.0; expected a number of at least 0.",
        "config.train.ema_decay=1.5": "is 1.5; expected a number from 0 to below 1, or None for",
        "config.train.learning_rate=nan": "is nan; expected a finite number above 0.",
        "config.train.learning_rate=inf": "is inf; expected a finite number above 0.",
        "config.train.learning_rate=-1": "is -1.0; expected a number above 0.",
        "config.train.learning_rate=None": "is None; expected a number above 0.",
        "config.train.accumulate=3": "is 3; expected a divisor of batch_size, 16.",
        "config.train.batch_size=0": "is 0; expected a whole number of at least 1.",
        "config.train.batch_size=None": "is None; expected a whole number of at least 1.",
        "config.train.batch_size=1.5": "=1.5: expected a whole number, or None",
        "config.train.batch_size=yes": "=yes: expected a whole number, or None",
        "config.train.sample_steps=5000": "is 5000; expected at most 1000, the timesteps of tiny-",
        "config.train.sampling.num_steps=1001": "is 1001; expected at most 1000, the timesteps",
        "config.train.sampling.guidance_scale=nan": "is nan; expected a finite number.",
        "config.train.sampling.sampler=euler": "is 'euler'; expected one of ['ddpm', 'ddim', ",
        "config.train.num_regions=-5": "is -5; expected a whole number of at least 1.",
        "config.train.num_regions=81": "is 81; expected an even number, or per_hemisphere=False.",
        "config.train.schedule=cosin": "is 'cosin'; expected one of ['cosine', 'constant'].",
        "config.train.drop_rate=nan": "is nan; expected a finite number from 0 to 1, or 'uniform'.",
        "config.train.drop_rate=unifrm": "is 'unifrm'; expected a number from 0 to 1, or",
        "config.train.drop_all=-0.1": "is -0.1; expected a number from 0 to 1.",
        "config.train.warmup_steps=1000": "is 1000; expected less than num_steps, 1000.",
        "config.train.seed=-1": "is -1; expected a whole number from 0 to below 4294967296.",
        "config.train.seed=4294967296": "is 4294967296; expected a whole number from 0 to below",
        "config.train.log_every=0": "is 0; expected a whole number of at least 1.",
        "config.train.fsdp=64": "is 64; expected a divisor of the number of devices, 1.",
        "config.backbone=None": "is None; expected text.",
        "config.data.parcellation=x": "is ('x',); expected two label files, left and right.",
        "config.data.image_size=65": "is 65; expected a multiple of 8 for tiny-sd.",
        "config.data.subject=9": "is 9; expected a whole number from 1 to 8.",
        "config.data.normalize=sesion": "is 'sesion'; expected one of ['session', 'run', ",
        "config.data.num_validation=0": "is 0; expected a whole number of at least 1.",
        "config.data.root=None": "is None; expected text.",
        "config.data.prepared=None": "is None; expected text",
        "config.data.simulation.seed=-1": "is -1; expected a whole number from 0 to below",
        "allow_pickle": "has no effect here; data.dataset is not derived_nsd.",
    },
    "train --config demo:nsd_like": {
        "config.data.simulation.num_shared=2561": "is 2561; expected less than 2560.",
        "config.data.simulation.noise=loud": "is 'loud'; expected one of ['clean', 'nsd_like'].",
        "config.data.subject=4": "is 4; expected one of the simulated subjects, 1, 2, 5, 7, 3.",
    },
    "train --config demo:clean": {
        "config.data.simulation.num_shared=2501": "is 2501; expected at most num_images, 2500.",
    },
    "train --config nsd": {
        "config.data.parcels=left": "is 'left'; expected one of ['own', 'released'].",
    },
    "train --config nsd_subjects:shared": {
        "config.data.subjects=(0,2)": "is (0, 2); expected a list, each a whole number of at",
        "config.data.prepared={x}": "is '{x}'; expected a name in which {subject} alone stands",
    },
    "prepare --config nsd": {
        "config.data.split=special": "is 'special'; expected one of ['shared', 'shared1000', ",
        "config.data.sessions=(0,1)": "is (0, 1); expected a list that is not empty, each a whole",
    },
    "prepare --config deeprecon": {
        "config.data.reader.num_validation=0": "is 0; expected a whole number of at least 1.",
        "config.data.reader.normalize=None": "is None; expected text.",
    },
    "prepare --config nsd_imagery": {
        "config.data.reader.subject=0": "is 0; expected a whole number of at least 1.",
    },
    "train-encoder --config encoder_demo": {
        "config.encoder.dropout=2": "is 2.0; expected a number from 0 to below 1.",
        "config.encoder.blocks=()": "is (); expected a list that is not empty, each a whole number",
        "config.encoder.blocks=(1,1)": "is (1, 1); expected each block once;",
        "config.encoder.blocks=(1,5)": "is (1, 5); expected at most 4, the blocks of tiny-vit",
        "config.encoder.num_heads=7": "is 7; expected a divisor of 192, the width of tiny-vit.",
        "config.encoder.padded_size=65": "is 65; expected a multiple of 8, the patch of tiny-vit.",
        "config.encoder.padded_size=8": "is 8; expected at least image_size, 64.",
        "config.encoder.schedule=stepp": "is 'stepp'; expected one of ['cosine', 'constant', 'step",
        "config.encoder.decay_epochs=0": "is 0.0; expected a number above 0.",
    },
    "rois --config demo": {
        "thresholds=2": "is [2.0]; expected a list that is not empty, each a number",
        "thresholds=a": "is ['a']; expected numbers such as 0.5,0.1.",
    },
    "ablate --config ablation": {
        "config.ablation.num_steps=0": "is 0; expected a whole number of at least 1.",
        "config.ablation.num_steps=1001": "is 1001; expected at most 1000, the timesteps of",
        "config.ablation.encoder=absent": "is absent, in which there is no config.json; expected",
        "config.ablation.encoder_config=absent.py": "is absent.py: the config file absent.py is",
        "config.ablation.encoder_config=demo": "is demo, which has no section `encoder`; name",
        "config.ablation.seeds=(0,0)": "is (0, 0); expected each seed once.",
        "config.train.gamma=-2": "is -2.0; expected a number above 0, or None for no weighting.",
    },
    "pretrain-backbone --config tiny_sd": {
        "config.unet.b2=1.5": "is 1.5; expected a number from 0 to below 1.",
        "config.unet.num_heads=3": "is 3; expected a divisor of each of (64, 128).",
        "config.vae.num_steps=50": "is 50; expected a whole number above 100.",
        "config.vae.norm_num_groups=7": "is 7; expected a divisor of each of (32, 48, 64).",
        "config.vae.batch_size=24001": "is 24001; expected at most num_scenes, 24000.",
    },
    "pretrain-vit --config tiny_vit": {
        "config.model.image_size=32": "is 32; expected 64, the side of the scenes in pixels.",
        "config.model.patch_size=7": "is 7; expected a divisor of image_size.",
        "config.training.ema_decay=1": "is 1.0; expected a number from 0 to below 1.",
    },
    "train-scene-reader --config scene_reader": {
        "config.seed=-1": "is -1; expected a whole number from 0 to below 4294967296.",
        "config.held_out_seed=0": "is 0; expected another seed than config.seed.",
    },
}


@pytest.mark.parametrize(
    ("command", "override"),
    [(command, override) for command, found in REFUSED.items() for override in found],
)
def test_a_setting_out_of_its_range_is_named_and_nothing_is_written(
    as_user, command, override, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    name, *arguments = command.split()
    with pytest.raises(SystemExit) as end:
        runner.run(name, program.command_module(name), [*arguments, f"--{override}"])
    said = capsys.readouterr().err.strip() or str(end.value.code)
    key, rest = override.partition("=")[0], REFUSED[command][override]
    assert f"{key}{'' if rest.startswith('=') else ' '}{rest}" in said
    assert said.startswith(f"{name}: ") and "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "section"),
    [
        ("train --config encoder_demo", "train"),
        ("rois --config encoder_demo", "train"),
        ("train-encoder --config demo", "encoder"),
        ("ablate --config demo", "ablation"),
    ],
)
def test_a_config_without_the_section_that_a_command_needs_is_refused(line, section, capsys):
    name, *arguments = line.split()
    with pytest.raises(SystemExit):
        runner.run(name, program.command_module(name), arguments)
    assert f"has no section `{section}`" in capsys.readouterr().err


def test_subjects_of_one_model_have_folders_of_their_own():
    each = per_subject(read("nsd_subjects.py:banks", "--config.data.subjects=(3,8)"))
    assert [one.data.subject for one in each] == [3, 8]
