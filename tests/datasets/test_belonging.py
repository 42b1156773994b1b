"""What belongs together is told from what does not, by what both sides say of themselves."""

import json

import nibabel
import numpy as np
import pytest
from prepared_records import write_prepared

from neuroadapter_jax.datasets.belonging import Origin, made_for, require_same_root
from neuroadapter_jax.datasets.prepared.records import PreparedDataset

DATA = {
    "dataset": "nsd",
    "subject": 1,
    "space": "fsaverage",
    "beta_version": "betas_fithrf",
    "normalize": "session",
    "simulation": {"seed": 1, "num_images": 34},
}
OTHERS = {
    "dataset": "deeprecon",
    "subject": 5,
    "space": "fsaverage5",
    "beta_version": "betas_assumehrf",
    "normalize": "none",
    "simulation": {"seed": 2, "num_images": 34},
}


def origin(name, **data):
    return Origin(f"the {name}", data)


@pytest.mark.parametrize("key", OTHERS)
def test_each_difference_is_named_with_both_values_and_how_to_allow_it(key):
    with pytest.raises(ValueError) as error:
        made_for(origin("model", **DATA), origin("records", **DATA | {key: OTHERS[key]}))
    a, b = DATA[key], OTHERS[key]
    a, b = (x["seed"] if isinstance(x, dict) else x for x in (a, b))
    assert f"is {a!r} for the model, {b!r} for the records; " in str(error.value)
    assert str(error.value).endswith(f"--allow_other {key}.")


def test_all_differences_are_named_at_once_and_those_that_are_meant_are_returned():
    model, records = origin("model", **DATA), origin("records", **OTHERS)
    with pytest.raises(ValueError, match=r"dataset is .*normalize is .*subject is .*allow_other b"):
        made_for(model, records)
    with pytest.raises(ValueError, match=r"--allow_other normalize\.$"):
        made_for(model, records, set(OTHERS) - {"normalize"})
    found = made_for(model, records, OTHERS)
    assert found["subject"] == [1, 5] and found["simulation.seed"] == [1, 2] and len(found) == 6
    with pytest.raises(ValueError, match=r"allow_other names subjekt; expected some of dataset"):
        made_for(model, model, ["subjekt"])


def test_what_one_of_two_does_not_say_is_not_compared():
    for key in DATA:
        rest = {k: v for k, v in DATA.items() if k != key}
        assert made_for(origin("model", **DATA), origin("records", **rest)) == {}
        assert made_for(origin("model", **rest), origin("records", **DATA)) == {}
    later = DATA | {"simulation": DATA["simulation"] | {"noise": 0.3}}
    assert made_for(origin("model", **DATA), origin("records", **later)) == {}
    assert made_for(Origin.of("m", {"step": 7}), origin("records", **DATA)) == {}
    assert Origin.of("m", {"data": DATA}).data == DATA


def test_imagery_takes_one_name_to_allow():
    """Kneeland et al. use models of NSD: another dataset, the same responses' version."""
    name = "nsdimagerybetas_fithrf"
    imagery = origin("records", **DATA | {"dataset": "nsd_imagery", "beta_version": name})
    with pytest.raises(ValueError, match=r"--allow_other dataset\.$"):
        made_for(origin("model", **DATA), imagery)
    allowed = made_for(origin("model", **DATA), imagery, ["dataset"])
    assert allowed == {"dataset": ["nsd", "nsd_imagery"]}
    other = origin("records", **DATA | {"beta_version": "nsdimagerybetas_assumehrf"})
    with pytest.raises(ValueError, match=r"beta_version is 'betas_fithrf' .* 'betas_assumehrf'"):
        made_for(origin("model", **DATA), other)


@pytest.fixture
def records(tmp_path):
    ids = {"train": [0, 3], "validation": [1], "test": [2, 5]}
    write_prepared(tmp_path / "records", 1, ids, (5, 7), space="tiny", beta_version="betas_v")
    return PreparedDataset(tmp_path / "records", "test")


def test_a_folder_of_another_subject_is_told_by_its_noise_ceiling(records, tmp_path):
    root = tmp_path / "root"
    folder = root / "nsddata_betas/ppdata/subj01/tiny/betas_v"
    folder.mkdir(parents=True)
    require_same_root(root, records)  # files of labels alone tell nothing
    for h, part in zip(("lh", "rh"), np.split(records.ncsnr, [5]), strict=True):
        image = nibabel.MGHImage(part.reshape(-1, 1, 1), np.eye(4))
        nibabel.save(image, folder / f"{h}.ncsnr.mgh")
    require_same_root(root, records)
    image = nibabel.MGHImage(np.float32([[[0.3]], [[0.2]], [[0.1]], [[0.5]], [[0.4]]]), np.eye(4))
    nibabel.save(image, folder / "lh.ncsnr.mgh")
    with pytest.raises(ValueError, match=r"subj01/tiny/betas_v is of another subject or another"):
        require_same_root(root, records)
    (folder / "lh.ncsnr.mgh").write_bytes(b"")
    with pytest.raises(ValueError, match=r"lh\.ncsnr\.mgh: is empty"):
        require_same_root(root, records)


def test_a_folder_of_another_simulated_subject_is_told_by_its_configuration(records, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    records.provenance["simulation"] = {"seed": 1, "num_images": 34}
    for seed in (1, 2):
        (root / "simulation.json").write_text(json.dumps({"seed": seed, "num_images": 34}))
        if seed == 1:
            require_same_root(root, records)
    with pytest.raises(
        ValueError, match=r"another simulated subject .*seed is 2 for .*, 1 for the"
    ):
        require_same_root(root, records)


def test_a_record_of_another_image_than_the_index_says_is_refused(records):
    assert records[1]["image_id"] == 5
    with np.load(records.path / "index.npz") as file:
        index = dict(file)
    np.savez(records.path / "index.npz", **index | {"test": np.array([2, 4])})
    changed = PreparedDataset(records.path, "test")
    assert changed[0]["image_id"] == 2
    with pytest.raises(ValueError, match=r"index\.npz lists image 4 at place 1 .* of image 5; "):
        changed[1]


def test_a_table_of_stimuli_that_lacks_one_is_refused(records):
    names = {"names": np.array(["a"]), "has_image": np.array([True])}
    np.savez(records.path / "stimuli.npz", ids=np.array([2]), **names)
    with pytest.raises(
        ValueError, match=r"stimuli\.npz lacks 1 images of split 'test', .* 5; copy"
    ):
        _ = records.names
