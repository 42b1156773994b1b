import hashlib

import numpy as np
import pytest
from prepared_records import write_prepared

from neuroadapter_jax.datasets.prepared.excerpt import write_excerpt
from neuroadapter_jax.datasets.prepared.records import PreparedDataset
from neuroadapter_jax.errors import ExistingFileError, InputError

IDS = {"train": [3, 5], "validation": [8], "test": [2, 9, 11]}


@pytest.fixture
def prepared(tmp_path):
    write_prepared(tmp_path / "prepared", 1, IDS, (6, 5))
    return tmp_path / "prepared"


def test_an_excerpt_holds_the_first_records_of_its_split_alone(prepared, tmp_path):
    write_excerpt(prepared, "test", 2, tmp_path / "few")
    few, whole = (PreparedDataset(path, "test") for path in (tmp_path / "few", prepared))
    assert len(few) == 2 and few.image_ids.tolist() == [2, 9]
    for i in range(2):
        for key, value in whole[i].items():
            np.testing.assert_array_equal(few[i][key], value)
    np.testing.assert_array_equal(few.ncsnr, whole.ncsnr)
    assert few.origin.data == whole.origin.data
    assert few.provenance["excerpt_of"] == whole.fingerprint
    assert few.provenance["trials"] == 3 + 1  # repeats: one more than the rest of the id by three
    folder = tmp_path / "few" / few.provenance["records"]
    (file,) = folder.glob("*array_record*")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (folder / "SHA256SUMS").read_text() == f"{digest}  {file.name}\n"
    with pytest.raises(InputError, match="has no split 'train'; choose one of test"):
        PreparedDataset(tmp_path / "few", "train")


@pytest.mark.parametrize("count", [0, 4])
def test_as_many_records_as_there_are(prepared, tmp_path, count):
    with pytest.raises(InputError, match=f"count is {count}; expected 1 to 3, the images of"):
        write_excerpt(prepared, "test", count, tmp_path / "few")
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_a_folder_that_is_there_is_not_written_into(prepared, tmp_path):
    (tmp_path / "few").mkdir()
    with pytest.raises(ExistingFileError, match="holds few already"):
        write_excerpt(prepared, "test", 1, tmp_path / "few")
    assert not list((tmp_path / "few").iterdir())


def test_responses_and_stimuli_in_one_call_are_the_records_averaged(prepared):
    dataset = PreparedDataset(prepared, "test")
    fmri, stimuli = dataset.fmri_and_stimuli(2)
    assert fmri.dtype == np.float32 and fmri.shape == (2, 11)
    for i in range(2):
        mean = dataset[i]["betas"].astype(np.float64).mean(0)
        np.testing.assert_allclose(fmri[i], mean, atol=2e-3)  # averages are kept as float16
        np.testing.assert_array_equal(stimuli[i], dataset[i]["image"])
    assert len(dataset.fmri_and_stimuli()[0]) == 3


def test_shipped_records_are_known_by_their_name_unless_a_folder_here_has_it(
    prepared, tmp_path, monkeypatch
):
    assert len(PreparedDataset("simulated-responses", "test")) == 8
    monkeypatch.chdir(tmp_path)
    prepared.rename("simulated-responses")
    assert len(PreparedDataset("simulated-responses", "test")) == 3
