"""Settings of a run, those that version 0.1.0 wrote among them."""

import dataclasses
import json
import shutil

import pytest
from prepared_records import write_prepared

from neuroadapter_jax.diffusion.sampling import Sampling
from neuroadapter_jax.training.settings import Settings
from neuroadapter_jax.training.train import run_config

OWN = Sampling("ddpm", 50, 3.0, "grey")


@pytest.fixture
def settings():
    return Settings("records", ("lh.annot", "rh.annot"), seed=7, sampling=OWN)


def of_version_0_1_0(settings):
    """The flat keys that it wrote."""
    values = settings.to_dict()
    own = values.pop("sampling")
    return values | {name: own[name] for name in ("guidance_scale", "sampler", "start")}


def test_settings_survive_json(settings):
    values = json.loads(json.dumps(settings.to_dict()))
    assert values["sampling"] == {
        "sampler": "ddpm", "num_steps": 50, "guidance_scale": 3.0, "start": "grey", "eta": 0.0,
        "spacing": None,
    }  # fmt: skip
    assert not {"guidance_scale", "sampler", "start"} & values.keys()
    assert Settings.from_dict(values) == settings
    several = dataclasses.replace(settings, prepared=("a", "b"))
    assert Settings.from_dict(json.loads(json.dumps(several.to_dict()))) == several


def test_flat_sampling_keys_of_an_older_version_are_read(settings):
    assert Settings.from_dict(of_version_0_1_0(settings)) == settings
    # The oldest folders lack the settings that came later; each had this value then.
    old = {"prepared": "records", "parcellation": ["lh.annot", "rh.annot"], "seed": 7}
    found = Settings.from_dict(old | {"guidance_scale": 3.0})
    assert found.sampling == Sampling("ddim", 50, 3.0, "noise")


def test_a_work_folder_of_an_older_version_is_the_same_run(settings, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(of_version_0_1_0(settings)))
    (tmp_path / "checkpoints" / "400").mkdir(parents=True)
    before = path.read_bytes()
    run_config(settings).require_same(tmp_path)
    other = dataclasses.replace(settings, sampling=OWN.replace(guidance_scale=2.0))
    words = r"sampling\.guidance_scale is 3\.0 there, 2\.0 here; choose another work folder"
    with pytest.raises(ValueError, match=words):
        run_config(other).require_same(tmp_path)
    assert path.read_bytes() == before

    # A key that came later is at its default.
    old = of_version_0_1_0(settings)
    del old["start"], old["precision"]
    path.write_text(json.dumps(old))
    run_config(dataclasses.replace(settings, sampling=OWN.replace(start="noise"))).require_same(
        tmp_path
    )
    with pytest.raises(ValueError, match="precision is 'fp32' there, 'bf16' here"):
        run_config(dataclasses.replace(settings, precision="bf16")).require_same(tmp_path)


def test_validation_images_take_the_models_sampling_in_fewer_steps(settings):
    assert settings.validation_sampling == Sampling("ddpm", settings.sample_steps, 3.0, "grey")


def test_unknown_settings_are_named(settings):
    values = settings.to_dict()
    with pytest.raises(ValueError, match=r"Unknown training setting\(s\) \['gama'\]"):
        Settings.from_dict(values | {"gama": 5.0})
    # Old and new keys at once would say two things.
    with pytest.raises(ValueError, match=r"Unknown training setting\(s\) \['guidance_scale'\]"):
        Settings.from_dict(values | {"guidance_scale": 3.0})
    with pytest.raises(ValueError, match=r"Unknown sampling setting\(s\) \['steps'\]"):
        Settings.from_dict(values | {"sampling": {"steps": 3}})
    with pytest.raises(ValueError, match="sampler is 'euler'"):
        Settings.from_dict(values | {"sampling": {"sampler": "euler"}})
    with pytest.raises(ValueError, match="precision is 'fp16'"):
        Settings.from_dict(values | {"precision": "fp16"})


def test_a_run_goes_on_with_the_same_records_and_backbone_only(tmp_path, random_backbone):
    ids = {"train": [0, 3, 4], "validation": [1], "test": [2]}
    records = write_prepared(tmp_path / "records", 1, ids, (5, 7))
    backbone = shutil.copytree(random_backbone, tmp_path / "backbone")
    settings = Settings(str(records), ("lh.annot", "rh.annot"), backbone=str(backbone))
    workdir = tmp_path / "run"
    run_config(settings).write(workdir)
    (workdir / "metrics.jsonl").write_text("{}\n")  # it has begun
    config = json.loads((workdir / "config.json").read_text())
    assert Settings.from_dict(config) == settings and len(config["inputs"]["prepared"]) == 2

    moved = records.rename(tmp_path / "moved")
    elsewhere = dataclasses.replace(settings, prepared=str(moved))
    run_config(elsewhere).require_same(workdir)
    with pytest.raises(ValueError, match=r"prepared is .*records' there, .*nowhere' here"):
        run_config(dataclasses.replace(settings, prepared="nowhere")).require_same(workdir)
    write_prepared(tmp_path / "records", 2, ids, (5, 7))  # another subject at the same place
    with pytest.raises(ValueError, match="other input: the content of prepared is another than"):
        run_config(settings).require_same(workdir)
    path = backbone / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scaling_factor": 0.5}))
    with pytest.raises(ValueError, match=r"the content of backbone\.vae is another than then"):
        run_config(elsewhere).require_same(workdir)
