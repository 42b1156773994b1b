"""Folders that appear whole, files of others that stay, names that stay inside."""

import pytest

from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.files import (
    inside,
    refuse_foreign,
    refuse_other_kind,
    remove_partial_folders,
    require_folder_place,
    whole_folder,
    write_file,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_appears_only_when_it_is_complete(tmp_path, empty):
    folder = tmp_path / "a" / "model"
    if empty:
        folder.mkdir(parents=True)
    with whole_folder(folder) as place:
        (place / "one").write_text("1")
        assert place.parent == folder.parent
        assert (names(folder) == []) if empty else not folder.exists()
    assert names(folder) == ["one"] and names(folder.parent) == ["model"]
    assert folder.stat().st_mode == tmp_path.joinpath("a").stat().st_mode


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="No space"), whole_folder(tmp_path / "model") as place:
        (place / "one").write_text("1")
        raise OSError("No space left on device")
    assert names(tmp_path) == []


def test_two_calls_never_share_a_temporary_folder(tmp_path):
    with whole_folder(tmp_path / "model") as first, whole_folder(tmp_path / "other") as second:
        assert first != second
    (tmp_path / ".model-killed.partial").mkdir()
    (tmp_path / "model.partial").mkdir()  # someone else's
    remove_partial_folders(tmp_path / "model")
    assert names(tmp_path) == ["model", "model.partial", "other"]


def test_a_folder_with_content_is_written_in_place(tmp_path):
    (tmp_path / "kept").write_text("1")
    with whole_folder(tmp_path) as place:
        assert place == tmp_path
    assert names(tmp_path) == ["kept"]


def test_a_file_that_fails_leaves_the_old_one(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def half(partial):
        partial.write_text("ne")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_file(tmp_path / "a.txt", half)
    assert names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_files_of_others_are_named(tmp_path):
    refuse_foreign(tmp_path / "new", ["README.md"])
    (tmp_path / "README.md").touch()
    (tmp_path / "unet").mkdir()
    refuse_foreign(tmp_path, ["README.md"], ours=True)
    with pytest.raises(ExistingFileError, match=r"holds README\.md, unet already, which this run"):
        refuse_foreign(tmp_path, ["README.md", "config.json", "unet"])


@pytest.mark.parametrize("name", ["a.png", "images/a.png", "images/../a.png", "./a", "..a/b"])
def test_a_name_inside_is_a_path(tmp_path, name):
    assert inside(tmp_path, name, "index.json") == tmp_path / name


@pytest.mark.parametrize("name", ["..", "../a", "images/../../a", "/etc/passwd", "//a", "./../a"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(
        InputError, match=r"index\.json names .* which (lies outside|is an absolute path)"
    ):
        inside(tmp_path, name, tmp_path / "index.json")


def test_a_link_of_the_hubs_cache_is_inside(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0a").touch()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model").symlink_to("../blobs/0a")
    assert inside(tmp_path / "snapshot", "model", "index.json").is_file()


@pytest.mark.parametrize(
    ("mark", "kind", "words"),
    [
        ("model_index.json", "model", "holds a backbone (model_index.json)"),
        ("index.json", "views", "holds images of `neuroadapter reconstruct`"),
        ("checkpoints/best", "encoder run", "holds a training run (checkpoints)"),
        ("views-00000.nc", "reconstructions", "holds views of `neuroadapter interpret`"),
    ],
)
def test_a_folder_of_another_kind_is_left_alone(tmp_path, mark, kind, words):
    refuse_other_kind(tmp_path / "none", kind)
    (tmp_path / mark).mkdir(parents=True)
    with pytest.raises(ExistingFileError) as caught:
        refuse_other_kind(tmp_path, kind)
    assert words in str(caught.value)
    assert f"name another folder for the {kind}." in str(caught.value)
    own = {"checkpoints/best": "run", "index.json": "reconstructions"}.get(mark)
    if own:
        refuse_other_kind(tmp_path, own)


def test_a_folder_is_not_made_in_place_of_a_file_or_below_one(tmp_path):
    require_folder_place("--out", tmp_path / "new" / "folder")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ExistingFileError, match=r"--out is .*notes\.txt, which is a file"):
        require_folder_place("--out", tmp_path / "notes.txt")
    with pytest.raises(ExistingFileError, match=r"but .*notes\.txt is a file, so nothing can be"):
        require_folder_place("--out", tmp_path / "notes.txt" / "a" / "b")
