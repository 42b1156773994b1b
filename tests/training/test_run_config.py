"""Whose a work folder is, and which folder its run exports to."""

import pytest

from neuroadapter_jax.errors import ExistingFileError, InputError
from neuroadapter_jax.files import write_json
from neuroadapter_jax.studies.decoders.checks import SETTINGS, require_own_folder
from neuroadapter_jax.training.run_config import claim_export, has_begun, require_checkpoints


def test_a_run_has_begun_with_its_first_checkpoint_or_line(tmp_path):
    assert not has_begun(tmp_path / "none")
    (tmp_path / "checkpoints" / "best").mkdir(parents=True)
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-1").mkdir()  # as a kill leaves it
    (tmp_path / "metrics.jsonl").touch()
    assert not has_begun(tmp_path)
    (tmp_path / "checkpoints" / "best" / "7").mkdir()
    assert has_begun(tmp_path)


def test_a_run_writes_over_its_own_export_alone(tmp_path):
    names, export, run = ("vae", "README.md"), tmp_path / "export", tmp_path / "run"
    claim_export(export, run, names)
    export.mkdir()
    (export / "README.md").write_text("mine")
    claim_export(export, run, names)  # the run that named it first may have written it
    with pytest.raises(ExistingFileError, match=r"holds README\.md already"):
        claim_export(export, tmp_path / "other", names)
    assert not (tmp_path / "other").exists()


def test_a_run_does_not_export_into_its_own_work_folder(tmp_path):
    with pytest.raises(InputError, match="export and workdir are both"):
        claim_export(tmp_path / "run", tmp_path / "x" / ".." / "run", ("config.json",))
    assert not list(tmp_path.iterdir())


def _claim(folder, settings):
    """As a comparison of decoders does it."""
    require_own_folder(folder, settings)
    write_json(folder / SETTINGS, settings)


def test_decoders_that_failed_before_their_first_result_bind_nobody(tmp_path):
    _claim(tmp_path, {"seed": 1})
    _claim(tmp_path, {"seed": 2})
    (tmp_path / "linear").mkdir()
    _claim(tmp_path, {"seed": 2})
    with pytest.raises(InputError, match="seed is 2 there, 3 here"):
        _claim(tmp_path, {"seed": 3})


@pytest.mark.parametrize(
    "name", ["results.json", "table.md", "methods.png", "retrieval", "validation.json"]
)
def test_results_of_someone_else_are_no_comparison_of_decoders(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ExistingFileError, match=f"holds {name} already"):
        _claim(tmp_path, {"seed": 1})
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_settings_of_something_else_are_never_replaced(tmp_path):
    for text in ('{"editor.fontSize": 12}', "[1]", "<html>"):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(InputError, match=r"editor|settings of `neuroadapter decoders`"):
            _claim(tmp_path, {"seed": 1})
        assert (tmp_path / "settings.json").read_text() == text


LINE = '{"step": %d, "kind": "%s"}\n'


@pytest.mark.parametrize(
    "lines", [[(2, "train"), (2, "evaluation")], [(step, "train") for step in (1, 2, 3, 4, 5)]]
)
def test_a_run_that_has_lost_its_checkpoints_does_not_begin_again(tmp_path, lines):
    text = "".join(LINE % line for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"no checkpoint, though metrics\.jsonl goes on to step"):
        require_checkpoints(tmp_path, checkpoint_every=2)
    assert (tmp_path / "metrics.jsonl").read_text() == text
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    require_checkpoints(tmp_path, checkpoint_every=2)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    require_checkpoints(tmp_path, 2)
    (tmp_path / "metrics.jsonl").write_text("".join(LINE % (s, "train") for s in (1, 2, 3, 4)))
    require_checkpoints(tmp_path, 2)  # the first may have been on its way to the disk
