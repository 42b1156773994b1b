"""Whatever a library raises while it reads a file becomes one sentence that names the file."""

import json

import numpy as np
import pytest

from neuroadapter_jax.errors import InputError, MissingFileError, NotFiniteError, reading


def sentence(path, read) -> str:
    with pytest.raises(InputError) as caught, reading(path, "a file of counts"):
        read(path)
    return str(caught.value)


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    path = tmp_path / "counts.json"
    path.touch()
    expected = f"{path}: is empty; expected a file of counts; copy or download it again."
    assert sentence(path, lambda p: json.loads(p.read_text())) == expected


def test_a_pointer_of_git_lfs_comes_with_the_command_that_fetches_the_file(tmp_path):
    path = tmp_path / "counts.npz"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n")
    assert "git lfs pull" in sentence(path, np.load)


def test_a_web_page_is_recognised(tmp_path):
    path = tmp_path / "counts.npz"
    path.write_text("\n<!DOCTYPE html><html>Sign in</html>")
    assert "is a web page" in sentence(path, np.load)


def test_what_the_library_said_stands_in_brackets(tmp_path):
    path = tmp_path / "counts.json"
    path.write_text('{"a": ')
    said = sentence(path, lambda p: json.loads(p.read_text()))
    assert "(Expecting value" in said and "\n" not in said


def test_what_the_operating_system_said_stands_there_without_its_number(tmp_path):
    path = tmp_path / "counts.bin"
    path.write_bytes(b"PK")

    def read(p):
        raise OSError(22, "Invalid argument")

    said = sentence(path, read)
    assert "(Invalid argument)" in said and "Errno" not in said

    def lead_on(p):
        (tmp_path / "other.bin").read_bytes()

    said = sentence(path, lead_on)
    assert f"{tmp_path / 'other.bin'}: No such file" in said and "Errno" not in said


def test_a_missing_file_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(MissingFileError, match="not found"), reading(tmp_path / "x", "counts"):
        (tmp_path / "x").read_text()


def test_an_error_that_is_a_sentence_already_passes_unchanged(tmp_path):
    with pytest.raises(InputError, match=r"^mine$"), reading(tmp_path, "counts"):
        raise InputError("mine")


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (InputError, ValueError),
        (MissingFileError, FileNotFoundError),
        (NotFiniteError, FloatingPointError),
    ],
)
def test_callers_may_catch_the_builtin_types(ours, builtin):
    assert issubclass(ours, InputError) and issubclass(ours, builtin)
