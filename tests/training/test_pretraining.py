"""Work folders and exports of the small networks' trainings are looked at before any work."""

import pytest

from neuroadapter_jax.commands import program

COMMANDS = {
    "pretrain-backbone": ("tiny_sd", "vae"),
    "pretrain-vit": ("tiny_vit", "."),
    "pretrain-spatial-adapter": ("spatial_depth", "."),
    "pretrain-joint-space": ("joint_space", "."),
    "train-image-adapter": ("image_adapter_tiny", "."),
}


def refused(capsys, name, workdir, export):
    with pytest.raises(SystemExit) as end:
        command = [name, "--config", COMMANDS[name][0]]
        program.main([*command, f"--config.workdir={workdir}", f"--config.export={export}"])
    assert end.value.code == 1
    return capsys.readouterr().err


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_work_folder_of_another_run_is_refused(tmp_path, capsys, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"num_regions": 7}')
    (run / "metrics.jsonl").write_text("{}\n")
    assert str(run) in refused(capsys, name, run, tmp_path / "export")
    assert {path.name for path in run.iterdir() if path.suffix != ".lock"} == {
        "config.json",
        "metrics.jsonl",
    }
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_other_settings_of_a_stage_that_has_begun_are_refused(tmp_path, capsys, name):
    stage = tmp_path / "run" / COMMANDS[name][1]
    stage.mkdir(parents=True)
    (tmp_path / "run" / "export.json").write_text(f'{{"export": "{tmp_path / "export"}"}}')
    (stage / "config.json").write_text('{"seed": 7}')
    (stage / "metrics.jsonl").write_text("{}\n")
    said = refused(capsys, name, tmp_path / "run", tmp_path / "export")
    assert "seed is 7 there, 0 here" in said
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_export_onto_a_file_is_refused(tmp_path, capsys, name):
    (tmp_path / "notes.txt").write_text("mine")
    said = refused(capsys, name, tmp_path / "run", tmp_path / "notes.txt")
    assert f"config.export is {tmp_path / 'notes.txt'}, which is a file; name a folder." in said
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
