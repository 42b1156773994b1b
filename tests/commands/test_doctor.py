"""What `neuroadapter doctor` says of a machine."""

from pathlib import Path

import jax
import pytest

import neuroadapter_jax
from neuroadapter_jax.commands import doctor, program
from neuroadapter_jax.commands.extras import EXTRAS, extra_of


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Empty caches."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_it_tells_all_parts_and_ends_well(caches, capsys):
    program.main(["doctor"])
    out, err = capsys.readouterr()
    assert err == ""
    for heading in ("Versions", "Devices", "Machine", "Extras", "Configs", "Weights in the caches"):
        assert f"\n{heading}:\n" in f"\n{out}"
    assert f"jax                {jax.__version__}\n" in out
    assert f"neuroadapter-jax   {neuroadapter_jax.__version__} " in out
    assert out.count(f"{jax.devices()[0].device_kind} (cpu)") == len(jax.devices())
    for name in ("tiny-sd", "tiny-vit", "neuroadapter-simulated", "scene_reader"):
        assert f"\n  {name} " in out
    assert "GiB available" in out and "GB free" in out
    assert out.endswith("The core works. Next: neuroadapter demo --quick\n")


def test_cached_weights_are_found_and_missing_ones_named(caches):
    before = {line.split()[0]: line for line in doctor.cached_weights()}
    assert all("not here" in line for line in before.values())
    snapshot = caches / "hub" / "models--facebook--dinov2-base" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").touch()
    (caches / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (caches / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    after = {line.split()[0]: line for line in doctor.cached_weights()}
    here = {name for name, line in after.items() if "not here" not in line}
    assert here == {"facebook/dinov2-base", "alexnet"}


def test_a_missing_extra_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    lines = list(doctor.extras())
    assert len(lines) == len(EXTRAS)
    (prepare,) = [line for line in lines if line.startswith("prepare ")]
    assert "without tensorflow; for tf.data on the records" in prepare
    assert prepare.endswith("pip install 'neuroadapter-jax[prepare]'")


def test_a_broken_core_ends_with_one(monkeypatch, caches, tmp_path, capsys):
    monkeypatch.setattr(doctor.neuroadapter_jax, "__file__", str(tmp_path / "pkg" / "__init__.py"))
    with pytest.raises(SystemExit) as end:
        program.main(["doctor"])
    out, err = capsys.readouterr()
    assert end.value.code == 1 and "The core works" not in out
    assert "doctor: " in err and "tiny-sd" in err and "install neuroadapter-jax again" in err


def test_the_extras_are_those_of_setup_py():
    text = (Path(__file__).parents[2] / "setup.py").read_text()
    for name, extra in EXTRAS.items():
        assert f'"{name}": ' in text
        assert extra_of(f"{extra.modules[0]}.part") == name
    assert extra_of("jax") is None
