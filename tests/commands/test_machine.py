"""Where compiled programs are kept."""

import os

import pytest

from neuroadapter_jax.commands import machine
from neuroadapter_jax.commands.machine import CACHE, use_compilation_cache


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """A cache folder, and no word about where programs are kept."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop(CACHE, None)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path)
    return tmp_path


def test_programs_are_kept_below_the_users_cache(caches):
    use_compilation_cache()
    (folder,) = (caches / "neuroadapter-jax").iterdir()
    assert os.environ[CACHE] == str(folder)
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) == 4 * 2**30


def test_each_kind_of_processor_has_its_own_folder(caches, monkeypatch):
    use_compilation_cache()
    os.environ.pop(CACHE)
    monkeypatch.setattr(machine, "_processor", lambda: "another")
    use_compilation_cache()
    assert len(list((caches / "neuroadapter-jax").iterdir())) == 2


def test_a_folder_that_is_named_is_taken(caches):
    os.environ[CACHE] = "elsewhere"
    use_compilation_cache()
    assert os.environ[CACHE] == "elsewhere"
    assert not list(caches.iterdir())


def test_without_a_place_nothing_is_kept(caches):
    (caches / "file").write_text("")
    os.environ["XDG_CACHE_HOME"] = str(caches / "file")
    use_compilation_cache()
    assert CACHE not in os.environ
