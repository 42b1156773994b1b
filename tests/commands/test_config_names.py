"""--config: a file, or a config that the package carries by its bare name."""

import pytest

from neuroadapter_jax.commands import configs, program, runner
from neuroadapter_jax.commands.configs import configs_folder, find_config, load_config

FILE = """
from ml_collections import ConfigDict

def get_config():
    return ConfigDict({"workdir": "mine", "train": {"num_steps": 3}})
"""


def read(*arguments):
    values, _ = runner.parse("train", program.command_module("train"), list(arguments))
    return values.config


@pytest.mark.parametrize("name", ["demo", "demo.py", "configs/demo.py"])
def test_a_config_of_the_package_is_found_in_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == configs_folder() / "demo.py"
    assert read("--config", name, "--config.train.num_steps=2").train.num_steps == 2


def test_a_variant_of_a_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("nsd:simulated").data.image_size == 64
    assert read("--config=nsd:simulated", "--config.data.image_size=32").data.image_size == 32
    assert load_config("nsd").data.image_size == 512


def test_a_file_goes_before_the_packages_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.py").write_text(FILE)
    assert load_config("demo.py").workdir == "mine"
    assert load_config("demo").workdir == "runs/demo/train"
    assert load_config(str(tmp_path / "demo.py")).train.num_steps == 3


def test_every_config_of_the_package_loads_by_its_name():
    names = configs.config_names()
    assert {"demo", "nsd", "ablation", "encoder_demo", "nsd_imagery"} <= set(names)
    for name in names:
        assert load_config(name).is_locked


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=nsdd"], ["the config file nsdd is not there; did you mean nsd?"]),
        (["--config=other/demo.py"], ["the config file other/demo.py is not there"]),
        (["--config=tiny_sd:x"], ["tiny_sd.py has no variants, but :x was given"]),
        (["--config=demo:noisy"], ["demo.py:noisy: expected one of nsd_like, clean"]),
        (["--config=nsd_subjects:9"], ["expected a subject from 1 to 8"]),
        (
            ["--config=demo", "--config.train.num_step=1"],
            ["config.train.num_step is no key", "did you mean --config.train.num_steps?"],
        ),
        (
            ["--config=demo", "--config.trian.seed=1"],
            ["config.trian.seed is no key", "did you mean --config.train.seed?"],
        ),
        (
            ["--config=demo", "--config.train.lr=1e-3"],
            ["config.train.lr is no key", "did you mean --config.train.learning_rate?"],
        ),
        (
            ["--config=demo", "--config.train.prepared=x"],
            ["config.train.prepared is no key", "did you mean --config.data.prepared?"],
        ),
        (
            ["--config=demo", "--config.qqq=1"],
            ["config.qqq is no key", "one that is there: config has backbone, data, progress"],
        ),
        (
            ["--config=demo", "--config.train.seed.qqq=1"],
            ["config.train.seed.qqq is no key", "config.train.seed has none below it"],
        ),
        (
            ["--config=demo", "--config.data.parcellation[5]=x"],
            ["config.data.parcellation[5] is no key", "holds 2 values"],
        ),
        (["--config=demo", "--config.train.num_steps=many"], ["config.train.num_steps=many"]),
    ],
)
def test_what_is_wrong_with_a_config_is_one_sentence(arguments, words):
    with pytest.raises(SystemExit) as end:
        read(*arguments)
    sentence = end.value.code
    assert sentence.startswith("train: ") and "\n" not in sentence
    assert all(word in sentence for word in words)


@pytest.mark.parametrize("name", ["mine.yaml", "mine", "config.json"])
def test_a_config_file_is_python_by_its_name(tmp_path, name):
    (tmp_path / name).write_text(FILE)
    with pytest.raises(SystemExit, match=r"expected a Python file .* whose name ends in \.py"):
        read(f"--config={tmp_path / name}")


def test_a_mistake_in_a_config_file_keeps_its_traceback(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return 1 + 'a'\n")
    with pytest.raises(RuntimeError, match="get_config failed") as raised:
        load_config(str(tmp_path / "mine.py"))
    assert isinstance(raised.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("name", "words"), [("encoder_demo", "train-encoder"), ("nsd_imagery", "prepare")]
)
def test_a_config_of_another_command_is_refused(name, words, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["train", "--config", name])
    assert end.value.code == 1
    assert words in capsys.readouterr().err


def test_what_a_config_file_itself_raises_is_not_taken_for_an_unknown_key(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def get_config():\n    return {}['absent']\n")
    with pytest.raises(KeyError, match="absent"):
        read(f"--config={path}", "--config.train.num_steps=1")


def test_configs_of_decoders_name_flags_of_their_command(capsys):
    folder = configs_folder() / "decoders"
    files = sorted(folder.glob("*.py"))
    assert files
    for file in files:
        flags = [f"--{key}={value}" for key, value in load_config(str(file)).items()]
        values = runner.CommandFlags(flags)
        program.command_module("decoders").define(values)
        values(["decoders", *flags], known_only=False)
        assert values.prepared and values.out
