"""Config files that build on another, wherever their folder lies."""

import shutil
from pathlib import Path

import pytest

from neuroadapter_jax.training.sibling_config import sibling_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_a_config_finds_the_one_beside_it_in_any_folder(tmp_path):
    shutil.copytree(CONFIGS, tmp_path / "configs")
    demo = tmp_path / "configs" / "demo.py"
    demo.write_text(demo.read_text().replace("config.train.seed = 0", "config.train.seed = 37"))
    # Two files away: nsd.py takes its simulated data from demo.py.
    file = tmp_path / "configs" / "any.py"
    assert sibling_config(file, "simulated")().train.seed == 37
    assert sibling_config(file, "nsd")("simulated").data.image_size == 64
    assert sibling_config(CONFIGS / "any.py", "simulated")().train.seed == 0
    # Each call gives its own config.
    first, second = sibling_config(file, "demo")(), sibling_config(file, "demo")()
    first.train.seed = 5
    assert second.train.seed == 37


def test_a_config_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"other\.py: not found; expected a config file"):
        sibling_config(tmp_path / "any.py", "other")
